# SPDX-License-Identifier: Apache-2.0
"""Reads into memory that others own: tensors of frameworks, arrays, bytearrays."""

from __future__ import annotations

import ctypes
import errno
import math
import sys
import threading
from typing import Any, Callable, Dict, Optional, Tuple, Union

from . import _dlpack
from ._errors import make_error
from ._handle import after_fork
from ._memory import Buffer, Device, host_device
from ._reader import Destination, File, Path, Reader, Result, default_reader
from ._tensor import Tensor

_HOST_TYPES = (_dlpack.CPU, _dlpack.CUDA_HOST, _dlpack.ROCM_HOST)
_CUDA_LEGACY_STREAM = 1

_cuda_lock = threading.Lock()
_cuda_devices: Dict[int, Device] = {}


@after_fork
def _forget_devices() -> None:
    global _cuda_lock
    _cuda_lock = threading.Lock()
    _cuda_devices.clear()


def _cuda_device(index: int) -> Device:
    with _cuda_lock:
        if index not in _cuda_devices:
            _cuda_devices[index] = Device(f"cuda:{index}")
        return _cuda_devices[index]


def _cuda_synchronize(index: int, stream: int) -> None:
    """Waits for a stream's work: the library's own copies do not wait for it.

    1 and 2 are the default streams of a context, which is the device's primary one: that
    of everyone who uses the CUDA runtime.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise make_error(errno.ENODEV, f"cannot wait for a CUDA stream: {error}") from None
    device, context = ctypes.c_int(), ctypes.c_void_p()

    def call(name: str, *arguments: Any) -> None:
        result = getattr(driver, name)(*arguments)
        if result:
            message = f"cannot wait for CUDA stream {stream}: {name} failed with {result}"
            raise make_error(errno.EIO, message)

    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        call("cuCtxPushCurrent_v2", context)
        try:
            call("cuStreamSynchronize", ctypes.c_void_p(stream))
        finally:
            call("cuCtxPopCurrent_v2", ctypes.byref(context))
    finally:
        call("cuDevicePrimaryCtxRelease_v2", device)


def _is_torch(tensor: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(tensor, torch.Tensor)


def _torch_buffer(tensor: Any) -> Optional[Buffer]:
    """Torch tells more of itself than its DLPack carries: any element type, gradients."""
    torch = sys.modules["torch"]
    if tensor.layout is not torch.strided or not tensor.is_contiguous():
        raise ValueError("cannot read into a torch tensor that is not contiguous")
    nbytes = tensor.numel() * tensor.element_size()
    if nbytes == 0:
        return None
    if tensor.device.type == "cpu":
        return host_device().import_address(tensor.data_ptr(), nbytes, tensor)
    if tensor.device.type == "cuda":
        torch.cuda.current_stream(tensor.device).synchronize()
        device = _cuda_device(tensor.device.index or 0)
        return device.import_cuda(tensor.data_ptr(), nbytes, tensor)
    raise TypeError(f"cannot read into a torch tensor on device {tensor.device}")


def _interface_range(interface: Dict[str, Any]) -> Tuple[int, int]:
    """Address and bytes of an array interface's memory, which is writable, without gaps."""
    address, readonly = interface["data"]
    shape, strides = interface["shape"], interface.get("strides")
    itemsize = int(interface["typestr"][2:])
    nbytes = math.prod(shape) * itemsize
    if readonly:
        raise ValueError("cannot read into memory that is read-only")
    if strides is not None and nbytes:
        wanted = itemsize
        for extent, stride in zip(reversed(shape), reversed(strides)):
            if extent != 1 and stride != wanted:
                raise ValueError("cannot read into memory that is not contiguous")
            wanted *= extent
    return address, nbytes


def _cuda_array_buffer(array: Any) -> Optional[Buffer]:
    """By the CUDA array interface, which tells the stream whose work comes first."""
    interface = array.__cuda_array_interface__
    address, nbytes = _interface_range(interface)
    if nbytes == 0:
        return None
    index = int(getattr(getattr(array, "device", None), "id", 0))
    if interface.get("stream") is not None:
        _cuda_synchronize(index, interface["stream"])
    return _cuda_device(index).import_cuda(address, nbytes, array)


