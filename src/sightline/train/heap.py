"""What the C library does with freed memory.

Comes in: nothing. Goes out: a process that gives large tensors back to the system when they are freed. Knows no torch.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
"""Of mallopt(3)."""
LARGE = 2**20
"""Bytes. A page fault for each 4 KiB of such a tensor is small beside the arithmetic that fills it."""


def give_back_freed_memory() -> bool:
    """Keeps tensors of a megabyte and more out of the heap; to be called before they are made. Other systems: nothing.

    glibc moves ever larger blocks (up to 32 MiB) into its heap, where rows of unequal lengths leave holes that nothing
    fits into: resident memory grows by a quarter or more over what is in use. Setting the threshold ends that.

    Returns:
        Whether the C library has agreed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, LARGE) == 1
