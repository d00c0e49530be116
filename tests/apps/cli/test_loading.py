"""Every command that loads a model takes the options of `load` and hands them on."""

import json
import re

import pytest
import typer

from foveate.apps import cli
from foveate.apps.cli.loading import HELP

COMMANDS = {
    "ask": lambda scene, out: [scene, "what color?"],
    "eval": lambda scene, out: ["--limit", 1, "--out", out, "--no-plot"],
    "bench": lambda scene, out: ["--out", out, "--no-plot"],
    "serve": lambda scene, out: ["--port", 0],
    "demo": lambda scene, out: ["--port", 0],
    "doctor": lambda scene, out: [],
}
OPTIONS = [f"--{name.replace('_', '-')}" for name in HELP]


@pytest.mark.parametrize("command", [*COMMANDS, "batch"])
def test_help_names_the_options(command):
    context = typer.Context(typer.main.get_command(cli.app))
    parameters = context.command.get_command(context, command).params
    assert set(OPTIONS) <= {name for parameter in parameters for name in parameter.opts}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--attention", "fast", "attention 'fast' cannot be used"),
        ("--dtype", "bf16", "dtype 'bf16' is no floating-point type"),
        ("--device-map", '{"model.visoin": "cpu", "": "cpu"}', "do not match any submodules"),
        ("--device-map", '{"": ', "device_map '{\"\": ' is no JSON object"),
        ("--device-map", '["cpu"]', "is no JSON object"),
        ("--device-map", "nowhere", "'nowhere' is no device of this machine"),
        ("--device-map", "7", "7 is no device of this machine"),
        ("--quantize", "2bit", "quantize '2bit' is unknown"),
        ("--revision", "main", "revision is for models of the hub"),
        ("--adapter", "/no/such/adapter", "The adapter /no/such/adapter cannot be read"),
        ("--gguf-file", "none.gguf", "There is no file 'none.gguf'"),
    ],
)
def test_refusals(refuse, folder, scene, tmp_path, command, option, value, text):
    assert text in refuse(command, *COMMANDS[command](scene, tmp_path / "out"), "--model", folder, option, value)


def test_ask_in_half_precision(run, folder, scene):
    records = []
    for dtype in ("float32", "bfloat16"):
        code, out, err = run(
            "ask", scene, "what color?", "--model", folder, "--keep", 5, "--json", "--max-new-tokens", 1,
            "--dtype", dtype, "--device-map", '{"": "cpu"}', "--attention", "eager",
        )  # fmt: skip
        assert (code, err) == (0, "")
        records.append(json.loads(out.splitlines()[-1]))
    whole, half = (record["kv_bytes"]["pruned"] for record in records)
    assert whole == 2 * half


def test_eval_writes_down_the_options(run, folder, tmp_path):
    code, _, _ = run(
        "eval", "--model", folder, "--tasks", "existence", "--limit", 1, "--keep", 5, "--methods", "grid", "--out",
        tmp_path, "--no-plot", "--no-resize", "--dtype", "bfloat16", "--device-map", "auto",
    )  # fmt: skip
    assert code == 0
    assert json.loads((tmp_path / "run.json").read_text())["loading"] == {"device_map": "auto", "dtype": "bfloat16"}


def test_a_run_with_other_options_is_another_run(run, refuse, folder, tmp_path):
    line = ["eval", "--model", folder, "--tasks", "existence", "--limit", 1, "--keep", 5, "--methods", "grid"]
    line += ["--out", tmp_path, "--no-plot", "--no-resize"]
    assert run(*line)[0] == 0
    assert "another loading" in refuse(*line, "--dtype", "bfloat16")


def test_bench_of_a_checkpoint(run, folder, tmp_path):
    code, out, _ = run(
        "bench", "--model", folder, "--keep", 5, "--rounds", 1, "--new-tokens", 1, "--out", tmp_path, "--no-plot",
        "--json", "--dtype", "bfloat16",
    )  # fmt: skip
    assert code == 0
    record = json.loads(out.splitlines()[-1])
    assert record["model"]["dtype"] == "bfloat16"
    assert record["loading"] == {"dtype": "bfloat16"}


def test_doctor_of_a_checkpoint(run, refuse, folder):
    code, out, _ = run("doctor", "--model", folder, "--attention", "eager", "--device-map", "cpu")
    assert code == 0, out
    assert "attention is an option of a model: give --model too" in refuse("doctor", "--attention", "eager")


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--device-map", "auto", "device_map is not for --engine vllm: .*tensor_parallel_size"),
        ("--attention", "eager", "attention is not for --engine vllm"),
        ("--adapter", "lora", "adapter is not for --engine vllm: merge the adapter"),
        ("--gguf-file", "x.gguf", "gguf_file is not for --engine vllm"),
        ("--quantize", "8bit", "quantize 8bit is not for --engine vllm"),
        ("--quantize", "2bit", "quantize '2bit' is unknown"),
    ],
)
def test_vllm_refuses_what_it_has_no_option_for(refuse, folder, option, value, text):
    line = refuse("serve", "--model", folder, "--engine", "vllm", "--print", option, value)
    assert re.search(text, line)


def test_vllm_gets_its_own_names(run, refuse, folder):
    code, out, _ = run(
        "serve", "--model", folder, "--engine", "vllm", "--print", "--dtype", "bfloat16", "--quantize", "4bit",
    )  # fmt: skip
    assert code == 0
    assert "--dtype bfloat16" in out
    assert "--quantization bitsandbytes" in out
    line = ["serve", "--model", folder, "--engine", "vllm", "--print", "--quantize", "4bit", "--quantization", "fp8"]
    assert "--quantization is set twice" in refuse(*line)
