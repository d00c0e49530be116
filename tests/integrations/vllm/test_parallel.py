"""The ranks of a tensor-parallel group choose the same tokens, also from features that each of them keeps."""

from __future__ import annotations

import os

import pytest

from integrations.vllm.models import chat, make_image

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

RANKS = 2


@pytest.mark.skipif((os.cpu_count() or 1) < RANKS, reason="a rank needs a core of its own")
def test_tensor_parallelism(engines, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")  # the core of each rank
    options = {"tensor_parallel_size": RANKS, "distributed_executor_backend": "mp"}
    engine = engines.start("llava", **options)
    images = [make_image(70), make_image(71, 90, 120)]
    for question in ("how many circles are there", "what is in the image a red square"):
        for settings in ({}, {"keep": 3}, {"method": "cdpruner"}, {"positions": "compact"}, {"keep": 1.0}):
            engine.check_answer(chat(question, 2), images, **settings)
    engines.stop()
