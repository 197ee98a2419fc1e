import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
import torch
from amodalseg.models.memory import M_MMAP_THRESHOLD, keep_freed_memory

def fresh_pages():
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        maps = [torch.empty(5_000_000).fill_(1) for _ in range(5)]
        del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**17)  # as a process begins; left alone it would depend on its history
first = fresh_pages()
keep_freed_memory()
print(first, fresh_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these switches")
def test_freed_memory_is_reused_without_new_pages() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    fresh, kept = map(int, done.stdout.split())
    assert kept < 0.1 * fresh
