# SPDX-License-Identifier: Apache-2.0
"""Devices and buffers: where the bytes go."""

from __future__ import annotations

import builtins
import ctypes
import mmap
import threading
from typing import Any, ContextManager, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _library
from ._errors import check
from ._handle import Handle, after_fork
from ._library import c_text, lib, text, whole
from ._tensor import DType, Tensor, whole_shape


_PAGE = mmap.PAGESIZE
_MADV_DOFORK = 11
_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class DeviceInfo(NamedTuple):
    """A device that can be opened."""

    name: str
    """What Device() takes, such as "vulkan:0"."""
    description: str
    """As its driver calls it."""
    driver: str
    """The driver and its version."""
    memory_bytes: int
    """Of its own memory; 0 where unknown."""
    unified: bool
    """Host memory is the device's memory."""
    pci: str
    """Its PCI address, such as "0000:04:00.0"; empty where it has none."""


class VulkanRange(NamedTuple):
    """Where in Vulkan's objects a part of a buffer lies, to be bound in a shader."""

    buffer: int
    """VkBuffer, as a number."""
    offset: int
    """Where in it the part begins, in bytes."""
    nbytes: int
    """How many bytes follow there: buffers over 1 GiB are made of several."""


def _info(raw: _library.DeviceInfo) -> DeviceInfo:
    return DeviceInfo(
        text(raw.name),
        text(raw.description),
        text(raw.driver),
        int(raw.memory_bytes),
        bool(raw.unified),
        text(raw.pci),
    )


def devices() -> Tuple[List[DeviceInfo], Dict[str, str]]:
    """The devices that can be opened, and of each backend that has none, why not."""
    found: List[DeviceInfo] = []
    missing: Dict[str, str] = {}

    def visit(backend: bytes, info: Any, reason: bytes, _user: Any) -> int:
        if info:
            found.append(_info(info.contents))
        else:
            missing[text(backend)] = text(reason)
        return 0

    check(lib.gds_device_list(_library.VISIT(visit), None))
    return found, missing


