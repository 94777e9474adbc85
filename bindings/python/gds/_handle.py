# SPDX-License-Identifier: Apache-2.0
"""How long the objects of the C library live.

A handle owns one of them and closes it when the last reference to the handle is gone.
Whatever must outlive it is held by the handle, so that a device is closed after its
buffers in whatever order the program lets go of them.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Callable, List, Tuple


_forks = 0  # between the process that this one began as and itself
_renewed: List[Callable[[], None]] = []


def _count_fork() -> None:
    global _forks
    _forks += 1
    for renew in _renewed:
        renew()


os.register_at_fork(after_in_child=_count_fork)


def after_fork(renew: Callable[[], None]) -> Callable[[], None]:
    """Has something called in each child: what other threads held then is held for ever."""
    _renewed.append(renew)
    return renew


def _close(forks: int, close: Callable[[int], None], pointer: int, keeps: Tuple[Any, ...]) -> None:
    # After fork() the child must leave the objects of its parent alone.
    if _forks == forks:
        close(pointer)


class Handle:
    """A C object, what closes it, and what has to stay until then.

    What is open when the interpreter ends stays open, and goes with the process: memory may
    still be in use by others then. `at_exit` closes it all the same.
    """

    __slots__ = ("__weakref__", "_finalizer", "_forks", "_pointer")

    def __init__(
        self,
        pointer: int,
        close: Callable[[int], None],
        keeps: Tuple[Any, ...] = (),
        at_exit: bool = False,
    ) -> None:
        self._pointer = pointer
        self._forks = _forks
        self._finalizer = weakref.finalize(self, _close, _forks, close, pointer, keeps)
        self._finalizer.atexit = at_exit

    @property
    def pointer(self) -> int:
        """The object, for a call. Raises RuntimeError in a child of the process it is of."""
        self.check_process()
        return self._pointer

    def check_process(self) -> None:
        """Raises RuntimeError in a child of the process that the object is of."""
        if self.inherited:
            raise RuntimeError(
                "this object of gds was opened before fork(): a child opens objects of its own"
            )

    def __reduce__(self) -> Any:
        raise TypeError(
            "objects of gds cannot be pickled or copied: a process opens its own, and "
            "tensor.numpy() or tensor.tobytes() are what travels"
        )

    @property
    def inherited(self) -> bool:
        """It is of a parent of this process."""
        return self._forks != _forks

    def close(self) -> None:
        """Closes the object now. Once is enough, more do no harm."""
        self._finalizer()
