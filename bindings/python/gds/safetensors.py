# SPDX-License-Identifier: Apache-2.0
"""Loads safetensors files into the memory of a device, as one batch of reads.

The names are those of the safetensors package:

    from gds.safetensors import load_file, safe_open

    tensors = load_file("model.safetensors", device="cuda:0")
    tensors = load_file("model.safetensors.index.json")      # all shards

    with safe_open("model.safetensors", framework="np") as file:
        embedding = file.get_tensor("embeddings.weight")
        rows = file.get_slice("embeddings.weight")[100:200]

Frameworks are "pt" (torch), "np" (numpy), "jax", and "gds", which needs none of them and gives
gds.Tensor. Devices are "cpu", "cuda:0", or what gds.Device() takes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from ._memory import Buffer, Device, host_device
from ._reader import Batch, File, Path, Reader, default_reader
from ._tensor import DType, Tensor

__all__ = ["SafetensorError", "TensorInfo", "load_file", "read_header", "safe_open"]

logger = logging.getLogger("gds.safetensors")

HEADER_LIMIT = 100_000_000  # bytes, of the format
_DEPTH_LIMIT = 127  # of objects and lists in each other, as the reference has it
_FIELDS = {"dtype", "shape", "data_offsets"}
# Where a file's byte lies in a drive's block and in memory's page is kept equal, so that
# reads need no staging.
_PAGE = 4096
# So many reads for one slice at most; then what lies between is read, too.
_SLICE_READS = 65536

_DTYPES: Dict[str, DType] = {
    name: DType.of(own)
    for name, own in {
        "BOOL": "bool",
        "F4": "float4_e2m1fn",
        "F6_E2M3": "float6_e2m3fn",
        "F6_E3M2": "float6_e3m2fn",
        "U8": "uint8",
        "I8": "int8",
        "F8_E5M2": "float8_e5m2",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E8M0": "float8_e8m0fnu",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "I16": "int16",
        "U16": "uint16",
        "F16": "float16",
        "BF16": "bfloat16",
        "I32": "int32",
        "U32": "uint32",
        "F32": "float32",
        "C64": "complex64",
        "F64": "float64",
        "I64": "int64",
        "U64": "uint64",
    }.items()
}

_FRAMEWORKS = {
    "pt": "torch",
    "torch": "torch",
    "pytorch": "torch",
    "np": "numpy",
    "numpy": "numpy",
    "jax": "jax",
    "flax": "jax",
    "gds": "gds",
}


class SafetensorError(ValueError):
    """The file is no safetensors file, or has no such tensor."""


# ---- The header ----


class TensorInfo(NamedTuple):
    """What the header says of a tensor."""

    dtype: str
    """In the format's words, such as "BF16"."""
    shape: Tuple[int, ...]
    begin: int
    """Where in the file its first byte is."""
    end: int
    """Where in the file it is over."""

    @property
    def kind(self) -> DType:
        """Its element type."""
        return _DTYPES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.end - self.begin


class Header(NamedTuple):
    """A header that was checked."""

    tensors: Dict[str, TensorInfo]
    """By name, in the order of their places in the file."""
    metadata: Optional[Dict[str, str]]
    """Strings by name, which the format hands through."""


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SafetensorError(f"the key {twice!r} is there twice")
    return found


def _whole(text: str) -> Union[int, float]:
    # Numbers of the format are below 2^64; longer ones are an attack on who converts them.
    # What is no size becomes a fraction, which only fields that are unknown may hold.
    if text.startswith("-") or len(text) > 20 or int(text) >= 1 << 64:
        return _fraction(text)
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise SafetensorError(f"the number {text[:24]}... is out of range")
    return value


def _no_number(text: str) -> Any:
    raise SafetensorError(f"{text} is no number of JSON")


def _parse_json(raw: bytes) -> Dict[str, Any]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SafetensorError(f"the header is not UTF-8: {error}") from None
    if not text.startswith("{"):
        raise SafetensorError("the header does not begin with '{'")
    try:
        parsed = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_whole,
            parse_float=_fraction,
            parse_constant=_no_number,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise SafetensorError(f"the header is not JSON: {error}") from None
    assert isinstance(parsed, dict)
    return parsed