class Device:
    """A GPU, or another owner of memory, opened by its name.

    "vulkan:0", "vulkan:llvmpipe", "cuda:0", "drm:renderD128", "udmabuf", "host": a backend,
    and behind the colon an index, or a part of the device's description.

    It is closed when it, its buffers and all tensors in them are gone; `close()` lets go of
    this object's share. Raises gds.Error: ENODEV where there is no such device or no driver;
    EINVAL for a backend that is not known.
    """

    def __init__(self, name: str = "host") -> None:
        self._handle: Optional[Handle] = None
        if not isinstance(name, str):
            raise TypeError(f"a device is opened by its name, not by {type(name).__name__}")
        pointer = ctypes.c_void_p()
        check(lib.gds_device_open(ctypes.byref(pointer), c_text(name, "a device's name")))
        self._take(pointer, ())

    def _take(self, pointer: ctypes.c_void_p, keeps: Tuple[Any, ...]) -> None:
        self._handle = Handle(pointer.value or 0, lib.gds_device_close, keeps)
        raw = _library.DeviceInfo(size=ctypes.sizeof(_library.DeviceInfo))
        check(lib.gds_device_get_info(pointer, ctypes.byref(raw)))
        self.info = _info(raw)

    @classmethod
    def from_vulkan(
        cls,
        instance: int,
        physical_device: int,
        device: int,
        queue: int,
        queue_family: int,
        *,
        external_memory_host: bool = False,
        external_memory_dma_buf: bool = False,
        queue_family_foreign: bool = False,
        get_instance_proc_addr: int = 0,
        queue_lock: Optional[ContextManager[Any]] = None,
        owner: object = None,
    ) -> Device:
        """A Vulkan device that the program made itself, with timelineSemaphore enabled.

        Handles are numbers: what a VkDevice or VkQueue is, cast to an integer. The program
        keeps them until the device here is gone; `owner` is kept as long.

        queue           copies go there when a read travels by the path bounce: it must not be
                        blocked by work that waits for the read itself
        external_memory_host, external_memory_dma_buf, queue_family_foreign
                        which of VK_EXT_external_memory_host, VK_EXT_external_memory_dma_buf
                        (with VK_KHR_external_memory_fd), and VK_EXT_queue_family_foreign are
                        enabled on the device
        get_instance_proc_addr
                        address of vkGetInstanceProcAddr; 0: that of libvulkan.so.1
        queue_lock      a lock such as threading.Lock(), held around each use of the queue,
                        where others use it too; never call gds while you hold it

        Raises gds.Error: ENOTSUP where the device lacks what is needed.
        """
        lock, unlock, calls = _queue_calls(queue_lock)
        raw = _library.VulkanDevice(
            size=ctypes.sizeof(_library.VulkanDevice),
            get_instance_proc_addr=whole(get_instance_proc_addr, "get_instance_proc_addr"),
            instance=whole(instance, "instance"),
            physical_device=whole(physical_device, "physical_device"),
            device=whole(device, "device"),
            queue=whole(queue, "queue"),
            queue_family=whole(queue_family, "queue_family", 1 << 32),
            has_external_memory_host=bool(external_memory_host),
            has_external_memory_dma_buf=bool(external_memory_dma_buf),
            has_queue_family_foreign=bool(queue_family_foreign),
            lock=lock,
            unlock=unlock,
        )
        pointer = ctypes.c_void_p()
        check(lib.gds_device_import_vulkan(ctypes.byref(pointer), ctypes.byref(raw)))
        made = cls.__new__(cls)
        made._take(pointer, (owner, calls))
        return made

    @property
    def name(self) -> str:
        """Its full name, such as "vulkan:0"."""
        return self.info.name

    def _open(self) -> Handle:
        if self._handle is None:
            raise ValueError(f"device {self.info.name} is closed")
        return self._handle

    def close(self) -> None:
        """Lets go of the device. Buffers that are there stay, and hold it open."""
        self._handle = None

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._handle else ", closed"
        return f"<gds.Device {self.info.name}: {self.info.description}{state}>"

    # ---- Buffers ----

    def alloc(self, nbytes: int, *, host: bool = False) -> Buffer:
        """A new buffer of `nbytes` bytes of the device's memory, with undefined contents.

        `host` asks for host pages that the device addresses, also where it has memory of its
        own. Raises gds.Error: ENOMEM where there is no room; EINVAL for zero bytes.
        """
        nbytes = whole(nbytes, "nbytes")
        buffer = Buffer._make(
            self, "gds_buffer_alloc", nbytes, (), nbytes, _library.BUFFER_HOST if host else 0
        )
        if buffer.address:
            # The library leaves large memory out of children. Tensors in it would end those of
            # a DataLoader, which have what was loaded before them.
            start = buffer.address // _PAGE * _PAGE
            _libc.madvise(start, buffer.address + nbytes - start, _MADV_DOFORK)
        return buffer

    def empty(
        self,
        shape: Union[int, Sequence[int]],
        dtype: Union[str, DType] = "uint8",
        *,
        host: bool = False,
    ) -> Tensor:
        """A tensor in a buffer of its own, with undefined contents."""
        kind = DType.of(dtype)
        shape = whole_shape(shape)
        nbytes = kind.nbytes(shape)
        return self.alloc(max(nbytes, 1), host=host).tensor(kind, shape)

    def import_host(self, memory: Any) -> Buffer:
        """Memory of this process as a buffer of the device "host".

        `memory` is anything with a writable, contiguous buffer: a bytearray, an array of
        numpy, a memoryview, an mmap. It is kept alive, and must not be resized.
        """
        view = memoryview(memory)
        if view.readonly:
            raise ValueError("cannot read into memory that is read-only")
        if not view.c_contiguous:
            raise ValueError("cannot read into memory that is not contiguous")
        array = (ctypes.c_ubyte * view.nbytes).from_buffer(view.cast("B"))
        return self.import_address(ctypes.addressof(array), view.nbytes, array)

    def import_address(self, address: int, nbytes: int, owner: object = None) -> Buffer:
        """`nbytes` bytes at `address` of this process as a buffer of the device "host".

        `owner` is kept until the buffer is gone; without one the caller sees to it.
        """
        address, nbytes = whole(address, "address"), whole(nbytes, "nbytes")
        return Buffer._make(
            self, "gds_buffer_import_host", nbytes, (owner,), ctypes.c_void_p(address), nbytes
        )

    def import_cuda(self, pointer: int, nbytes: int, owner: object = None) -> Buffer:
        """`nbytes` bytes at a CUDA device pointer as a buffer of a device "cuda:N".

        Earlier work on the range must be done before it is read into. `owner` is kept until
        the buffer is gone. Raises gds.Error: EINVAL for memory that is not allocated or
        another device's; ENOTSUP for managed and for host memory.
        """
        pointer, nbytes = whole(pointer, "pointer"), whole(nbytes, "nbytes")
        return Buffer._make(self, "gds_buffer_import_cuda", nbytes, (owner,), pointer, nbytes)

    def import_dmabuf(self, fd: int, offset: int, nbytes: int) -> Buffer:
        """`nbytes` bytes at `offset` of a dma-buf as a buffer; `fd` stays the caller's.

        Raises gds.Error: EINVAL for a range outside of it and for what is no dma-buf; ENOTSUP
        where the device does not import dma-bufs, or not this one.
        """
        fd = whole(fd, "fd", 1 << 31)
        offset, nbytes = whole(offset, "offset"), whole(nbytes, "nbytes")
        return Buffer._make(self, "gds_buffer_import_dmabuf", nbytes, (), fd, offset, nbytes)

    def import_vulkan(
        self,
        buffer: int,
        memory: int,
        nbytes: int,
        *,
        memory_type: int,
        memory_offset: int = 0,
        mapping: int = 0,
        exportable: bool = False,
        concurrent: bool = False,
        owner: object = None,
    ) -> Buffer:
        """A VkBuffer of a device that was made by `from_vulkan()`.

        buffer, memory  VkBuffer and the VkDeviceMemory bound to it, as numbers. The buffer has
                        the usage TRANSFER_DST; TRANSFER_SRC too for `copy_out()`, and
                        STORAGE_BUFFER for `checksum()`
        memory_type     index of the memory's type
        memory_offset   where in the memory the buffer is bound
        mapping         address at which the program has mapped the buffer's first byte; 0
                        where the memory is not mapped
        exportable      memory and buffer were made for export as dma-bufs: drives may write
                        into them
        concurrent      the buffer is of VK_SHARING_MODE_CONCURRENT; else the family of the
                        device's queue owns it
        owner           kept until the buffer is gone
        """
        nbytes = whole(nbytes, "nbytes")
        raw = _library.VulkanBuffer(
            size=ctypes.sizeof(_library.VulkanBuffer),
            buffer=whole(buffer, "buffer"),
            memory=whole(memory, "memory"),
            memory_offset=whole(memory_offset, "memory_offset"),
            bytes=nbytes,
            memory_type=whole(memory_type, "memory_type", 1 << 32),
            mapping=whole(mapping, "mapping"),
            exportable=bool(exportable),
            concurrent=bool(concurrent),
        )
        return Buffer._make(self, "gds_buffer_import_vulkan", nbytes, (owner,), ctypes.byref(raw))


