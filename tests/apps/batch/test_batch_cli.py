"""`foveate batch` as a program: what it refuses, and what remains when it is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apps.batch.drawn import check_once, library, replies, write_lines
from apps.batch.processes import blocked, find_workers, kill, wait_for
from foveate.apps import cli
from foveate.apps.results import open_folder

COUNT = 20
CLUSTER = """
import ray, time
node = ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=2**27, log_to_driver=False)
print(node.address_info["gcs_address"], flush=True)
time.sleep(600)
"""


@pytest.fixture
def refused(capsys, folder, rows, tmp_path, monkeypatch):
    """Call with these options; return the one line on stderr."""
    monkeypatch.setattr(
        "foveate.apps.batch.run.connect", lambda address: pytest.fail("Ray was started before the check")
    )

    def call(*options, questions=folder / "q.jsonl", out=tmp_path / "out"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["batch", str(questions), "--out", str(out), *map(str, options)])
        captured = capsys.readouterr()
        assert (stop.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
        assert captured.err.startswith("foveate: ")
        return captured.err

    return call


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--keep", "half"], "'half' is no number"),
        (["--keep", "none.json"], "none.json cannot be read as a policy"),
        (["--keep", "auto", "--method", "fastv"], "A policy is not for fastv"),
        (["--keep", "0"], "keeps no token"),
        (["--method", "foveat"], "'foveate'"),
        (["--positions", "new"], "--positions"),
        (["--engine", "jax"], "--engine"),
        (["--batch", "0"], "--batch"),
        (["--shard", "0"], "--shard"),
        (["--actors", "0"], "--actors"),
        (["--model", "/no/such/model"], "There is no folder"),
        (["--vllm", "[1]"], "no JSON object"),
        (["--vllm", "{"], "no JSON object"),
        (["--vllm", '{"seed": 1}'], "use it with --engine vllm"),
    ],
)
def test_bad_options(refused, tmp_path, options, says):
    assert says in refused(*options)
    assert not (tmp_path / "out").exists()


def test_bad_files(refused, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'foveate[batch]'")
    assert "There is no file" in refused(questions=tmp_path / "none.jsonl")
    assert "neither .jsonl nor .parquet" in refused(questions=tmp_path / "q.csv")
    assert "holds no row" in refused(questions=write_lines(tmp_path / "empty.jsonl", ["\n"]))
    (tmp_path / "file").touch()
    assert "another folder" in refused(out=tmp_path / "file")


def test_a_folder_in_use(refused, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'foveate[batch]'")
    with open_folder(tmp_path / "out"):
        assert "Another run writes to" in refused()
    assert list((tmp_path / "out").iterdir()) == []


def test_without_ray(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'foveate[batch]'" in refused()


def test_without_vllm(refused, monkeypatch):
    monkeypatch.setattr("foveate.integrations.vllm.engine.find_spec", lambda name: None)
    assert "pip install 'foveate[vllm]'" in refused("--engine", "vllm")


# -- as a program --------------------------------------------------------------------------------------------------


@pytest.fixture
def start(folder, rows, tmp_path):
    """Start the program on the questions, in its own session; end it with the test."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'foveate[batch]'")
    started = []

    def call(*options, code="from foveate.apps.cli import main; main()"):
        command = [sys.executable, "-c", code]
        if "main" in code:
            command += ["batch", str(folder / "q.jsonl"), "--out", str(tmp_path / "out"), "--max-new-tokens", "8"]
        settings = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
        program = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings,
            start_new_session=True,
        )  # fmt: skip
        started.append(program)
        return program

    yield call
    for program in started:
        program.kill()
        program.communicate()


def test_killed_and_called_again(start, folder, rows, tmp_path):
    """By Ctrl-C, by SIGKILL, by SIGTERM, then its worker alone."""
    out, options = tmp_path / "out", ("--shard", "2", "--batch", "1", "--json")
    parts = []
    for number, code, row in ((signal.SIGINT, 130, 4), (signal.SIGKILL, -signal.SIGKILL, 8), (signal.SIGTERM, 143, 12)):
        with blocked(folder / rows[row]["image"]):
            program = start(*options)
            wait_for(lambda: len(list(out.glob("part-*.jsonl"))) > len(parts))  # noqa: B023
            workers = find_workers(program.pid)
            program.send_signal(number)
            _, err = program.communicate(timeout=600)
        assert program.returncode == code, err
        assert "Traceback" not in err
        assert number == signal.SIGKILL or f"foveate: Interrupted. Finished answers are in {out}" in err
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=30)  # noqa: B023
        parts = list(out.glob("part-*.jsonl"))
        assert len(parts) < COUNT / 2
    with blocked(folder / rows[12]["image"]):
        program = start(*options)
        workers = wait_for(lambda: find_workers(program.pid))
    kill(workers)
    printed, err = program.communicate(timeout=600)
    assert program.returncode == 0, err
    summary, record = printed.splitlines()  # Ray reports dead workers on stderr
    outcome = json.loads(record)
    assert (outcome["answered"], outcome["bad"]) == (COUNT, 0)
    assert outcome["earlier"] >= 2 * len(parts)
    assert f"{COUNT} rows answered, none set aside" in summary
    check_once(out, COUNT)
    assert replies(out) == library(folder, rows)


def test_a_cluster(start, folder, rows, tmp_path):
    cluster = start(code=CLUSTER)
    address = cluster.stdout.readline().strip()
    program = start("--shard", "5", "--address", address, "--actors", "1", "--json")
    printed, err = program.communicate(timeout=600)
    assert program.returncode == 0, err
    assert json.loads(printed.splitlines()[-1])["answered"] == COUNT
    check_once(tmp_path / "out", COUNT)
    assert replies(tmp_path / "out") == library(folder, rows)
    assert cluster.poll() is None  # it ran before, and still does
