"""`foveate bench --engine vllm`: stock vLLM, the plug-in and the limit in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foveate.apps.bench.served.arms import _find_rows
from foveate.apps.bench.settings import check_options
from foveate.errors import InputError
from foveate.method.budget import to_budget

PROGRAM = str(Path(sys.executable).with_name("foveate"))


def test_options_of_another_engine():
    check_options("vllm", hf={"--batch": None}, vllm={"--concurrency": "1"})
    with pytest.raises(InputError, match="--concurrency is for --engine vllm: leave it out"):
        check_options("hf", hf={"--batch": "1"}, vllm={"--concurrency": "1"})


def test_the_sides_of_the_limit_s_image():
    assert [_find_rows(count) for count in (64, 58, 59, 1)] == [8, 2, 1, 1]


def bench(tmp_path: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    command = [PROGRAM, "bench", "--engine", "vllm", "--no-plot", "--out", str(tmp_path), *options]
    settings = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | settings), tmp_path


@pytest.mark.heavy
def test_a_run(tmp_path):
    """Clients and random arrivals, one and two questions about each image."""
    pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")
    quick = ("--concurrency", "1,3", "--requests", "3", "--rounds", "1", "--new-tokens", "4", "--json")
    load = ("--questions-per-image", "1,2", "--rate", "0.5x", "--reuse", "question,auto", "--bound", "600000,600000")
    done, out = bench(tmp_path, "--model", "bundled-qwen", "--keep", "0.2", "--image-size", "224", *quick, *load)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((out / "bench.json").read_text())
    assert record == json.loads(done.stdout.splitlines()[-1])
    assert (out / "table.md").read_text() in done.stdout
    whole, pruned, shared, limit = record["arms"]
    kept = int(limit["name"].removeprefix("limit of ").removesuffix(" tokens"))
    assert kept == to_budget(0.2, whole["prompt"] - pruned["prompt"] + kept)
    assert [whole["name"], pruned["name"], limit["of"]] == ["unpruned", "foveate, keep 0.2", "foveate, keep 0.2"]
    assert shared["name"] == "foveate, keep 0.2, reuse auto"
    assert limit["prompt"] == pruned["prompt"] == shared["prompt"]
    assert pruned["fit"] > whole["fit"] == 16
    for arm in record["arms"]:
        blocks = -(-(arm["prompt"] + 4) // 32)
        kinds = [(case["questions"], case["clients"], case["requests"]) for case in arm["cases"]]
        assert kinds == [(1, 1, 3), (1, 3, 3), (2, 1, 4), (2, 3, 6), (1, 0, 4), (2, 0, 8)]
        for case in arm["cases"][:2]:  # a request's last block may be filled by a token that needs no place any more
            assert case["clients"] * (blocks - 1) <= case["kv_blocks"] <= case["clients"] * blocks
        for case, closed in zip(arm["cases"][4:], (1, 3), strict=True):
            throughput = whole["cases"][closed]["requests_a_second"]["median"]
            assert case["rate"] == pytest.approx(throughput / 2)
        for case in arm["cases"]:
            assert len(case["seconds"]) == 1
            assert case["goodput"] == case["requests_a_second"]  # the bound is far away
            assert 0 < case["first_token_percentiles"]["50"] <= case["first_token_percentiles"]["99"]
            assert case["first_token_percentiles"]["50"] == pytest.approx(case["first_token"]["median"])
            assert case["per_token_percentiles"]["50"] > 0
    assert whole["cases"][0]["first_token_ratio"] == {"low": 1, "median": 1, "high": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "llava-next-7b"], "has no processor for the shape llava-next-7b"),
        (["--model", "bundled", "--layers", "2"], "--layers is for shapes"),
        (["--model", "bundled", "--image-size", "224,336"], "takes one --image-size at a time"),
        (["--batch", "2"], "--batch is for --engine hf"),
        (["--method", "zspaprune(core=0.5)"], "a method is set by its name"),
        (["--concurrency", "none"], "--concurrency 'none': give whole numbers"),
        (["--questions-per-image", "0"], "--questions-per-image '0': give whole numbers"),
    ],
)
def test_bad_input(tmp_path, options, message):
    done, _ = bench(tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