def _queue_calls(lock: Optional[ContextManager[Any]]) -> Tuple[int, int, Tuple[Any, ...]]:
    """Addresses of two calls that take and give back a lock, and what keeps them."""
    if lock is None:
        return 0, 0, ()
    take = _library.QUEUE_LOCK(lambda _user: lock.__enter__())
    give = _library.QUEUE_LOCK(lambda _user: lock.__exit__(None, None, None))
    addresses = [ctypes.cast(call, ctypes.c_void_p).value or 0 for call in (take, give)]
    return addresses[0], addresses[1], (take, give)


class Buffer:
    """A range of a device's memory.

    Made by `Device.alloc()` and the `Device.import_...()` calls. The memory stays as long
    as the buffer, a tensor in it, or anything that was made of one (an array, a memoryview,
    a tensor of a framework); `close()` lets go of this object's share.
    """

    def __init__(self, device: Device, handle: Handle, nbytes: int) -> None:
        self._handle: Optional[Handle] = handle
        self.device = device
        self.nbytes = nbytes
        """Size in bytes."""
        self.address: Optional[int] = lib.gds_buffer_host(handle.pointer)
        """Where the CPU addresses the first byte; None where it cannot."""
        pointer = ctypes.c_uint64()
        self.cuda_pointer: Optional[int] = None
        """The CUDA device pointer; None where the device is not CUDA's."""
        if device.name.startswith("cuda:"):
            check(lib.gds_buffer_get_cuda(handle.pointer, ctypes.byref(pointer)))
            self.cuda_pointer = int(pointer.value)

    @classmethod
    def _make(
        cls, device: Device, call: str, nbytes: int, keeps: Tuple[Any, ...], *arguments: Any
    ) -> Buffer:
        owner = device._open()
        pointer = ctypes.c_void_p()
        check(getattr(lib, call)(ctypes.byref(pointer), owner.pointer, *arguments))
        handle = Handle(pointer.value or 0, lib.gds_buffer_free, (owner, *keeps))
        return cls(device, handle, nbytes)

    def _open(self) -> Handle:
        if self._handle is None:
            raise ValueError("the buffer is closed")
        return self._handle

    def close(self) -> None:
        """Lets go of the memory, which goes when no tensor uses it any more."""
        self._handle = None

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.nbytes

    def __repr__(self) -> str:
        state = "" if self._handle else ", closed"
        return f"<gds.Buffer of {self.nbytes} bytes on {self.device.name}{state}>"

    # ---- Contents ----

    def _range(self, offset: int, length: Optional[int]) -> Tuple[int, int]:
        """Offset and length, after a look whether the range is within the buffer."""
        offset = whole(offset, "offset")
        length = max(self.nbytes - offset, 0) if length is None else whole(length, "length")
        if offset + length > self.nbytes:
            raise ValueError(
                f"{length} bytes at {offset} are not within a buffer of {self.nbytes} bytes"
            )
        return offset, length

    def copy_out(self, offset: int = 0, length: Optional[int] = None) -> bytes:
        """A copy of `length` bytes (all of them) as the device sees them."""
        offset, length = self._range(offset, length)
        data = (ctypes.c_ubyte * length)()
        if length:
            check(lib.gds_buffer_copy_out(self._open().pointer, offset, data, length))
        return bytes(data)

    def copy_in(self, data: Any, offset: int = 0) -> None:
        """Puts a copy of `data`, anything with a contiguous buffer, at `offset`."""
        view = memoryview(data).cast("B")
        offset, _ = self._range(offset, view.nbytes)
        if view.nbytes:
            copy = (ctypes.c_ubyte * view.nbytes).from_buffer_copy(view)
            check(lib.gds_buffer_copy_in(self._open().pointer, offset, copy, view.nbytes))

    def checksum(self, offset: int = 0, length: Optional[int] = None) -> int:
        """The CRC-32, as zlib computes it, of a range, computed by the device."""
        crc = ctypes.c_uint32()
        offset, length = self._range(offset, length)
        check(lib.gds_buffer_checksum(self._open().pointer, offset, length, ctypes.byref(crc)))
        return int(crc.value)

    def vulkan(self, offset: int = 0) -> VulkanRange:
        """Where byte `offset` lies in a VkBuffer. Raises gds.Error: ENOTSUP where the device is
        not Vulkan's, EINVAL for an offset beyond the end."""
        buffer, place, nbytes = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        check(
            lib.gds_buffer_get_vulkan(
                self._open().pointer,
                whole(offset, "offset"),
                ctypes.byref(buffer),
                ctypes.byref(place),
                ctypes.byref(nbytes),
            )
        )
        return VulkanRange(int(buffer.value), int(place.value), int(nbytes.value))

    def tensor(
        self,
        dtype: Union[str, DType] = "uint8",
        shape: Union[int, Sequence[int], None] = None,
        offset: int = 0,
    ) -> Tensor:
        """The bytes from `offset` on as a tensor, without a copy.

        `shape` without one: as many elements as there is room for, in one dimension.
        """
        kind = DType.of(dtype)
        if shape is None:
            offset, room = self._range(offset, None)
            shape = room * 8 // kind.bits
        shape = whole_shape(shape)
        offset, _ = self._range(offset, kind.nbytes(shape))
        return Tensor(
            self._open(), self.device.name, self.address, self.cuda_pointer, offset, kind, shape
        )

    def memoryview(self) -> builtins.memoryview:
        """The bytes, writable. Raises BufferError where the CPU cannot address them."""
        return self.tensor().memoryview()

    def __buffer__(self, flags: int) -> builtins.memoryview:
        return self.memoryview()

    @property
    def __array_interface__(self) -> Dict[str, Any]:
        return self.tensor().__array_interface__

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]:
        return self.tensor().__cuda_array_interface__

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor().__dlpack__(**options)

    def __dlpack_device__(self) -> Tuple[int, int]:
        return self.tensor().__dlpack_device__()


_host_lock = threading.Lock()
_host: Optional[Device] = None


@after_fork
def _forget_host() -> None:
    global _host, _host_lock
    _host_lock, _host = threading.Lock(), None


def host_device() -> Device:
    """The device "host", opened once in a process."""
    global _host
    with _host_lock:
        if _host is None or _host._handle is None:
            _host = Device("host")
        return _host