def _array_buffer(array: Any) -> Optional[Buffer]:
    """By the array interface, as of numpy: also for element types that buffers lack."""
    address, nbytes = _interface_range(array.__array_interface__)
    return host_device().import_address(address, nbytes, array) if nbytes else None


def _host_buffer(memory: Any) -> Optional[Buffer]:
    return host_device().import_host(memory) if memoryview(memory).nbytes else None


def _dlpack_buffer(producer: Any) -> Optional[Buffer]:
    kind, index = (int(number) for number in producer.__dlpack_device__())
    if kind not in (*_HOST_TYPES, _dlpack.CUDA):
        raise TypeError(f"cannot read into memory of DLPack's device type {kind}")
    taken = _dlpack.take(producer, _CUDA_LEGACY_STREAM if kind == _dlpack.CUDA else None)
    if taken.readonly:
        raise ValueError("cannot read into memory that is read-only")
    if not taken.contiguous:
        raise ValueError("cannot read into memory that is not contiguous")
    if taken.nbytes == 0:
        return None
    if kind in _HOST_TYPES:
        return host_device().import_address(taken.data, taken.nbytes, taken.owner)
    _cuda_synchronize(index, _CUDA_LEGACY_STREAM)
    return _cuda_device(index).import_cuda(taken.data, taken.nbytes, taken.owner)


def _is_jax(array: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(array, getattr(jax, "Array", ()))


def _jax_buffer(_array: Any) -> Optional[Buffer]:
    """Its DLPack did not always tell that it must not be written to."""
    raise ValueError(
        "cannot read into memory that is read-only: arrays of jax never change; read into a "
        "gds.Tensor and make it one with .jax()"
    )


def _way(memory: Any) -> Callable[[Any], Optional[Buffer]]:
    if _is_torch(memory):
        return _torch_buffer
    if _is_jax(memory):
        return _jax_buffer
    if hasattr(memory, "__cuda_array_interface__"):
        return _cuda_array_buffer
    if isinstance(getattr(memory, "__array_interface__", None), dict):
        return _array_buffer
    try:
        memoryview(memory).release()
        return _host_buffer
    except (TypeError, BufferError):
        pass  # it has none, or none for its elements
    if hasattr(memory, "__dlpack__"):
        return _dlpack_buffer
    raise TypeError(
        f"cannot read into {type(memory).__name__}: it is no tensor of torch, has no "
        "__cuda_array_interface__, no buffer and no __dlpack__"
    )


def as_destination(memory: Any) -> Optional[Destination]:
    """The memory of a framework's tensor, an array or a bytearray as a place to read into.

    None for memory of zero bytes. The buffer keeps what it was made of.
    """
    if isinstance(memory, (Buffer, Tensor)):
        return memory
    return _way(memory)(memory)


def read_into(
    memory: Any,
    file: Union[File, Path],
    offset: int = 0,
    *,
    reader: Optional[Reader] = None,
    path: str = "auto",
) -> Result:
    """Fills `memory` with the bytes of `file` from `offset` on, in place, and waits.

    `memory` is contiguous and writable: a torch tensor of the CPU (pinned or not) or of CUDA,
    an array of numpy or cupy, a bytearray, anything with DLPack, a gds.Tensor or gds.Buffer.
    The result is short where the file ends before.

    Work on CUDA memory that was started before is waited for, in torch's current stream or
    in that which the memory tells; work that is started afterwards sees the bytes.

    Raises gds.Error with what failed; ValueError for memory with gaps, or read-only;
    TypeError for memory that is not known.
    """
    reader = reader or default_reader()
    opened = file if isinstance(file, File) else File(file)
    try:
        into = as_destination(memory)
        if into is None:
            return Result(0, {}, 0, 0)
        return reader.read(opened, into, offset, path=path)
    finally:
        if opened is not file:
            opened.close()
