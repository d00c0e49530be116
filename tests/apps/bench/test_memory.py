import sys

import pytest
import torch

from foveate.apps.bench import memory
from foveate.apps.bench.memory import available, peak_of

MIB = 2**20
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel counts on Linux alone")


@linux
def test_the_peak_of_a_call():
    def call():
        big = torch.ones(64 * MIB // 4)
        del big
        torch.ones(MIB)

    peak = peak_of(call, torch.device("cpu"))
    assert peak.before > 0
    assert 60 * MIB < peak.above < 96 * MIB  # the larger of two tensors that are never there together
    assert peak_of(lambda: None, torch.device("cpu")).above < 8 * MIB  # and the next call has a peak of its own


def test_where_nobody_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "none" / "clear_refs")
    called = []
    assert peak_of(lambda: called.append(1), torch.device("cpu")) is None
    assert peak_of(lambda: called.append(1), torch.device("meta")) is None
    assert called == [1, 1]
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "meminfo")
    assert available("cpu") is None
    assert available("mps") is None


def test_the_kernels_tables(monkeypatch, tmp_path):
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       100 kB\nMemAvailable:    64 kB\n")
    monkeypatch.setattr(memory, "MEMORY", table)
    assert available("cpu") == 64 * 1024
