# SPDX-License-Identifier: Apache-2.0
"""The library's log lines go to the logger "gds" of the module logging."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
from typing import Any

from . import _library
from ._library import lib, text

logger = logging.getLogger("gds")

_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
_NAMES = ("error", "warning", "info", "debug")


def _log(level: int, line: bytes, _user: Any) -> None:
    logger.log(_LEVELS[level], "%s", text(line))


_callback = _library.LOG(_log)


def set_log_level(level: int) -> None:
    """Has the library log lines up to a level of `logging`, such as logging.INFO.

    They go to the logger "gds". At the start the level is that of the environment variable
    GDS_LOG (error, warning, info or debug), or WARNING, which tells of falls back to slower
    ways. The logger's own level still applies.
    """
    if not isinstance(level, int):
        raise TypeError(f"a level is a number of logging's, not {type(level).__name__}")
    number = max((i for i, known in enumerate(_LEVELS) if known >= level), default=0)
    lib.gds_log_set(number, ctypes.cast(_callback, ctypes.c_void_p), None)


def _start() -> None:
    named = os.environ.get("GDS_LOG", "")
    set_log_level(_LEVELS[_NAMES.index(named)] if named in _NAMES else logging.WARNING)
    # Threads of the library may still have something to say when there is no interpreter.
    atexit.register(lib.gds_log_set, 0, None, None)


_start()
