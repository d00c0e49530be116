"""`examples/ray_serve.py`: two replicas behind one address, one of which is killed under load."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from integrations.vllm.fault_load import FaultLoad, find_children, is_alive, wait_for
from scripts import load_script

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE", "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "RAY_USAGE_STATS_ENABLED": "0",
}  # fmt: skip
ARGUMENTS = {
    "model": "bundled", "keep": "0.1", "replicas": "2", "cpus": "0.5", "max_model_len": "1024", "dtype": "float32",
    "enforce_eager": "true", "trust_request_mm_kwargs": "true",
}  # fmt: skip


@pytest.fixture
def example():
    """The module."""
    return load_script("examples/ray_serve.py")


def test_arguments(example, monkeypatch):
    values = {"0.1": 0.1, "64": 64, "true": True, "auto": "auto", "float32": "float32", '{"image": 2}': {"image": 2}}
    assert [example.parse_value(text) for text in values] == list(values.values())
    assert {"keep", "method", "reuse", "feature_cache_gib"} <= example.PRUNING
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert example.use_cpus(0.5)["runtime_env"]["env_vars"]["VLLM_CPU_KVCACHE_SPACE"] == "1"


@pytest.fixture
def address(example, monkeypatch):
    """Where the application answers; Ray ends with the test."""
    pytest.importorskip("ray.serve.llm", reason="Ray Serve is not installed here", exc_type=ImportError)
    import ray
    from ray import serve

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=256 * 2**20)
    try:
        serve.run(example.build(ARGUMENTS))
        yield "http://127.0.0.1:8000"
    finally:
        serve.shutdown()
        ray.shutdown()


def find_replicas() -> list[int]:
    """The processes of the replicas that run an engine."""
    names = find_children(os.getpid())
    return [pid for pid, name in names.items() if name.startswith("ray::ServeReplica") and "LLMServer" in name]


@pytest.mark.faults
def test_a_replica_is_killed(address, monkeypatch):
    """Nothing is lost: the stock client tries again, and the other replica answers until there is a new one."""
    load = FaultLoad(address, monkeypatch, lambda own: {"mm_processor_kwargs": {"foveate": own}})
    first, *_ = replicas = find_replicas()
    assert len(replicas) == 2
    family = [first, *find_children(first)]
    threads = [threading.Thread(target=load.run_client) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: load.counts["ask"] >= 10)
        before = load.counts["ask"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: load.counts["ask"] >= before + 20)
        wait_for(lambda: len(set(find_replicas()) - {first}) == 2, 300)
        wait_for(lambda: not any(map(is_alive, family)))
        before = load.counts["ask"]
        wait_for(lambda: load.counts["ask"] >= before + 10)
    finally:
        load.over.set()
        for thread in threads:
            thread.join(300)
    assert not load.faults
    assert [load.ask(n) for n in range(len(load.good))] == load.quiet
