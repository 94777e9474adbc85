# SPDX-License-Identifier: Apache-2.0
"""Element types, and tensors: typed, shaped views of a buffer's memory."""

from __future__ import annotations

import builtins
import ctypes
import math
import operator
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

from . import _dlpack
from ._errors import check
from ._handle import Handle
from ._library import lib, whole


def whole_shape(shape: Union[int, Sequence[int]]) -> Tuple[int, ...]:
    """A shape as whole numbers; one of them stands for a shape of one dimension."""
    if isinstance(shape, (str, bytes)):
        raise TypeError(f"a shape is of whole numbers, not {type(shape).__name__}")
    try:
        extents: Tuple[Any, ...] = tuple(shape)  # type: ignore[arg-type]
    except TypeError:
        extents = (shape,)
    return tuple(whole(extent, "an extent of a shape") for extent in extents)


class DType(NamedTuple):
    """An element type."""

    name: str
    """As numpy, ml_dtypes and torch call it: "float32", "bfloat16", "float8_e4m3fn"."""
    bits: int
    """Size of an element in bits; those of less than 8 are packed."""
    code: int
    """Its type code in DLPack."""
    typestr: Optional[str]
    """Its name in the array interface; None where numpy has no such type of its own."""

    @staticmethod
    def of(name: Union[str, DType]) -> DType:
        """The type of that name. Raises TypeError where there is none."""
        if isinstance(name, DType):
            return name
        if not isinstance(name, str) or name not in _BY_NAME:
            raise TypeError(f"no element type {name!r}: there are {', '.join(_BY_NAME)}")
        return _BY_NAME[name]

    def nbytes(self, shape: Sequence[int]) -> int:
        """Bytes of a tensor of that shape. Raises ValueError where they are not whole."""
        shape = whole_shape(shape)
        bits = math.prod(shape) * self.bits
        if bits % 8:
            raise ValueError(f"{tuple(shape)} elements of {self.name} end within a byte")
        return bits // 8

    @property
    def itemsize(self) -> int:
        """Bytes of an element, at least 1."""
        return max(self.bits // 8, 1)


_TYPES = (
    DType("bool", 8, 6, "|b1"),
    DType("uint8", 8, 1, "|u1"),
    DType("int8", 8, 0, "|i1"),
    DType("uint16", 16, 1, "<u2"),
    DType("int16", 16, 0, "<i2"),
    DType("uint32", 32, 1, "<u4"),
    DType("int32", 32, 0, "<i4"),
    DType("uint64", 64, 1, "<u8"),
    DType("int64", 64, 0, "<i8"),
    DType("float16", 16, 2, "<f2"),
    DType("float32", 32, 2, "<f4"),
    DType("float64", 64, 2, "<f8"),
    DType("complex64", 64, 5, "<c8"),
    DType("complex128", 128, 5, "<c16"),
    DType("bfloat16", 16, 4, None),
    DType("float8_e4m3fn", 8, 10, None),
    DType("float8_e4m3fnuz", 8, 11, None),
    DType("float8_e5m2", 8, 12, None),
    DType("float8_e5m2fnuz", 8, 13, None),
    DType("float8_e8m0fnu", 8, 14, None),
    DType("float6_e2m3fn", 6, 15, None),
    DType("float6_e3m2fn", 6, 16, None),
    DType("float4_e2m1fn", 4, 17, None),
    DType("int4", 4, 0, None),
    DType("uint4", 4, 1, None),
)
_BY_NAME = {kind.name: kind for kind in _TYPES}

# What torch calls types of less than a byte: two elements in one.
_TORCH_PACKED = {"float4_e2m1fn": "float4_e2m1fn_x2"}


def contiguous_strides(shape: Sequence[int]) -> Tuple[int, ...]:
    """Strides, in elements, of a tensor whose last dimension is contiguous."""
    strides = []
    stride = 1
    for extent in reversed(shape):
        strides.append(stride)
        stride *= max(extent, 1)
    return tuple(reversed(strides))


class Tensor:
    """A typed, shaped view of a buffer's memory, which it keeps alive.

    numpy, torch, jax, cupy and others take it without a copy: `numpy.asarray(tensor)`,
    `torch.from_dlpack(tensor)`, `cupy.asarray(tensor)`. What they make of it keeps the memory
    alive, too. `tensor.numpy()` and `tensor.torch()` do the same for the element types that
    these frameworks have but their protocols do not carry.

    Reads that were waited for are complete for every stream, so no stream needs to wait for
    the memory when it is handed over. A tensor whose read is in flight has undefined contents.
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_cuda",
        "_handle",
        "_offset",
        "device_name",
        "dtype",
        "shape",
        "strides",
    )

    def __init__(
        self,
        handle: Handle,
        device_name: str,
        address: Optional[int],
        cuda: Optional[int],
        offset: int,
        dtype: DType,
        shape: Sequence[int],
        strides: Optional[Sequence[int]] = None,
    ) -> None:
        self._handle = handle
        self._address = address
        self._cuda = cuda
        self._offset = offset
        self.device_name = device_name
        """The device's name, such as "vulkan:0"."""
        self.dtype = dtype
        """The element type."""
        self.shape = whole_shape(shape)
        """Elements in each dimension."""
        self.strides = tuple(strides) if strides is not None else contiguous_strides(self.shape)
        """Elements between neighbours in each dimension."""

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.dtype.nbytes(self.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def offset(self) -> int:
        """Where in its buffer it begins, in bytes."""
        return self._offset

    @property
    def contiguous(self) -> bool:
        """Its elements follow one another without gaps."""
        return 0 in self.shape or all(
            extent == 1 or stride == wanted
            for extent, stride, wanted in zip(
                self.shape, self.strides, contiguous_strides(self.shape)
            )
        )

    @property
    def address(self) -> int:
        """Where the CPU addresses it. Raises BufferError where it cannot."""
        if self._address is None:
            raise BufferError(
                f"the CPU cannot address memory of {self.device_name}: allocate the buffer "
                "with host=True, or copy with tobytes()"
            )
        return self._address + self._offset

    @property
    def cuda_pointer(self) -> int:
        """Its CUDA device pointer. Raises AttributeError on other devices."""
        if self._cuda is None:
            raise AttributeError(f"{self.device_name} is no CUDA device")
        return self._cuda + self._offset

    def _derive(
        self,
        dtype: DType,
        shape: Sequence[int],
        offset: int,
        strides: Optional[Sequence[int]] = None,
    ) -> Tensor:
        return Tensor(
            self._handle,
            self.device_name,
            self._address,
            self._cuda,
            self._offset + offset,
            dtype,
            shape,
            strides,
        )

    def _bytes(self) -> Tensor:
        """Its bytes, in one dimension. Raises BufferError where it has gaps."""
        if not self.contiguous:
            raise BufferError(f"a tensor with gaps has no bytes in one piece: {self!r}")
        return self._derive(DType.of("uint8"), (self.nbytes,), 0)

    def reshape(self, *shape: Union[int, Sequence[int]]) -> Tensor:
        """The same elements in another shape, given as one or as its extents.

        An extent of -1 is what the others leave. Raises ValueError where they do not fit.
        """
        if not self.contiguous:
            raise ValueError("a tensor with gaps cannot be reshaped without a copy")
        given: Any = shape[0] if len(shape) == 1 else shape
        extents = list(given) if isinstance(given, (tuple, list)) else [given]
        count = math.prod(self.shape)
        if extents.count(-1) == 1:
            others = math.prod(whole_shape([extent for extent in extents if extent != -1]))
            extents[extents.index(-1)] = count // others if others else 0
        if math.prod(whole_shape(extents)) != count:
            raise ValueError(f"{self.shape} elements cannot be of the shape {given}")
        return self._derive(self.dtype, extents, 0)

    def view(self, dtype: Union[str, DType]) -> Tensor:
        """The same bytes as elements of another type; the last dimension changes.

        A tensor without dimensions stays one if the sizes are equal."""
        kind = DType.of(dtype)
        if not self.contiguous:
            raise ValueError("a tensor with gaps cannot be viewed as another type")
        if kind.bits == self.dtype.bits:
            return self._derive(kind, self.shape, 0)
        if not self.shape or self.shape[-1] * self.dtype.bits % kind.bits:
            raise ValueError(f"{self.shape} of {self.dtype.name} are no whole {kind.name}s")
        last = self.shape[-1] * self.dtype.bits // kind.bits
        return self._derive(kind, (*self.shape[:-1], last), 0)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dimensions has no length")
        return self.shape[0]

    def __getitem__(self, index: int) -> Tensor:
        """The part at `index` of the first dimension."""
        try:
            index = operator.index(index)
        except TypeError:
            raise TypeError(
                f"the index of a gds.Tensor is a whole number, not {type(index).__name__}: "
                "what .numpy() or .torch() gives takes more"
            ) from None
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} in a dimension of {len(self)}")
        bits = (index % len(self)) * self.strides[0] * self.dtype.bits
        if bits % 8:
            raise ValueError(f"element {index} of {self.dtype.name} begins within a byte")
        return self._derive(self.dtype, self.shape[1:], bits // 8, self.strides[1:])

    def __repr__(self) -> str:
        return f"<gds.Tensor {self.dtype.name} {list(self.shape)} on {self.device_name}>"

    # ---- What others make of it ----

    def memoryview(self) -> builtins.memoryview:
        """Its bytes, writable. Raises BufferError where it has gaps, or no CPU address."""
        return builtins.memoryview(self._array()).cast("B")

    def _array(self) -> Any:
        """A ctypes array over its bytes, which keeps the memory alive."""
        raw = self._bytes()
        array = (ctypes.c_ubyte * raw.nbytes).from_address(raw.address if raw.nbytes else 0)
        setattr(array, "_gds_keeps", self._handle)  # noqa: B010
        return array

    def tobytes(self) -> bytes:
        """A copy of its bytes, from wherever they are."""
        raw = self._bytes()
        data = (ctypes.c_ubyte * raw.nbytes)()
        if raw.nbytes:
            check(
                lib.gds_buffer_copy_out(self._handle.pointer, raw._offset, data, raw.nbytes)
            )
        return bytes(data)

    @property
    def __array_interface__(self) -> Dict[str, Any]:
        if self.dtype.typestr is None:
            raise AttributeError(
                f"numpy has no type {self.dtype.name} of its own: use .numpy(), which takes "
                "it from the package ml_dtypes"
            )
        if self._address is None:
            raise AttributeError(f"the CPU cannot address memory of {self.device_name}")
        return self._interface(self.address)

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]:
        if self._cuda is None:
            raise AttributeError(f"{self.device_name} is no CUDA device")
        if self.dtype.typestr is None:
            raise AttributeError(f"the CUDA array interface has no type {self.dtype.name}")
        # No stream to wait for: reads that were waited for are complete for all of them.
        return {**self._interface(self.cuda_pointer), "stream": None}

    def _interface(self, address: int) -> Dict[str, Any]:
        itemsize = self.dtype.itemsize
        strides = tuple(stride * itemsize for stride in self.strides)
        return {
            "shape": self.shape,
            "typestr": self.dtype.typestr,
            "data": (address, False),
            "strides": None if self.contiguous else strides,
            "version": 3,
        }

    def __dlpack_device__(self) -> Tuple[int, int]:
        """(type, index) of the device in DLPack's numbers."""
        if self._address is not None:
            return (_dlpack.CPU, 0)
        if self._cuda is not None:
            return (_dlpack.CUDA, int(self.device_name.partition(":")[2] or 0))
        raise BufferError(
            f"memory of {self.device_name} cannot be handed over by DLPack: allocate the "
            "buffer with host=True"
        )

    def __dlpack__(
        self,
        *,
        stream: Optional[int] = None,
        max_version: Optional[Tuple[int, int]] = None,
        dl_device: Optional[Tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> Any:
        """A DLPack capsule: "dltensor_versioned" for who knows version 1, else "dltensor".

        Raises BufferError for another device and where a copy is wanted.
        """
        device = self.__dlpack_device__()
        if dl_device is not None and tuple(dl_device) != device:
            raise BufferError(f"the memory is on device {device}, not {tuple(dl_device)}")
        if copy:
            raise BufferError("the memory is handed over as it is: copy it afterwards")
        if device[0] == _dlpack.CPU and stream is not None:
            raise BufferError(f"memory of the CPU has no stream (stream={stream})")
        return _dlpack.export(
            self._handle,
            self.address if device[0] == _dlpack.CPU else self.cuda_pointer,
            device,
            (self.dtype.code, self.dtype.bits),
            self.shape,
            self.strides,
            versioned=max_version is not None and max_version[0] >= 1,
        )

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        """What numpy asks for where the array interface does not carry the type."""
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"{self.dtype.name} cannot become {dtype} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def numpy(self) -> Any:
        """A numpy array of the same memory; other element types come from ml_dtypes."""
        import numpy

        self.address  # noqa: B018, raises where there is none
        if self.dtype.typestr is not None:
            return numpy.asarray(self)
        if self.dtype.bits < 8:
            raise TypeError(f"numpy has no packed {self.dtype.name}: use .view('uint8')")
        try:
            import ml_dtypes

            kind = getattr(ml_dtypes, self.dtype.name)
        except (ImportError, AttributeError):
            raise TypeError(
                f"numpy has no type {self.dtype.name}: install a new ml_dtypes, or use "
                ".view('uint8')"
            ) from None
        bits = self._derive(DType.of(f"uint{self.dtype.bits}"), self.shape, 0, self.strides)
        return numpy.asarray(bits).view(kind)

    def torch(self) -> Any:
        """A torch tensor of the same memory. Raises TypeError for types that it lacks."""
        import torch

        shape, strides = self.shape, self.strides
        name = self.dtype.name
        if self.dtype.bits < 8:
            name = _TORCH_PACKED.get(name, "")
        kind = getattr(torch, name, None) if name else None
        if kind is None:
            raise TypeError(f"torch has no type {self.dtype.name}: use .view('uint8')")
        if self.dtype.bits < 8:
            shape, strides = self._pairs()
        if self.nbytes == 0:
            where = "cpu" if self._address is not None else self.device_name
            return torch.empty(shape, dtype=kind, device=where)
        # As bytes, which every version of torch takes.
        span = sum((n - 1) * s for n, s in zip(shape, strides)) + 1
        raw = self._derive(DType.of("uint8"), (span * self.dtype.itemsize,), 0)
        flat = torch.utils.dlpack.from_dlpack(raw.__dlpack__()).view(kind)
        return flat.reshape(shape) if self.contiguous else flat.as_strided(shape, strides)

    def _pairs(self) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
        """Shape and strides where two elements of 4 bits are one, as torch has them."""
        shape = (*self.shape[:-1], self.shape[-1] // 2) if self.shape else ()
        if self.dtype.bits == 4 and self.shape and self.shape[-1] % 2 == 0:
            if self.contiguous:
                return shape, contiguous_strides(shape)
            if self.strides[-1] == 1 and not any(stride % 2 for stride in self.strides[:-1]):
                return shape, (*(stride // 2 for stride in self.strides[:-1]), 1)
        raise TypeError(
            f"torch has no {self.dtype.name} of {list(self.shape)}: it packs two elements of 4 "
            "bits in one, along the last dimension; use .view('uint8')"
        )

    def jax(self) -> Any:
        """A jax array, of the same memory where jax takes that: it copies what has gaps, what
        is not aligned as it likes, and what it has no type for without jax_enable_x64.

        Raises TypeError for packed types, which jax does not take."""
        import jax.dlpack

        if self.dtype.bits < 8:
            raise TypeError(f"jax takes no packed {self.dtype.name}: use .view('uint8')")
        if not self.contiguous:
            return jax.numpy.array(self.numpy())
        return jax.dlpack.from_dlpack(self)
