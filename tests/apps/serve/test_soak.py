"""`benchmarks/soak.py` in its short forms, and what it calls lost, wrong and doubled."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
KINDS = {"ask", "stream", "slow body", "slow reader", "wrong", "leave", "large", "burst", "health", "metrics", "all"}


def run_soak(out: Path, *options: str) -> dict:
    """The record of a soak that must find nothing."""
    command = [sys.executable, BENCHMARKS / "soak.py", "--out", out, *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    record = json.loads(out.read_text())
    total = record["requests"]["all"]
    assert (total["lost"], total["wrong"], total["doubled"], record["faults"]) == (0, 0, 0, [])
    assert total["answered"] > 0
    assert total["requests"] == sum(row["requests"] for kind, row in record["requests"].items() if kind != "all")
    assert "| all |" in result.stdout
    return record


@pytest.mark.heavy
def test_seconds(tmp_path):
    record = run_soak(tmp_path / "soak.json", "--minutes", "0.1", "--servers", "2", "--clients", "4")
    assert len(record["servers"]) == 2
    assert all(server["memory_last"] > 0 and server["descriptors_first"] > 0 for server in record["servers"].values())


@pytest.mark.soak
def test_two_minutes(tmp_path):
    record = run_soak(tmp_path / "soak.json", "--minutes", "2")
    assert set(record["requests"]) == KINDS
    for server in record["servers"].values():
        assert server["descriptors_last"] <= server["descriptors_first"] + 2


@pytest.fixture
def soak(monkeypatch):
    """A module of the script, by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_judge(soak):
    judge, reply = soak("soak_record").judge, soak("soak_clients").SoakReply
    answer, refusal = reply(200, ("red", "stop"), ("a",)), reply(400, {"message": "No."})
    assert judge(answer, reply(200, ("red", "stop"), ("b",)), was_stopping=False) == "answered"
    assert judge(refusal, refusal, was_stopping=False) == "refused"
    assert judge(reply(503, {"message": "Busy."}), answer, was_stopping=False) == "busy"
    for wrong in (reply(200, ("blue", "stop")), refusal, reply(500, {"message": "No."})):
        assert judge(wrong, answer, was_stopping=True) == "wrong"
    assert judge(reply(error="cut off"), answer, was_stopping=False) == "lost"
    assert judge(reply(error="cut off"), answer, was_stopping=True) == "unaccepted"
    assert judge(reply(503, error="status 503 without a sentence"), answer, was_stopping=True) == "lost"
    assert judge(reply(200, "re", ends=0), answer, was_stopping=True) == "lost"
    assert judge(reply(200, "red", ends=2), answer, was_stopping=False) == "doubled"


def chunk(content=None, reason=None, **more):
    return {"id": "a", "choices": [{"delta": {"content": content}, "finish_reason": reason}], **more}


def test_streams(soak):
    read = soak("soak_clients").read_stream
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    end, last = chunk(reason="stop", foveate={"kept": [3]}), {"id": "a", "choices": [], "usage": usage}
    assert read([chunk(""), chunk("re"), chunk("d"), end, last]).content == ("red", "stop", 9, 2, (3,))
    assert read([chunk("re"), chunk("d")]).ends == 0
    assert read([chunk("red"), end, end, last]).ends == 2


def test_record(soak):
    reply, record = soak("soak_clients").SoakReply(200, "red", ("a",)), soak("soak_record").SoakRecord()
    record.add("ask", "answered", 0.0, reply)
    record.add("leave", "left", 0.0)
    record.check_counts(2)  # the client that left may have been answered
    assert not record.faults
    record.add("ask", "answered", 0.0, reply)
    assert record.total()["doubled"] == 1  # the same id
    record.answers = 0
    record.add("ask", "answered", 0.0, soak("soak_clients").SoakReply(200, "red", ("b",)))
    record.add("ask", "answered", 0.0, soak("soak_clients").SoakReply(200, "red", ("c",)))
    record.check_counts(3)  # two were received
    record.answers = 1
    record.check_counts(0)
    assert (record.total()["doubled"], record.total()["lost"]) == (2, 1)
    assert [fault.split(":")[0] for fault in record.faults] == ["ask", "counts", "counts"]


def test_percentiles(soak):
    percentiles = soak("soak_record").percentiles
    assert percentiles([n / 1000 for n in range(101)]) == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}
    assert percentiles([0.5])["p99_ms"] == 500
    assert percentiles([])["p50_ms"] is None
