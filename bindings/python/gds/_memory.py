# SPDX-License-Identifier: Apache-2.0
"""Devices and buffers: where the bytes go."""

from __future__ import annotations

import builtins
import ctypes
import os
import threading
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _library
from ._errors import check
from ._handle import Handle
from ._library import lib, text
from ._tensor import DType, Tensor


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


def _info(raw: _library.DeviceInfo) -> DeviceInfo:
    return DeviceInfo(
        text(raw.name),
        text(raw.description),
        text(raw.driver),
        int(raw.memory_bytes),
        bool(raw.unified),
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
        pointer = ctypes.c_void_p()
        check(lib.gds_device_open(ctypes.byref(pointer), name.encode()))
        self._handle = Handle(pointer.value or 0, lib.gds_device_close)
        raw = _library.DeviceInfo(size=ctypes.sizeof(_library.DeviceInfo))
        check(lib.gds_device_get_info(pointer, ctypes.byref(raw)))
        self.info = _info(raw)

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
        return Buffer._make(
            self, "gds_buffer_alloc", nbytes, (), nbytes, _library.BUFFER_HOST if host else 0
        )

    def empty(
        self,
        shape: Union[int, Sequence[int]],
        dtype: Union[str, DType] = "uint8",
        *,
        host: bool = False,
    ) -> Tensor:
        """A tensor in a buffer of its own, with undefined contents."""
        kind = DType.of(dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
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
        return Buffer._make(
            self, "gds_buffer_import_host", nbytes, (owner,), ctypes.c_void_p(address), nbytes
        )

    def import_cuda(self, pointer: int, nbytes: int, owner: object = None) -> Buffer:
        """`nbytes` bytes at a CUDA device pointer as a buffer of a device "cuda:N".

        Earlier work on the range must be done before it is read into. `owner` is kept until
        the buffer is gone. Raises gds.Error: EINVAL for memory that is not allocated or
        another device's; ENOTSUP for managed and for host memory.
        """
        return Buffer._make(self, "gds_buffer_import_cuda", nbytes, (owner,), pointer, nbytes)

    def import_dmabuf(self, fd: int, offset: int, nbytes: int) -> Buffer:
        """`nbytes` bytes at `offset` of a dma-buf as a buffer; `fd` stays the caller's."""
        return Buffer._make(self, "gds_buffer_import_dmabuf", nbytes, (), fd, offset, nbytes)


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
        if nbytes < 0:
            raise ValueError(f"a buffer of {nbytes} bytes")
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

    def _range(self, offset: int, length: Optional[int]) -> int:
        """The length, after a look whether the range is within the buffer."""
        if length is None:
            length = self.nbytes - offset
        if offset < 0 or length < 0 or offset + length > self.nbytes:
            raise ValueError(
                f"{length} bytes at {offset} are not within a buffer of {self.nbytes} bytes"
            )
        return length

    def copy_out(self, offset: int = 0, length: Optional[int] = None) -> bytes:
        """A copy of `length` bytes (all of them) as the device sees them."""
        length = self._range(offset, length)
        data = (ctypes.c_ubyte * length)()
        if length:
            check(lib.gds_buffer_copy_out(self._open().pointer, offset, data, length))
        return bytes(data)

    def copy_in(self, data: Any, offset: int = 0) -> None:
        """Puts a copy of `data`, anything with a contiguous buffer, at `offset`."""
        view = memoryview(data).cast("B")
        self._range(offset, view.nbytes)
        if view.nbytes:
            copy = (ctypes.c_ubyte * view.nbytes).from_buffer_copy(view)
            check(lib.gds_buffer_copy_in(self._open().pointer, offset, copy, view.nbytes))

    def checksum(self, offset: int = 0, length: Optional[int] = None) -> int:
        """The CRC-32, as zlib computes it, of a range, computed by the device."""
        crc = ctypes.c_uint32()
        length = self._range(offset, length)
        check(lib.gds_buffer_checksum(self._open().pointer, offset, length, ctypes.byref(crc)))
        return int(crc.value)

    def tensor(
        self,
        dtype: Union[str, DType] = "uint8",
        shape: Optional[Sequence[int]] = None,
        offset: int = 0,
    ) -> Tensor:
        """The bytes from `offset` on as a tensor, without a copy.

        `shape` without one: as many elements as there is room for, in one dimension.
        """
        kind = DType.of(dtype)
        if shape is None:
            self._range(offset, None)
            shape = ((self.nbytes - offset) * 8 // kind.bits,)
        self._range(offset, kind.nbytes(shape))
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
_host: Optional[Tuple[int, Device]] = None


def host_device() -> Device:
    """The device "host", opened once in a process."""
    global _host
    with _host_lock:
        if _host is None or _host[0] != os.getpid() or _host[1]._handle is None:
            _host = (os.getpid(), Device("host"))
        return _host[1]
