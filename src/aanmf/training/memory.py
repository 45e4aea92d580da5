"""Memory that is no longer used, returned to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Collects garbage, and has the C library of Linux return what it keeps for later: gigabytes, after large arrays.

    Elsewhere it returns memory by itself, or not at all.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
