"""Freed tensors are given back to the system, also between others that stay."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HOLES = """
import sys, torch
from sightline.train.figures import status_bytes
from sightline.train.heap import give_back_freed_memory
if sys.argv[1] == "yes":
    assert give_back_freed_memory()
del (large := [torch.ones(7 * 2**20)])[:]  # from here on glibc would keep up to 28 MiB in its heap
tensors = [torch.ones(2**19) for _ in range(80)]  # 2 MiB each
before = status_bytes("VmRSS")
del tensors[:-1:2]
print((before - status_bytes("VmRSS")) // 2**20)
"""


def freed(answer: str) -> int:
    """MiB that the system gets back of 80."""
    done = subprocess.run([sys.executable, "-c", HOLES, answer], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap of another C library")
def test_holes_in_the_heap_are_no_memory() -> None:
    assert freed("yes") >= 70
    assert freed("no") < 40
