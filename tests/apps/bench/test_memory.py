import sys

import pytest
import torch

from foveate.apps.bench import memory
from foveate.apps.bench.memory import measure_peak, read_free_memory

MIB = 2**20
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel counts on Linux alone")


@linux
def test_the_peak_of_a_call():
    def call():
        big = torch.ones(64 * MIB // 4)
        del big
        torch.ones(MIB)

    peak = measure_peak(call, torch.device("cpu"))
    assert peak.before > 0
    assert 60 * MIB < peak.above < 96 * MIB  # the larger of two tensors that never exist together
    assert measure_peak(lambda: None, torch.device("cpu")).above < 8 * MIB  # and the next call has its own peak


def test_without_counters(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "none" / "clear_refs")
    called = []
    assert measure_peak(lambda: called.append(1), torch.device("cpu")) is None
    assert measure_peak(lambda: called.append(1), torch.device("meta")) is None
    assert called == [1, 1]
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    assert read_free_memory("cpu") is None
    assert read_free_memory("mps") is None


def test_the_kernels_tables(monkeypatch, tmp_path):
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       100 kB\nMemAvailable:    64 kB\n")
    monkeypatch.setattr(memory, "MEMORY", table)
    assert read_free_memory("cpu") == 64 * 1024
