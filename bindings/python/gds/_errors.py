# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the package, all of which are OSErrors with an errno."""

from __future__ import annotations

import concurrent.futures
import errno
from typing import Dict, Type

from ._library import last_error


class Error(OSError):
    """What the library refused or could not do: `errno`, and its message in `strerror`."""


class NotFoundError(Error, FileNotFoundError):
    """ENOENT: there is no such file."""


class DeniedError(Error, PermissionError):
    """EACCES or EPERM: the system does not allow it."""


class DirectoryError(Error, IsADirectoryError):
    """EISDIR: a directory was named where a file is wanted."""


class TimedOutError(Error, TimeoutError):
    """ETIMEDOUT: the reads are not done yet, and still in flight."""


class DeadlineError(TimedOutError):
    """ETIMEDOUT, of a read whose batch had a deadline: it is over, and did not get all bytes."""


class CancelledError(Error, concurrent.futures.CancelledError):
    """ECANCELED: the read was given up, and its range has undefined contents."""


_CLASSES: Dict[int, Type[Error]] = {
    errno.ENOENT: NotFoundError,
    errno.EACCES: DeniedError,
    errno.EPERM: DeniedError,
    errno.EISDIR: DirectoryError,
    errno.ETIMEDOUT: TimedOutError,
    errno.ECANCELED: CancelledError,
}


def make_error(number: int, message: str) -> Error:
    """The exception for a positive errno and a message."""
    return _CLASSES.get(number, Error)(number, message)


def check(result: int) -> int:
    """Gives back the result of a C call, or raises what it failed with."""
    if result < 0:
        raise make_error(-result, last_error())
    return result
