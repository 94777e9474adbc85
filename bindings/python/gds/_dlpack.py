# SPDX-License-Identifier: Apache-2.0
"""DLPack, both ways, in its two kinds of capsules, without a compiled extension.

The structures are those of dlpack.h, version 1.0. Those that are handed out are allocated
with malloc(): their consumers may outlive the interpreter, and then find a deleter that
does nothing instead of one that needs it.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
from ctypes import (
    CFUNCTYPE,
    POINTER,
    PYFUNCTYPE,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    py_object,
)
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Type, Union

from ._handle import after_fork

CPU = 1
CUDA = 2
CUDA_HOST = 3
ROCM_HOST = 11
CUDA_MANAGED = 13

FLAG_READ_ONLY = 1 << 0


class _DLTensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class _Managed(Structure):
    _fields_ = [("tensor", _DLTensor), ("context", c_void_p), ("deleter", c_void_p)]


class _ManagedVersioned(Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", _DLTensor),
    ]


_NAME = b"dltensor"
_NAME_VERSIONED = b"dltensor_versioned"
_USED = b"used_dltensor"
_USED_VERSIONED = b"used_dltensor_versioned"

_libc = ctypes.CDLL(None)
_malloc = _libc.malloc
_malloc.restype = c_void_p
_malloc.argtypes = [c_size_t]
_free = _libc.free
_free.argtypes = [c_void_p]

_python = ctypes.pythonapi
_capsule_new = _python.PyCapsule_New
_capsule_new.restype = py_object
_capsule_new.argtypes = [c_void_p, c_char_p, c_void_p]
_capsule_pointer = _python.PyCapsule_GetPointer
_capsule_pointer.restype = c_void_p
_capsule_pointer.argtypes = [py_object, c_char_p]
_capsule_is = _python.PyCapsule_IsValid
_capsule_is.restype = c_int
_capsule_is.argtypes = [py_object, c_char_p]
_capsule_rename = _python.PyCapsule_SetName
_capsule_rename.restype = c_int
_capsule_rename.argtypes = [py_object, c_char_p]

# The same calls for a destructor, which is given a capsule that nobody may hold again.
_DESTRUCTOR = PYFUNCTYPE(None, c_void_p)
_dying_is = PYFUNCTYPE(c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", _python))
_dying_pointer = PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", _python))

_DELETER = CFUNCTYPE(None, c_void_p)

_lock = threading.RLock()
# Address of a managed tensor that was handed out to what it keeps, and where its deleter is.
_given: Dict[int, Tuple[Any, int]] = {}


@after_fork
def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


def _delete(address: int) -> None:
    with _lock:
        kept = _given.pop(address, None)
    if kept:
        _free(address)


_deleter = _DELETER(_delete)
_deleter_address = ctypes.cast(_deleter, c_void_p).value or 0


def _at_exit() -> None:
    """Leaves what is still out to the end of the process."""
    nothing = ctypes.cast(_libc.getpid, c_void_p).value or 0
    with _lock:
        for address, (_kept, where) in _given.items():
            c_void_p.from_address(address + where).value = nothing


atexit.register(_at_exit)


def _drop_capsule(capsule: int) -> None:
    """A capsule goes that nobody has taken the tensor out of."""
    for name in (_NAME, _NAME_VERSIONED):
        if _dying_is(capsule, name):
            _delete(_dying_pointer(capsule, name))


_destructor = _DESTRUCTOR(_drop_capsule)
_destructor_address = ctypes.cast(_destructor, c_void_p).value or 0


def _fill(
    tensor: _DLTensor,
    arrays: int,
    data: int,
    device: Tuple[int, int],
    kind: Tuple[int, int],
    shape: Sequence[int],
    strides: Sequence[int],
) -> None:
    count = len(shape)
    numbers = (c_int64 * (2 * count)).from_address(arrays)
    numbers[:] = [*shape, *strides]
    tensor.data = data
    tensor.device_type, tensor.device_id = device
    tensor.ndim = count
    tensor.code, tensor.bits = kind
    tensor.lanes = 1
    tensor.shape = ctypes.cast(arrays, POINTER(c_int64))
    tensor.strides = ctypes.cast(arrays + 8 * count, POINTER(c_int64))
    tensor.byte_offset = 0


def export(
    keeps: Any,
    data: int,
    device: Tuple[int, int],
    kind: Tuple[int, int],
    shape: Sequence[int],
    strides: Sequence[int],
    versioned: bool,
) -> Any:
    """A capsule for memory at `data`; `keeps` is held until its consumer is done."""
    layout: Union[Type[_Managed], Type[_ManagedVersioned]]
    layout = _ManagedVersioned if versioned else _Managed
    size = ctypes.sizeof(layout)
    address = _malloc(size + 16 * max(len(shape), 1))
    if not address:
        raise MemoryError("no memory for a DLPack tensor")
    managed = layout.from_address(address)
    _fill(managed.tensor, address + size, data, device, kind, shape, strides)
    managed.context = None
    managed.deleter = _deleter_address
    if isinstance(managed, _ManagedVersioned):
        managed.major, managed.minor, managed.flags = 1, 0, 0
    with _lock:
        _given[address] = (keeps, layout.deleter.offset)
    return _capsule_new(address, _NAME_VERSIONED if versioned else _NAME, _destructor_address)


class Taken(NamedTuple):
    """A tensor taken out of a capsule. It stays until `release()`, or until it is gone."""

    data: int
    device: Tuple[int, int]
    bits: int
    shape: Tuple[int, ...]
    strides: Optional[Tuple[int, ...]]
    readonly: bool
    owner: Any

    @property
    def contiguous(self) -> bool:
        if self.strides is None or 0 in self.shape:
            return True
        wanted = 1
        for extent, stride in zip(reversed(self.shape), reversed(self.strides)):
            if extent != 1 and stride != wanted:
                return False
            wanted *= extent
        return True

    @property
    def nbytes(self) -> int:
        bits = self.bits
        for extent in self.shape:
            bits *= extent
        return (bits + 7) // 8


class _Owner:
    """Calls the producer's deleter once, when nobody needs the tensor any more."""

    def __init__(self, address: int, deleter: int) -> None:
        self._address = address
        self._deleter = deleter

    def __del__(self) -> None:
        if self._deleter:
            _DELETER(self._deleter)(self._address)
            self._deleter = 0


