# SPDX-License-Identifier: Apache-2.0
"""gds in torch.utils.data: a dataset that a DataLoader takes.

    data = gds.torch.BatchDataset(gds.datasets.records("tokens.bin", "uint16", (1024,)), 8)
    for batch in torch.utils.data.DataLoader(data, batch_size=None, num_workers=2):
        ...
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, Optional

import torch.utils.data

from .datasets import Dataset, Loader, distributed_rank

__all__ = ["BatchDataset"]


class BatchDataset(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """Batches of torch tensors, as a `torch.utils.data.IterableDataset`.

    The arguments are those of gds.datasets.Loader, but for the framework. Give a DataLoader
    `batch_size=None`: the batches are made already. Each of its workers reads its own share
    of that of the process, with a reader of its own; without workers the reads run in a
    thread of the library, which needs no worker to be ahead.

    Each iteration is another epoch. A state can be saved and loaded where there are no
    workers, or by a loader that asks each of them for theirs.
    """

    def __init__(self, dataset: Dataset, batch_size: int, **options: Any) -> None:
        super().__init__()
        self._dataset = dataset
        self._batch_size = batch_size
        rank, size = distributed_rank()
        self._options: Dict[str, Any] = {"rank": rank, "world_size": size, **options}
        self._loader: Optional[Loader] = None
        self._state: Optional[Dict[str, Any]] = None
        self._epoch = 0
        self._process = 0

    def _make(self) -> Loader:
        """A loader for this process: objects of gds do not cross a fork."""
        options = dict(self._options)
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            options["rank"] = options["rank"] * worker.num_workers + worker.id
            options["world_size"] = options["world_size"] * worker.num_workers
        loader = Loader(self._dataset, self._batch_size, framework="pt", **options)
        loader.set_epoch(self._epoch)
        if self._state is not None:
            loader.load_state_dict(self._state)
            self._state = None
        return loader

    def _here(self) -> Loader:
        if self._loader is None or self._process != os.getpid():
            self._loader, self._process = self._make(), os.getpid()
        return self._loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self._here())

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch: call it before each, where there are workers."""
        self._epoch = epoch
        if self._loader is not None:
            self._loader.set_epoch(epoch)

    def state_dict(self) -> Dict[str, Any]:
        """Where it is: that of gds.datasets.Loader."""
        return self._here().state_dict()

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Goes on there."""
        self._state = state
        self._loader = None

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_loader": None}
