"""Settings of the C library's memory allocator for networks on a CPU."""

from __future__ import annotations

import ctypes
import platform

MMAP_THRESHOLD = 32 * 2**20
"""Threshold in bytes; glibc ignores a larger value."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of the parameters in malloc.h."""


def keep_freed_memory() -> None:
    """Have the C library keep the memory of freed feature maps for reuse instead of returning it to the system.

    Otherwise, new pages cost up to a quarter of an evaluation or a training step. Blocks above 32 MB still go back.
    Only glibc has these options; elsewhere this function does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