def take(producer: Any, stream: Optional[int] = None) -> Taken:
    """Takes a tensor by DLPack from whatever has `__dlpack__`.

    `stream` goes to the producer, whose work before it then comes before that stream's.
    """
    options: Dict[str, Any] = {} if stream is None else {"stream": stream}
    try:
        capsule = producer.__dlpack__(max_version=(1, 0), **options)
    except TypeError:  # from before version 1
        capsule = producer.__dlpack__(**options)
    return take_capsule(capsule)


def take_capsule(capsule: Any) -> Taken:
    """Takes the tensor out of a capsule of either kind, which is used up by that."""
    managed: Union[_Managed, _ManagedVersioned]
    if _capsule_is(capsule, _NAME_VERSIONED):
        address = _capsule_pointer(capsule, _NAME_VERSIONED)
        managed = _ManagedVersioned.from_address(address)
        if managed.major != 1:
            raise BufferError(f"DLPack of version {managed.major}.{managed.minor} is not known")
        readonly = bool(managed.flags & FLAG_READ_ONLY)
        _capsule_rename(capsule, _USED_VERSIONED)
    elif _capsule_is(capsule, _NAME):
        address = _capsule_pointer(capsule, _NAME)
        managed = _Managed.from_address(address)
        readonly = False
        _capsule_rename(capsule, _USED)
    else:
        raise BufferError("not a DLPack capsule, or one that was used before")
    return _taken(managed.tensor, readonly, _Owner(address, managed.deleter or 0))


def _taken(tensor: _DLTensor, readonly: bool, owner: _Owner) -> Taken:
    count = tensor.ndim
    return Taken(
        data=(tensor.data or 0) + tensor.byte_offset,
        device=(tensor.device_type, tensor.device_id),
        bits=tensor.bits * tensor.lanes,
        shape=tuple(tensor.shape[i] for i in range(count)),
        strides=tuple(tensor.strides[i] for i in range(count)) if tensor.strides else None,
        readonly=readonly,
        owner=owner,
    )
