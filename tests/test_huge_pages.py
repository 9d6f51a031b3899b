"""Huge pages are requested for large memory of the CPU, and nothing else changes."""

import re
import sys
from pathlib import Path

import pytest
import torch

from minimoe.huge_pages import HUGE_PAGE, with_huge_pages


def flags_at(address):
    """The flags of the mapping that contains `address`; "hg" says that huge pages were requested."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    return None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="madvise is Linux's")
def test_large_memory_is_advised_inside_its_own_bounds():
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this kernel has no huge pages")
    memory = torch.zeros(8 * HUGE_PAGE, dtype=torch.uint8)
    assert with_huge_pages(memory) is memory
    assert "hg" in flags_at(memory.data_ptr() + 3 * HUGE_PAGE)
    assert not memory.any()


@pytest.mark.parametrize("memory", [torch.arange(1000), torch.empty(0), torch.empty(2**30, device="meta")])
def test_small_memory_and_other_devices_stay_as_they_are(memory):
    before = memory.clone()
    assert with_huge_pages(memory) is memory
    assert memory.is_meta or torch.equal(memory, before)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_nothing_is_called_on_other_systems(system, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("madvise was looked up"))
    memory = torch.ones(4 * HUGE_PAGE, dtype=torch.uint8)
    assert with_huge_pages(memory).all()
