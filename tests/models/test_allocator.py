"""The C library keeps freed memory."""

import platform
import subprocess
import sys

import pytest

# Page faults of allocating, touching and freeing 40 MB in turn. The first rounds don't count: glibc
# puts the few bytes that it cuts off beside an aligned block into caches of seven, and until those
# are full the next block doesn't fit where the last one lay.
PROBE = """
import resource
import torch
from cifar100_transfer.models.allocator import keep_freed_memory, return_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(10_000_000).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = min(faults() for _ in range(3))
assert keep_freed_memory()
for _ in range(20):
    faults()
kept = min(faults() for _ in range(3))
return_freed_memory()
print(usual, kept, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_until_it_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    usual, kept, after_return = map(int, done.stdout.split())
    assert kept * 10 < usual
    assert kept * 10 < after_return
