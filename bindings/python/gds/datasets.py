# SPDX-License-Identifier: Apache-2.0
"""Feeds training from files: batches in the memory of a device, read ahead of their use.

What is in the files is a dataset; a Loader makes batches of it:

    tokens = gds.datasets.records("tokens.bin", "uint16", (1024,))
    loader = gds.datasets.Loader(tokens, batch_size=8, shuffle=True, seed=1, framework="pt")
    for epoch in range(3):
        for batch in loader:            # a torch tensor of [8, 1024]
            ...

records    fixed-size records one behind the other, as of token files
npy        arrays of numpy, whose first dimension is that of the records
samples    a list of (file, offset, length)
tar        shards of WebDataset: samples that are made of several members
tfrecord   files of TFRecord

A Loader shuffles with a seed and without a list in memory, reads `prefetch` batches ahead,
takes its share of a distributed run, and goes on from a saved state.
"""

from __future__ import annotations

import ast
import os
import stat
import struct
import sys
import tarfile
from collections import OrderedDict, deque
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from ._handle import Handle
from ._library import CLASSES
from ._memory import Buffer, Device
from ._reader import Batch, File, Path, Reader, _number, default_reader
from ._tensor import DType
from .safetensors import _device, _framework, _hand_over, _open_at_once

__all__ = [
    "Dataset",
    "FormatError",
    "Loader",
    "Records",
    "Samples",
    "distributed_rank",
    "npy",
    "records",
    "samples",
    "tar",
    "tfrecord",
]

_PAGE = 4096
# Samples that are smaller are packed; larger ones lie in memory as in the file's blocks.
_PACKED_BELOW = 16 << 10
_ALIGN = 64
_OPEN_FILES = 256

Paths = Union[Path, Sequence[Path]]


class FormatError(ValueError):
    """A file is not what it was taken for."""


class Piece(NamedTuple):
    """What is read in one go."""

    file: int
    """Index in the dataset's `files`."""
    offset: int
    length: int


def _paths(paths: Paths) -> List[str]:
    if isinstance(paths, (str, bytes, os.PathLike)):
        return [os.fsdecode(paths)]
    return [os.fsdecode(path) for path in paths]


# ---- Datasets ----


class Dataset:
    """Samples by number, each of them one or more pieces of files."""

    files: List[str]

    def __len__(self) -> int:
        raise NotImplementedError

    def pieces(self, index: int) -> Sequence[Piece]:
        """What sample `index` is made of."""
        raise NotImplementedError

    def layout(self, pieces: Sequence[Sequence[Piece]]) -> Tuple[List[List[int]], int]:
        """Where in a buffer the pieces of a batch's samples go, and the buffer's bytes."""
        raise NotImplementedError

    def assemble(
        self, buffer: Buffer, indices: Sequence[int], places: Sequence[Sequence[int]], framework: str
    ) -> Any:
        """A batch out of the bytes that have arrived."""
        raise NotImplementedError


class Records(Dataset):
    """Records of one size; a batch of them is one tensor."""

    def __init__(
        self,
        parts: Sequence[Tuple[str, int, int]],
        dtype: DType,
        shape: Sequence[int],
        stride_bytes: int,
    ) -> None:
        self.files = [path for path, _, _ in parts]
        self.dtype = dtype
        self.shape = tuple(shape)
        """Shape of one record."""
        self.record_bytes = dtype.nbytes(shape)
        self._stride = stride_bytes
        self._starts = [first for _, first, _ in parts]
        self._ends: List[int] = []  # numbers of records up to the end of each file
        total = 0
        for _, _, count in parts:
            total += count
            self._ends.append(total)

    def __len__(self) -> int:
        return self._ends[-1]

    def pieces(self, index: int) -> Sequence[Piece]:
        file = _find(self._ends, index)
        first = self._ends[file - 1] if file else 0
        offset = self._starts[file] + (index - first) * self._stride
        return (Piece(file, offset, self.record_bytes),)

    def layout(self, pieces: Sequence[Sequence[Piece]]) -> Tuple[List[List[int]], int]:
        # In step with the file's blocks, so that what is contiguous needs no staging.
        lead = pieces[0][0].offset % _PAGE
        lead -= lead % self.dtype.itemsize
        places = [[lead + number * self.record_bytes] for number in range(len(pieces))]
        return places, lead + len(pieces) * self.record_bytes

    def assemble(
        self, buffer: Buffer, indices: Sequence[int], places: Sequence[Sequence[int]], framework: str
    ) -> Any:
        tensor = buffer.tensor(self.dtype, (len(indices), *self.shape), places[0][0])
        return _hand_over(tensor, framework)