def _check_text(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise SafetensorError(f"{what} is no string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise SafetensorError(f"{what} has half a character") from None
    return text


def _parse_metadata(value: Any) -> Optional[Dict[str, str]]:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise SafetensorError("__metadata__ is no object")
    return {
        _check_text(key, "a key of __metadata__"): _check_text(text, f"__metadata__ {key!r}")
        for key, text in value.items()
    }


def _check_unknown(value: Any, depth: int) -> None:
    """Of a field that the format does not have (yet): it is to be JSON, and no more."""
    if isinstance(value, str):
        _check_text(value, "a string")
    elif isinstance(value, (dict, list)):
        if depth > _DEPTH_LIMIT:
            raise SafetensorError(f"the header is nested more than {_DEPTH_LIMIT} deep")
        for key in value if isinstance(value, dict) else ():
            _check_text(key, "a key")
        for one in value.values() if isinstance(value, dict) else value:
            _check_unknown(one, depth + 1)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _parse_tensor(name: str, value: Any, data: int) -> TensorInfo:
    _check_text(name, "the name of a tensor")
    if not isinstance(value, dict):
        raise SafetensorError(f"tensor {name!r}: no object")
    missing = _FIELDS - value.keys()
    if missing:
        raise SafetensorError(f"tensor {name!r}: {min(missing)} is missing")
    for key in value.keys() - _FIELDS:
        _check_text(key, f"tensor {name!r}: a key")
        _check_unknown(value[key], 3)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise SafetensorError(
            f"tensor {name!r}: dtype {dtype!r} is none of {', '.join(_DTYPES)}"
        )
    if not isinstance(shape, list) or not all(map(_is_size, shape)):
        raise SafetensorError(f"tensor {name!r}: the shape is no list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise SafetensorError(f"tensor {name!r}: data_offsets are not two offsets")
    return TensorInfo(dtype, tuple(shape), data + offsets[0], data + offsets[1])


def _check_size(name: str, info: TensorInfo) -> None:
    elements = 1
    for extent in info.shape:
        elements *= extent
        if elements >= 1 << 64:
            raise SafetensorError(f"tensor {name!r}: more elements than there are numbers")
    if elements * info.kind.bits % 8:
        raise SafetensorError(f"tensor {name!r}: its elements end within a byte")
    if info.nbytes != elements * info.kind.bits // 8:
        raise SafetensorError(
            f"tensor {name!r}: {info.nbytes} bytes for {list(info.shape)} of {info.dtype}"
        )


def parse_header(raw: bytes, file_bytes: int) -> Header:
    """Checks a header, without the length before it, of a file of `file_bytes` bytes.

    Raises SafetensorError for all that the format forbids: keys that are there twice,
    tensors that overlap or leave a gap, sizes that are not those of type and shape, bytes
    at the end that are no tensor's.
    """
    data = 8 + len(raw)
    parsed = _parse_json(raw)
    metadata = _parse_metadata(parsed.pop("__metadata__", None))
    found = [(name, _parse_tensor(name, value, data)) for name, value in parsed.items()]
    found.sort(key=lambda pair: (pair[1].begin, pair[1].end))
    at = data
    for name, info in found:
        if info.begin != at or info.end < info.begin:
            raise SafetensorError(
                f"tensor {name!r}: bytes {info.begin - data} to {info.end - data} do not follow "
                f"the tensor before it, which ends at {at - data}"
            )
        _check_size(name, info)
        at = info.end
    if at != file_bytes:
        raise SafetensorError(f"the tensors end at byte {at}, and the file at {file_bytes}")
    return Header(dict(found), metadata)


def _open_at_once(path: str, flags: int) -> int:
    # A pipe without a writer would be waited for: so it is empty.
    return os.open(path, flags | os.O_NONBLOCK)


def read_header(path: Path) -> Header:
    """Reads and checks the header of a file: names, types, shapes and places of its tensors.

    Raises SafetensorError for a file that is no safetensors file; OSError where it cannot be
    read.
    """
    path = os.fsdecode(path)
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            size = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            if len(prefix) < 8:
                raise SafetensorError(f"a file of {len(prefix)} bytes is too short")
            (length,) = struct.unpack("<Q", prefix)
            if length > HEADER_LIMIT:
                raise SafetensorError(
                    f"a header of {length} bytes, of which {HEADER_LIMIT} are allowed"
                )
            if length > size - 8:
                raise SafetensorError(f"a header of {length} bytes in a file of {size}")
            return parse_header(file.read(length), size)
    except SafetensorError as error:
        raise SafetensorError(f"{path}: {error}") from None


# ---- Where tensors go ----


def _device(device: Any) -> Device:
    """The device for a name of gds or of torch, a torch.device, or the number of a GPU."""
    if isinstance(device, Device):
        return device
    if isinstance(device, int):
        device = f"cuda:{device}"
    name = str(device)
    if name in ("cpu", "host"):
        return host_device()
    return Device("cuda:0" if name == "cuda" else name)


def _framework(name: str) -> str:
    try:
        return _FRAMEWORKS[name]
    except KeyError:
        raise ValueError(
            f"no framework {name!r}: there are {', '.join(_FRAMEWORKS)}"
        ) from None


def _hand_over(tensor: Tensor, framework: str) -> Any:
    return tensor if framework == "gds" else getattr(tensor, framework)()


def _hand_over_named(name: str, tensor: Tensor, framework: str) -> Any:
    try:
        return _hand_over(tensor, framework)
    except TypeError as error:
        raise SafetensorError(f'tensor {name!r}: {error} of framework="gds"') from None


class _Plan:
    """Where in one buffer the tensors of one file go, and what is read.

    What is contiguous in the file stays so, at a place that is congruent to that in the
    file, which lets the storage write into the memory itself. Tensors whose place in the
    file would not be aligned in memory go to a place of their own.
    """

    def __init__(self, infos: Iterable[TensorInfo]) -> None:
        self.reads: List[Tuple[int, int, int]] = []  # offset in the file, length, place
        self.places: Dict[int, int] = {}  # first byte in the file to place
        self.nbytes = 0
        aligned: List[TensorInfo] = []
        others: List[TensorInfo] = []
        for info in sorted(infos, key=lambda info: info.begin):
            if info.nbytes:
                (others if info.begin % info.kind.itemsize else aligned).append(info)
        for info in aligned:
            self._append(info)
        for info in others:
            self._add(info, 0)

    def _append(self, info: TensorInfo) -> None:
        if self.reads and sum(self.reads[-1][:2]) == info.begin:
            offset, length, place = self.reads[-1]
            self.places[info.begin] = place + length
            self.reads[-1] = (offset, length + info.nbytes, place)
            self.nbytes += info.nbytes
        else:
            self._add(info, info.begin % _PAGE)

    def _add(self, info: TensorInfo, place_in_page: int) -> None:
        start = -(-self.nbytes // _PAGE) * _PAGE + place_in_page
        self.places[info.begin] = start
        self.reads.append((info.begin, info.nbytes, start))
        self.nbytes = start + info.nbytes

    def place(self, info: TensorInfo) -> int:
        return self.places[info.begin] if info.nbytes else 0


class _Loading:
    """The tensors of one file on their way into a buffer."""

    def __init__(
        self, path: str, infos: Mapping[str, TensorInfo], device: Device, batch: Batch
    ) -> None:
        plan = _Plan(infos.values())
        self.infos = infos
        self.plan = plan
        self.buffer: Buffer = device.alloc(max(plan.nbytes, 1))
        with File(path) as file:
            batch.add_many(
                (file, self.buffer, offset, length, place)
                for offset, length, place in plan.reads
            )

    def check(self, path: str, results: Sequence[Any]) -> None:
        for (offset, length, _), result in zip(self.plan.reads, results):
            if result.nbytes != length:
                raise SafetensorError(
                    f"{path}: ends at byte {offset + result.nbytes}: "
                    "it has become shorter since its header was read"
                )

    def tensors(self, framework: str) -> Dict[str, Any]:
        made = {}
        for name, info in self.infos.items():
            tensor = self.buffer.tensor(info.kind, info.shape, self.plan.place(info))
            made[name] = _hand_over_named(name, tensor, framework)
        return made


# ---- Whole files ----


def _read_index(path: str) -> Dict[str, List[str]]:
    """Of a sharded checkpoint, the path of each shard and the names of its tensors."""
    folder = os.path.dirname(path)
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            index = _parse_json_index(file.read())
    except SafetensorError as error:
        raise SafetensorError(f"{path}: {error}") from None
    shards: Dict[str, List[str]] = {}
    for name, shard in index.items():
        parts = shard.split("/")
        if os.path.isabs(shard) or ".." in parts or not parts[-1]:
            raise SafetensorError(f"{path}: {shard!r} is no file beside the index")
        shards.setdefault(os.path.join(folder, *parts), []).append(name)
    return shards


def _parse_json_index(raw: bytes) -> Dict[str, str]:
    try:
        parsed = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
        raise SafetensorError(f"not a JSON file: {error}") from None
    index = parsed.get("weight_map") if isinstance(parsed, dict) else None
    if not isinstance(index, dict) or not all(isinstance(shard, str) for shard in index.values()):
        raise SafetensorError("there is no weight_map from names to files in it")
    return index


def _choose(path: str, wanted: Optional[Sequence[str]], all_there: bool) -> Dict[str, TensorInfo]:
    """The tensors of a file that are wanted; `all_there`: it must have each of them."""
    tensors = read_header(path).tensors
    if wanted is None:
        return tensors
    for name in wanted:
        if all_there and name not in tensors:
            raise SafetensorError(f"{path}: there is no tensor {name!r} in it")
    names = set(wanted)
    return {name: info for name, info in tensors.items() if name in names}


def _files(
    path: Union[Path, Sequence[Path]], names: Optional[Sequence[str]]
) -> List[Tuple[str, Dict[str, TensorInfo]]]:
    """The files to read and which of their tensors, each name in one file only."""
    if isinstance(path, (str, bytes, os.PathLike)):
        path = os.fsdecode(path)
        if not path.endswith(".index.json"):
            return [(path, _choose(path, names, True))]
        shards = _read_index(path)
        known = {name for held in shards.values() for name in held}
        _check_names(names, known, path)
        asked = known if names is None else set(names)
        return [
            (shard, _choose(shard, [name for name in held if name in asked], True))
            for shard, held in shards.items()
            if names is None or asked.intersection(held)
        ]
    files: List[Tuple[str, Dict[str, TensorInfo]]] = []
    seen: Dict[str, str] = {}
    for one in map(os.fsdecode, path):
        found = _choose(one, names, False)
        for name in found:
            if name in seen:
                raise SafetensorError(
                    f"tensor {name!r} is in {seen[name]} and in {one}"
                )
            seen[name] = one
        files.append((one, found))
    _check_names(names, seen, "the files")
    return files


def _check_names(names: Optional[Sequence[str]], known: Iterable[str], where: str) -> None:
    missing = set(names or ()) - set(known)
    if missing:
        raise SafetensorError(f"{where}: there is no tensor {min(missing)!r}")


def _wait_with_progress(batch: Batch, reader: Reader, total: int) -> None:
    """Waits, with a bar of tqdm where that is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        logger.info("no progress bar: tqdm is not installed")
        batch.wait()
        return
    before = sum(reader.stats().paths.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc="gds") as bar:
        while not batch.done():
            try:
                batch.wait(0.1)
            except TimeoutError:
                pass
            bar.update(min(sum(reader.stats().paths.values()) - before, total) - bar.n)
        bar.update(total - bar.n)


def load_file(
    filename: Union[Path, Sequence[Path]],
    device: Any = "cpu",
    *,
    framework: str = "pt",
    names: Optional[Sequence[str]] = None,
    reader: Optional[Reader] = None,
    progress: bool = False,
) -> Dict[str, Any]:
    """Loads the tensors of a file, by name, in one batch of reads.

    filename   a file; a list of files; or the index of a sharded checkpoint, *.index.json
    device     "cpu", "cuda:0", another name of gds.Device(), or a gds.Device
    framework  "pt", "np", "jax" or "gds": what the tensors are of
    names      only these tensors are read; all of them where it is not given
    progress   show a bar, if tqdm is installed

    The tensors of one file lie in one allocation, which stays as long as any of them does:
    load those that are to outlive the others with safe_open().

    Raises SafetensorError for a file that is not valid or lacks a tensor, OSError (gds.Error)
    where it cannot be read.
    """
    made_of = _framework(framework)
    where = _device(device)
    reader = reader or default_reader()
    files = _files(filename, names)
    total = sum(info.nbytes for _, infos in files for info in infos.values())
    with reader.batch() as batch:
        loadings = [_Loading(path, infos, where, batch) for path, infos in files]
        batch.submit()
        if progress:
            _wait_with_progress(batch, reader, total)
        results = batch.results()
    tensors: Dict[str, Any] = {}
    at = 0
    for (path, _), loading in zip(files, loadings):
        count = len(loading.plan.reads)
        loading.check(path, results[at : at + count])
        at += count
        tensors.update(loading.tensors(made_of))
    _log_paths(total, [result.paths for result in results])
    return tensors


def _log_paths(total: int, paths: Iterable[Mapping[str, int]]) -> None:
    sums: Dict[str, int] = {}
    for one in paths:
        for name, count in one.items():
            sums[name] = sums.get(name, 0) + count
    said = ", ".join(f"{count} by {name}" for name, count in sums.items())
    logger.info("loaded %d bytes: %s", total, said or "none")


# ---- Parts of files ----


class safe_open:  # noqa: N801, the name that its users know
    """A safetensors file whose tensors are read when they are asked for.

    Arguments are those of `load_file()`. Raises SafetensorError where it is not valid.
    """

    def __init__(
        self,
        filename: Path,
        framework: str = "gds",
        device: Any = "cpu",
        *,
        reader: Optional[Reader] = None,
    ) -> None:
        self._framework = _framework(framework)
        self._path = os.fsdecode(filename)
        self._header = read_header(self._path)
        self._device = _device(device)
        self._reader = reader or default_reader()
        self._file = File(self._path)

    def close(self) -> None:
        """Closes the file; tensors that were read stay."""
        self._file.close()

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gds.safetensors.safe_open {self._path!r}: {len(self._header.tensors)} tensors>"

    def keys(self) -> List[str]:
        """The names of the tensors, sorted."""
        return sorted(self._header.tensors)

    def offset_keys(self) -> List[str]:
        """The names of the tensors, in the order of their places in the file."""
        return list(self._header.tensors)

    def metadata(self) -> Optional[Dict[str, str]]:
        """The strings that the file carries beside its tensors; None where it has none."""
        return self._header.metadata

    def _info(self, name: str) -> TensorInfo:
        try:
            return self._header.tensors[name]
        except KeyError:
            raise SafetensorError(
                f"{self._path}: there is no tensor {name!r} in it"
            ) from None

    def get_tensor(self, name: str) -> Any:
        """Reads one tensor, into memory of its own."""
        return self.get_tensors([name])[name]

    def get_tensors(self, names: Optional[Sequence[str]] = None) -> Dict[str, Any]:
        """Reads several tensors (all of them) in one batch, into memory of one allocation."""
        infos = {name: self._info(name) for name in (self.keys() if names is None else names)}
        with self._reader.batch() as batch:
            loading = _Loading(self._path, infos, self._device, batch)
            loading.check(self._path, batch.submit().results())
        return loading.tensors(self._framework)

    def get_slice(self, name: str) -> Slice:
        """A tensor to take a part of: `file.get_slice(name)[10:20, :, 3]` reads that alone."""
        return Slice(self, name, self._info(name))


class _Extent(NamedTuple):
    """What is taken of one dimension."""

    start: int
    taken: int
    step: int
    kept: bool  # an index, unlike a slice, takes the dimension away

    @property
    def span(self) -> int:
        """From the first to the last that is taken."""
        return (self.taken - 1) * self.step + 1 if self.taken else 0


def _extent(index: Any, size: int, dimension: int) -> _Extent:
    if isinstance(index, slice):
        if index.step is not None and index.step < 1:
            raise SafetensorError(f"dimension {dimension}: a step of {index.step} is not positive")
        start, stop, step = index.indices(size)
        return _Extent(start, max(-(-(stop - start) // step), 0), step, True)
    try:
        number = index.__index__()
    except AttributeError:
        raise SafetensorError(
            f"dimension {dimension}: {index!r} is no slice, whole number or ellipsis"
        ) from None
    if not -size <= number < size:
        raise SafetensorError(f"dimension {dimension} of {size} has no index {number}")
    return _Extent(number % size, 1, 1, False)


def _extents(index: Any, shape: Sequence[int]) -> List[_Extent]:
    indices = list(index) if isinstance(index, tuple) else [index]
    ellipses = sum(one is Ellipsis for one in indices)
    missing = len(shape) - (len(indices) - ellipses)
    if missing < 0 or ellipses > 1:
        raise SafetensorError(f"{index!r} does not fit a tensor of {len(shape)} dimensions")
    where = indices.index(Ellipsis) if ellipses else len(indices)
    indices[where : where + ellipses] = [slice(None)] * missing
    return [_extent(*pair, dimension) for dimension, pair in enumerate(zip(indices, shape))]


class Slice:
    """A tensor of a file, of which parts are read by indexing: whole numbers and slices."""

    def __init__(self, file: safe_open, name: str, info: TensorInfo) -> None:
        self._file = file
        self._name = name
        self._info = info

    def get_shape(self) -> List[int]:
        """The shape of the whole tensor."""
        return list(self._info.shape)

    def get_dtype(self) -> str:
        """Its element type in the format's words, such as "F32"."""
        return self._info.dtype

    def __getitem__(self, index: Any) -> Any:
        """Reads a part. Raises SafetensorError for an index that does not fit."""
        extents = _extents(index, self._info.shape)
        part = _read_part(self._file, self._info, extents)
        return _hand_over_named(self._name, part, self._file._framework)


def _split(info: TensorInfo, extents: Sequence[_Extent]) -> int:
    """The dimension up to which parts are read one by one.

    Behind it everything is taken, or what is not is read along with the rest.
    """
    split = 0
    for dimension, extent in enumerate(extents):
        if extent.taken != info.shape[dimension]:
            split = dimension
    while math.prod(extent.taken for extent in extents[:split]) > _SLICE_READS:
        split -= 1
    return split


def _read_part(file: safe_open, info: TensorInfo, extents: Sequence[_Extent]) -> Tensor:
    kind, device = info.kind, file._device
    shape = tuple(extent.taken for extent in extents if extent.kept)
    if not extents:  # without dimensions: the only element of one
        info, extents = info._replace(shape=(1,)), [_Extent(0, 1, 1, False)]
    if any(extent.taken == 0 for extent in extents):
        return device.empty(shape, kind)
    split = _split(info, extents)
    rest = math.prod(info.shape[split + 1 :])
    row = extents[split].span * rest  # elements of one read
    rows = _row_starts(info, extents[:split], extents[split].start * rest)
    if row * kind.bits % 8 or any(start * kind.bits % 8 for start in rows):
        raise SafetensorError(f"a part of {info.dtype} that begins or ends within a byte")
    row_bytes = row * kind.bits // 8
    offsets = [info.begin + start * kind.bits // 8 for start in rows]
    # One read may go where it can be written to directly; many are packed.
    lead = offsets[0] % _PAGE if len(rows) == 1 and not offsets[0] % kind.itemsize else 0
    buffer = device.alloc(lead + row_bytes * len(rows))
    with file._reader.batch(capacity=len(rows)) as batch:
        batch.add_many(
            (file._file, buffer, offset, row_bytes, lead + number * row_bytes)
            for number, offset in enumerate(offsets)
        )
        for result in batch.submit().results():
            if result.nbytes != row_bytes:
                raise SafetensorError(f"{file._path}: it has become shorter")
    return _view(buffer, info, extents, split, row, lead)


def _row_starts(info: TensorInfo, extents: Sequence[_Extent], start: int) -> List[int]:
    """The first element of each row that is read: one for each choice in `extents`."""
    starts = [start]
    for dimension, extent in enumerate(extents):
        stride = math.prod(info.shape[dimension + 1 :])
        starts = [
            base + (extent.start + number * extent.step) * stride
            for base in starts
            for number in range(extent.taken)
        ]
    return starts


def _view(
    buffer: Buffer,
    info: TensorInfo,
    extents: Sequence[_Extent],
    split: int,
    row: int,
    lead: int,
) -> Tensor:
    """The part that was asked for, in what was read for it."""
    strides: List[int] = []
    begin = 0
    for dimension, extent in enumerate(extents):
        if dimension < split:
            stride = row * math.prod(other.taken for other in extents[dimension + 1 : split])
        else:
            plain = math.prod(info.shape[dimension + 1 :])
            stride = plain * extent.step
            if dimension > split:
                begin += extent.start * plain
        strides.append(stride)
    shape = [extent.taken for extent in extents if extent.kept]
    kept = [stride for stride, extent in zip(strides, extents) if extent.kept]
    if begin * info.kind.bits % 8:
        raise SafetensorError(f"a part of {info.dtype} that begins within a byte")
    whole = buffer.tensor("uint8")
    return whole._derive(info.kind, shape, lead + begin * info.kind.bits // 8, kept)
