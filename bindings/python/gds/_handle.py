# SPDX-License-Identifier: Apache-2.0
"""How long the objects of the C library live.

A handle owns one of them and closes it when the last reference to the handle is gone.
Whatever must outlive it is held by the handle, so that a device is closed after its
buffers in whatever order the program lets go of them.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Callable, Tuple


def _close(owner: int, close: Callable[[int], None], pointer: int, keeps: Tuple[Any, ...]) -> None:
    # After fork() the child must leave the objects of its parent alone.
    if os.getpid() == owner:
        close(pointer)


class Handle:
    """A C object, what closes it, and what has to stay until then.

    What is open when the interpreter ends stays open, and goes with the process: memory may
    still be in use by others then. `at_exit` closes it all the same.
    """

    __slots__ = ("__weakref__", "_finalizer", "pointer")

    def __init__(
        self,
        pointer: int,
        close: Callable[[int], None],
        keeps: Tuple[Any, ...] = (),
        at_exit: bool = False,
    ) -> None:
        self.pointer = pointer
        self._finalizer = weakref.finalize(self, _close, os.getpid(), close, pointer, keeps)
        self._finalizer.atexit = at_exit

    def close(self) -> None:
        """Closes the object now. Once is enough, more do no harm."""
        self._finalizer()