def _find(ends: Sequence[int], index: int) -> int:
    """The first whose end is above `index`."""
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if ends[middle] > index:
            high = middle
        else:
            low = middle + 1
    return low


def _size(path: str) -> int:
    with File(path) as file:
        return file.nbytes


def records(
    paths: Paths,
    dtype: Union[str, DType],
    shape: Sequence[int],
    *,
    stride: Optional[int] = None,
    header_bytes: int = 0,
) -> Records:
    """Fixed-size records, one behind the other, in files without any structure.

    dtype, shape  of one record: ("uint16", (1024,)) are 1024 tokens
    stride        elements from the start of one record to that of the next; all of them where
                  it is not given: (1025,) with a stride of 1024 gives targets their own token
    header_bytes  to pass over at the start of each file

    What is left at the end of a file, and is no whole record, is not read. Raises ValueError
    where a file has no record.
    """
    kind = DType.of(dtype)
    nbytes = kind.nbytes(shape)
    stride_bytes = nbytes if stride is None else kind.nbytes((stride,))
    if nbytes < 1 or stride_bytes < 1 or header_bytes < 0:
        raise ValueError(f"records of {nbytes} bytes, {stride_bytes} apart, from {header_bytes} on")
    parts = []
    for path in _paths(paths):
        size = _size(path) - header_bytes
        if size < nbytes:
            raise FormatError(f"{path}: there is no record of {nbytes} bytes in it")
        parts.append((path, header_bytes, (size - nbytes) // stride_bytes + 1))
    if not parts:
        raise ValueError("no file was named")
    return Records(parts, kind, shape, stride_bytes)


_NPY_MAGIC = b"\x93NUMPY"
_NPY_HEADER_LIMIT = 1 << 20


def _npy_header(path: str) -> Tuple[str, bool, Tuple[int, ...], int]:
    """Type, order and shape of an array of numpy, and where its data begins."""
    with open(path, "rb", opener=_open_at_once) as file:
        start = file.read(8)
        if len(start) < 8 or start[:6] != _NPY_MAGIC or start[6] not in (1, 2, 3):
            raise FormatError(f"{path}: not an array of numpy")
        wide = start[6] > 1
        raw = file.read(4 if wide else 2).ljust(4, b"\0")
        (length,) = struct.unpack("<I", raw)
        text = file.read(min(length, _NPY_HEADER_LIMIT))
    try:
        header = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin-1").strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        assert len(text) == length and isinstance(descr, str)
        assert all(isinstance(n, int) and n >= 0 for n in shape) and isinstance(fortran, bool)
    except (ValueError, SyntaxError, KeyError, TypeError, AssertionError, MemoryError,
            RecursionError, UnicodeDecodeError):
        raise FormatError(f"{path}: the header of this array of numpy is broken") from None
    return descr, fortran, tuple(shape), 8 + (4 if wide else 2) + length


def npy(paths: Paths, dtype: Union[str, DType, None] = None) -> Records:
    """Arrays of numpy, .npy: their first dimension is that of the records.

    `dtype` says what the elements are where numpy has no type of its own for them, such as
    "bfloat16". All files must have the same type and shape of records. Raises ValueError
    for what is not such an array, and for one in Fortran's order, or of another byte order.
    """
    parts: List[Tuple[str, int, int]] = []
    found: Optional[Tuple[DType, Tuple[int, ...]]] = None
    for path in _paths(paths):
        descr, fortran, shape, data = _npy_header(path)
        kind = _npy_type(path, descr, dtype)
        if fortran and len(shape) > 1:
            raise FormatError(f"{path}: is in Fortran's order, whose records are not contiguous")
        if not shape or 0 in shape:
            raise FormatError(f"{path}: there are no records in an array of {shape}")
        if found and found != (kind, shape[1:]):
            raise FormatError(f"{path}: its records are of {shape[1:]} {kind.name}, "
                              f"those before of {found[1]} {found[0].name}")
        if _size(path) < data + kind.nbytes(shape):
            raise FormatError(f"{path}: ends before its array does")
        found = (kind, shape[1:])
        parts.append((path, data, shape[0]))
    if not found:
        raise ValueError("no file was named")
    return Records(parts, *found, found[0].nbytes(found[1]))


def _npy_type(path: str, descr: str, dtype: Union[str, DType, None]) -> DType:
    from ._tensor import _TYPES

    if dtype is not None:
        kind = DType.of(dtype)
        if not descr[2:].isdigit() or int(descr[2:]) * 8 != kind.bits:
            raise FormatError(f"{path}: elements of {descr!r} are not of the size of {kind.name}")
        return kind
    for kind in _TYPES:
        if kind.typestr is not None and kind.typestr == descr:
            return kind
    raise FormatError(f"{path}: elements of {descr!r} are not known; dtype= says what they are")


class Samples(Dataset):
    """Samples of any size; a batch of them is a list.

    Each is a tensor of bytes, or, where samples are made of several members, a dictionary of
    such tensors by name, with the sample's own name as "__key__".
    """

    def __init__(
        self,
        files: Sequence[str],
        pieces: Sequence[Sequence[Piece]],
        members: Optional[Sequence[Sequence[str]]] = None,
        keys: Optional[Sequence[str]] = None,
    ) -> None:
        self.files = list(files)
        self._pieces = pieces
        self._members = members
        self._keys = keys

    def __len__(self) -> int:
        return len(self._pieces)

    def pieces(self, index: int) -> Sequence[Piece]:
        return self._pieces[index]

    def layout(self, pieces: Sequence[Sequence[Piece]]) -> Tuple[List[List[int]], int]:
        places: List[List[int]] = []
        at = 0
        for sample in pieces:
            places.append([])
            for piece in sample:
                if piece.length < _PACKED_BELOW:
                    at = -(-at // _ALIGN) * _ALIGN
                else:
                    at = -(-at // _PAGE) * _PAGE + piece.offset % _PAGE
                places[-1].append(at)
                at += piece.length
        return places, max(at, 1)

    def assemble(
        self, buffer: Buffer, indices: Sequence[int], places: Sequence[Sequence[int]], framework: str
    ) -> Any:
        batch = []
        for index, sample_places in zip(indices, places):
            tensors = [
                _hand_over(buffer.tensor("uint8", (piece.length,), place), framework)
                for piece, place in zip(self._pieces[index], sample_places)
            ]
            if self._members is None or self._keys is None:
                batch.append(tensors[0])
            else:
                sample: Dict[str, Any] = {"__key__": self._keys[index]}
                sample.update(zip(self._members[index], tensors))
                batch.append(sample)
        return batch


class _Files:
    """Numbers for paths."""

    def __init__(self) -> None:
        self.paths: List[str] = []
        self._numbers: Dict[str, int] = {}

    def number(self, path: str) -> int:
        if path not in self._numbers:
            self._numbers[path] = len(self.paths)
            self.paths.append(path)
        return self._numbers[path]


def samples(index: Iterable[Tuple[Path, int, int]]) -> Samples:
    """Samples by an index of your own: (file, offset, length) of each."""
    files = _Files()
    pieces: List[Sequence[Piece]] = []
    for path, offset, length in index:
        if offset < 0 or length < 0:
            raise ValueError(f"{os.fsdecode(path)}: a sample of {length} bytes at {offset}")
        pieces.append((Piece(files.number(os.fsdecode(path)), offset, length),))
    return Samples(files.paths, pieces)


def tar(paths: Paths) -> Samples:
    """Shards of WebDataset: tar files, uncompressed, whose members make up samples.

    Members whose names are equal up to the first dot after the last slash, and that follow
    one another, are one sample; what is behind that dot names them in it: "dir/0001.jpg" and
    "dir/0001.json" are the members "jpg" and "json" of the sample "dir/0001". Raises
    ValueError where a name is in a sample twice, and for what is no tar file.
    """
    files = _Files()
    pieces: List[List[Piece]] = []
    members: List[List[str]] = []
    keys: List[str] = []
    for path in _paths(paths):
        last = None
        for name, piece in _tar_members(path, files.number(path)):
            folder, _, base = name.rpartition("/")
            stem, _, member = base.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if key != last:
                pieces.append([])
                members.append([])
                keys.append(key)
                last = key
            if member in members[-1]:
                raise FormatError(f"{path}: {name!r} is there twice")
            pieces[-1].append(piece)
            members[-1].append(member)
    return Samples(files.paths, pieces, members, keys)


def _tar_members(path: str, file: int) -> Iterator[Tuple[str, Piece]]:
    try:
        with open(path, "rb", opener=_open_at_once) as raw, tarfile.open(
            fileobj=raw, mode="r:"
        ) as archive:
            for info in archive:
                if info.issparse():
                    raise FormatError(f"{path}: {info.name!r} is a sparse file")
                if info.isfile():
                    yield info.name, Piece(file, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise FormatError(f"{path}: not an uncompressed tar file: {error}") from None


def _crc32c_table() -> List[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _crc32c_table()


def _masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord: CRC-32C, turned by 15 bits, and a constant added."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def tfrecord(paths: Paths) -> Samples:
    """Records of TFRecord files, found by walking from one length to the next.

    The checksum of each length is verified, that of the data is not. Raises ValueError for
    a file that is not of this format, or compressed.
    """
    files = _Files()
    pieces: List[Sequence[Piece]] = []
    for path in _paths(paths):
        number = files.number(path)
        with open(path, "rb", opener=_open_at_once) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise FormatError(f"{path}: no regular file")
            size, at = about.st_size, 0
            while at < size:
                raw = os.pread(file.fileno(), 12, at)
                if len(raw) < 12 or struct.unpack("<I", raw[8:])[0] != _masked_crc32c(raw[:8]):
                    raise FormatError(f"{path}: no TFRecord at byte {at}")
                (length,) = struct.unpack("<Q", raw[:8])
                if at + 12 + length + 4 > size:
                    raise FormatError(f"{path}: the record at byte {at} goes beyond the end")
                pieces.append((Piece(number, at + 12, length),))
                at += 12 + length + 4
    return Samples(files.paths, pieces)


# ---- Order ----


class _Shuffle:
    """A permutation of range(count) that needs no list: a Feistel network with four rounds.

    It permutes the numbers of an even number of bits; those beyond the count are sent
    through it again until they are within. A few microseconds for each number.
    """

    def __init__(self, count: int, seed: int, epoch: int) -> None:
        self._count = count
        self._half = max((max(count - 1, 1).bit_length() + 1) // 2, 1)
        self._mask = (1 << self._half) - 1
        state = _mix(_mix(seed & _WORD) ^ (epoch & _WORD))
        self._keys = []
        for _ in range(4):
            state = _mix(state)
            self._keys.append(state)

    def __getitem__(self, number: int) -> int:
        while True:
            left, right = number >> self._half, number & self._mask
            for key in self._keys:
                left, right = right, left ^ (_mix(right ^ key) & self._mask)
            number = left << self._half | right
            if number < self._count:
                return number


_WORD = (1 << 64) - 1


def _mix(value: int) -> int:
    """Spreads the bits of a number over 64 of them (the finisher of SplitMix64)."""
    value = (value + 0x9E3779B97F4A7C15) & _WORD
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _WORD
    return value ^ value >> 31


def distributed_rank() -> Tuple[int, int]:
    """(rank, world size), of torch.distributed, or of RANK and WORLD_SIZE, or (0, 1)."""
    torch = sys.modules.get("torch")
    if torch is not None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return int(distributed.get_rank()), int(distributed.get_world_size())
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


# ---- Memory ----


class _Pool:
    """Buffers that are used again when nothing refers to their tensors any more.

    Not on CUDA devices: work of the GPU may still use memory that Python has let go of.
    There a buffer is freed, which the driver holds back until that work is done.
    """

    def __init__(self, device: Device, keep: int) -> None:
        self._device = device
        self._reuse = not device.name.startswith("cuda:")
        # A deque, since the collector may give back in the middle of anything.
        self._free: Deque[Buffer] = deque(maxlen=keep)

    def take(self, nbytes: int) -> Buffer:
        if not self._reuse:
            return self._device.alloc(nbytes)
        buffer = self._fitting(nbytes) or self._device.alloc(-(-nbytes // _PAGE) * _PAGE)
        lease = Handle(buffer._open().pointer, _giver(self._free, buffer), ())
        return Buffer(self._device, lease, buffer.nbytes)

    def _fitting(self, nbytes: int) -> Optional[Buffer]:
        for _ in range(len(self._free)):
            try:
                buffer = self._free.popleft()
            except IndexError:
                return None
            if nbytes <= buffer.nbytes <= 4 * nbytes + _PAGE:
                return buffer
            self._free.append(buffer)
        return None


def _giver(free: Deque[Buffer], buffer: Buffer) -> Callable[[int], None]:
    return lambda _pointer: free.append(buffer)


class _OpenFiles:
    """The files in use, of which the least recently used is closed when there are many."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._open: OrderedDict[int, File] = OrderedDict()

    def __getitem__(self, number: int) -> File:
        if number not in self._open:
            self._open[number] = File(self._paths[number])
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(number)
        return self._open[number]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


# ---- Batches ----


class _Ahead(NamedTuple):
    """A batch on its way."""

    batch: Batch
    buffer: Buffer
    indices: List[int]
    places: List[List[int]]
    lengths: List[int]


class Loader:
    """Batches of a dataset in the memory of a device, read ahead of their use.

    dataset      what `records()`, `npy()`, `samples()`, `tar()` or `tfrecord()` gave
    batch_size   samples of a batch of this process
    device       "cpu", "cuda:0", another name of gds.Device(), or a gds.Device
    shuffle      another order in each epoch, drawn from `seed` and the epoch's number
    epochs       that one iteration goes through; None: without end
    prefetch     batches that are read ahead of the one in use
    drop_last    leave out the last batch of an epoch where it is not full
    rank, world_size
                 which share of how many is this process's; as torch.distributed says it, or
                 RANK and WORLD_SIZE of the environment, where they are not given
    framework    "gds", "pt", "np" or "jax": what the tensors are of
    read_class   "foreground", "prefetch" or "background": see Reader.batch()

    All ranks get the same number of batches of the same sizes: where an epoch's last samples
    cannot be dealt out evenly, some from its beginning are dealt out again, or, with
    `drop_last`, they are left out.

    Each `iter()` goes on where the last one stopped. `state_dict()` tells where that is:
    behind the last batch that was handed out, whatever was read ahead. A loader of another
    process, and of another number of processes, goes on there after `load_state_dict()`.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        device: Any = "cpu",
        shuffle: bool = False,
        seed: int = 0,
        epochs: Optional[int] = 1,
        prefetch: int = 2,
        drop_last: bool = False,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        framework: str = "gds",
        reader: Optional[Reader] = None,
        read_class: str = "foreground",
    ) -> None:
        if batch_size < 1 or prefetch < 0:
            raise ValueError(f"a batch size of {batch_size}, {prefetch} batches ahead")
        known_rank, known_size = distributed_rank()
        self._rank = known_rank if rank is None else rank
        self._world = known_size if world_size is None else world_size
        if not 0 <= self._rank < self._world:
            raise ValueError(f"rank {self._rank} of {self._world}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.epoch = 0
        """The epoch of the next batch, from 0 on."""
        self._done = 0  # samples of it that all ranks together have had
        self._device = _device(device)
        self._shuffle = shuffle
        self._seed = seed
        self._epochs = epochs
        self._prefetch = prefetch
        self._drop_last = drop_last
        self._framework = _framework(framework)
        self._reader = reader
        self._class = read_class
        _number(read_class, CLASSES, "read_class")
        self._pool = _Pool(self._device, prefetch + 2)

    def __len__(self) -> int:
        """Batches of an epoch."""
        step = self.batch_size * self._world
        count = len(self.dataset)
        return count // step if self._drop_last else -(-count // step)

    # ---- Where it is ----

    def state_dict(self) -> Dict[str, Any]:
        """Where it is, for `load_state_dict()`: plain numbers, to be saved as you like."""
        return {
            "epoch": self.epoch,
            "samples_done": self._done,
            "samples": len(self.dataset),
            "seed": self._seed,
            "shuffle": self._shuffle,
        }

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Goes on where a loader of the same samples, seed and order was.

        Raises ValueError where they are others, or where the batches of that loader do not
        end where one of this one does.
        """
        mine = self.state_dict()
        for key in ("samples", "seed", "shuffle"):
            if state.get(key) != mine[key]:
                raise ValueError(f"the state is of {key}={state.get(key)}, not {mine[key]}")
        done, epoch = state["samples_done"], state["epoch"]
        step = self.batch_size * self._world
        if done % step and done < len(self.dataset):
            raise ValueError(
                f"the state is {done} samples into an epoch, and batches of {self.batch_size} "
                f"in {self._world} processes do not end there"
            )
        self.epoch, self._done = int(epoch), int(done)
        if self._over(self._done):
            self.epoch, self._done = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch."""
        self.epoch, self._done = epoch, 0

    def _over(self, done: int) -> bool:
        return done // (self.batch_size * self._world) >= len(self)

    # ---- What it hands out ----

    def __iter__(self) -> Iterator[Any]:
        if len(self) == 0:
            return
        files = _OpenFiles(self.dataset.files)
        reader = self._reader or default_reader()
        ahead: Deque[Tuple[_Ahead, int, int]] = deque()
        plan = self._plan()
        try:
            while True:
                while len(ahead) <= self._prefetch:
                    following = next(plan, None)
                    if following is None:
                        break
                    positions, epoch, done = following
                    ahead.append((self._start(reader, files, positions), epoch, done))
                if not ahead:
                    return
                made = self._finish(ahead[0][0])
                _, self.epoch, self._done = ahead.popleft()
                yield made
        finally:
            for waiting, _, _ in ahead:
                waiting.batch.close()
            files.close()

    def _plan(self) -> Iterator[Tuple[List[int], int, int]]:
        """The samples of each batch, and where the loader is behind it."""
        epoch, done = self.epoch, self._done
        left = self._epochs
        while left is None or left > 0:
            order: Any = range(len(self.dataset))
            if self._shuffle:
                order = _Shuffle(len(self.dataset), self._seed, epoch)
            while not self._over(done):
                places = self._share(done)
                done += self.batch_size * self._world
                over = self._over(done)
                yield [order[place] for place in places], epoch + over, 0 if over else done
            epoch, done = epoch + 1, 0
            left = left if left is None else left - 1

    def _share(self, done: int) -> List[int]:
        """Of the samples that all ranks take next, the places in the order of this one's."""
        count = len(self.dataset)
        each = min(self.batch_size, -(-(count - done) // self._world))
        first = done + self._rank * each
        return [place % count for place in range(first, first + each)]

    def _start(self, reader: Reader, files: _OpenFiles, indices: List[int]) -> _Ahead:
        pieces = [self.dataset.pieces(index) for index in indices]
        places, nbytes = self.dataset.layout(pieces)
        buffer = self._pool.take(nbytes)
        merged = _merge(
            (piece, place)
            for sample, sample_places in zip(pieces, places)
            for piece, place in zip(sample, sample_places)
        )
        batch = reader.batch(capacity=len(merged), read_class=self._class)
        batch.add_many(
            (files[piece.file], buffer, piece.offset, piece.length, place)
            for piece, place in merged
        )
        lengths = [piece.length for piece, _ in merged]
        return _Ahead(batch.submit(), buffer, indices, places, lengths)

    def _finish(self, ahead: _Ahead) -> Any:
        with ahead.batch as batch:
            for result, length in zip(batch.results(), ahead.lengths):
                if result.nbytes != length:
                    raise FormatError(
                        f"a file of {self.dataset.files} has become shorter: "
                        f"{result.nbytes} of {length} bytes were there"
                    )
        return self.dataset.assemble(ahead.buffer, ahead.indices, ahead.places, self._framework)

    def __repr__(self) -> str:
        reader = self._reader or default_reader()
        return (
            f"<gds.datasets.Loader of {len(self.dataset)} samples in batches of "
            f"{self.batch_size}, rank {self._rank} of {self._world}, epoch {self.epoch}, "
            f"{self._device.name}, {reader!r}>"
        )


def _merge(pieces: Iterable[Tuple[Piece, int]]) -> List[Tuple[Piece, int]]:
    """Pieces that follow one another in the file and in memory become one."""
    merged: List[Tuple[Piece, int]] = []
    for piece, place in pieces:
        if piece.length == 0:
            continue
        if merged:
            last, last_place = merged[-1]
            if (
                last.file == piece.file
                and last.offset + last.length == piece.offset
                and last_place + last.length == place
            ):
                merged[-1] = (last._replace(length=last.length + piece.length), last_place)
                continue
        merged.append((piece, place))
    return merged
