"""The server killed and started again under load: nothing wrong is answered, nothing is lost, nothing stays behind."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from integrations.vllm.fault_load import FaultLoad, find_children, is_alive, wait_for
from integrations.vllm.server_process import VllmProcess, find_port

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

CLIENTS, LOAD = 4, 12  # threads, seconds


def find_engine(server: VllmProcess) -> int:
    """The process in which the engine runs."""
    return next(pid for pid, name in find_children(server.process.pid).items() if "EngineCore" in name)


def read_metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0].split("{")[0]: float(line.rpartition(" ")[2]) for line in lines}


def read_memory(server: VllmProcess) -> float:
    """MiB of the server and its engine."""
    pids = [server.process.pid, *find_children(server.process.pid)]
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * 4096 / 2**20


@pytest.mark.faults
@pytest.mark.parametrize("victim", ["engine", "all"])
def test_killed_and_started_again(victim, tmp_path, monkeypatch):
    """Its engine, or every process of it, is killed under load. Clients that try again get the right answers.

    (Where the server alone is killed, vLLM's engine process outlives it: supervisors end all processes of a service.)
    """
    server = VllmProcess(tmp_path / "first", port := find_port())
    load = FaultLoad(server.url, monkeypatch)
    threads = [threading.Thread(target=load.run_client) for _ in range(CLIENTS)]
    try:
        for thread in threads:
            thread.start()
        time.sleep(LOAD)
        before, family = load.counts["ask"], [server.process.pid, *find_children(server.process.pid)]
        for pid in [find_engine(server)] if victim == "engine" else family:
            with suppress(ProcessLookupError):  # it went with its parent
                os.kill(pid, signal.SIGKILL)
        server.process.wait(90)  # with code 0 where the engine died
        wait_for(lambda: not any(map(is_alive, family)))
        server = VllmProcess(tmp_path / "second", port)
        wait_for(lambda: load.counts["ask"] >= before + 2 * len(load.good), 180)
        first = read_memory(server)
        wait_for(lambda: load.counts["ask"] >= before + 6 * len(load.good), 180)
        load.over.set()
        for thread in threads:
            thread.join(300)
        assert not load.faults
        assert load.counts["refused"]
        assert load.counts["leave"]
        wait_for(lambda: read_metrics(server.url)["vllm:num_requests_running"] == 0)
        metrics = read_metrics(server.url)
        assert (metrics["vllm:num_requests_waiting"], metrics["vllm:kv_cache_usage_perc"]) == (0, 0)
        assert read_memory(server) - first < 64
        assert [load.ask(n) for n in range(len(load.good))] == load.quiet
    finally:
        load.over.set()
        server.stop()
    wait_for(lambda: not any(map(is_alive, [server.process.pid, *family])))
