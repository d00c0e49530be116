"""`benchmarks/gpu.py` in its smallest sizes, on a CPU, and what it does when something goes wrong."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from foveate.errors import InputError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FAKE = """
import os, signal, time
import torch

def make_rows(settings):
    return {name: globals()[name] for name in os.environ["FAKE_ROWS"].split()}

def good():
    print("a line of a library")
    return {"value": 1}

def bad():
    raise ValueError("no\\nluck")

def big():
    torch.empty(1 << 55)

def wrong():
    return {"faults": ["off by one"], "value": 2}

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def crash():
    os._exit(7)

def slow():
    time.sleep(600)
"""


@pytest.fixture
def script(monkeypatch):
    """A module of the script, by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def smallest(script):
    return script("gpu_timing").GpuSettings("cpu", "smallest")


def measure(script, rows, **limits):
    """The result of each row, measured in this process."""
    results = []
    script("gpu_rows").measure_rows(rows, results.append, **{"until": time.time() + 600, "seconds": 1.0, **limits})
    assert [message["start"] for message in results if "start" in message] == [
        message["row"] for message in results if "row" in message and message["status"] != "left out"
    ]
    return {message["row"]: message for message in results if "row" in message}


@pytest.mark.parametrize("part", ["laws", "kernel", "selection", "speed"])
def test_every_part_runs(part, script, smallest, tmp_path):
    rows = script("gpu_rows").list_rows(part, smallest)
    if part == "selection":
        rows = {name: rows[name] for name in rows if name.startswith(("weighted", "coverage (scope)", "foveate"))}
    results = measure(script, rows)
    assert list(results) == list(rows)
    record = {"scale": "smallest", "device": {"name": "cpu"}, "versions": {}, "commit": "c", "measured": "today"}
    text = script("gpu_markdown").to_markdown({**record, "parts": {part: results}})
    assert "**Not a result**" in text
    for name, row in results.items():
        if row["status"] == "not run":
            assert part == "kernel"
            assert f"- **not run**: kernel, {name}: Triton" in text
        else:
            assert (row["status"], row.get("faults", [])) == ("done", [])
            check = {"laws": check_laws, "kernel": check_kernel, "selection": check_selection, "speed": check_speed}
            check[part](row, text)


def check_laws(row, text):
    assert len(row["laws"]) == 11
    assert "| `llava` | 11 hold |" in text


def check_kernel(row, text):
    assert row["same choice"]
    assert float(row["shortfall"]) <= 1e-6
    assert "interpreter" in text


def check_selection(row, text):
    assert row["ms"][next(iter(row["ms"]))]["median"] > 0
    assert row.get("same choice", True)
    assert row.get("rule", row.get("method")) in text


def check_speed(row, text):
    arms = {arm["name"]: arm for arm in row["arms"]}
    kinds = [arm["kind"] for arm in arms.values()]
    assert kinds == ["whole", "pruned", "pruned", "pruned", "limit", "encode", "text", "text"]
    pruned, part, words = arms["foveate 0.111"], arms["foveate 0.111, encode 0.5"], list(arms.values())[-2]
    assert part["kept"] == pruned["kept"] < arms["unpruned"]["kept"]
    assert words["length"] == pruned["length"]
    assert words["kv_bytes"] == pruned["kv_bytes"] < arms["unpruned"]["kv_bytes"]
    assert arms["question without an image"]["length"] == 41
    assert arms["unpruned"]["first token, times"]["unpruned"]["median"] == 1
    assert pruned["first token, times"]["unpruned"]["median"] < 1
    assert set(row["encoder peak bytes"]) == {"all", "encode 0.5"}
    assert all(f"| {name} |" in text for name in arms)


def test_a_wrong_choice_of_the_kernel_shows(script, smallest):
    kernel = script("gpu_kernel")
    problem = kernel.make_image(144, 16, 64, torch.float32, torch.device("cpu"))
    picks = kernel.run_loop([problem])[0]
    assert kernel.measure_shortfall(problem, picks) == 0
    for wrong in (picks.roll(1), picks[:-1], picks[[*range(14), 0]], torch.cat([picks[:-1], picks[-1:] ^ 1])):
        assert kernel.measure_shortfall(problem, wrong) > 1e-4


def test_shapes_without_tiles_say_why_encode_is_left_out(script, smallest):
    speed = script("gpu_speed")
    shape = speed.make_narrow(speed.SHAPES["llava-1.5-7b"])
    model, _ = speed.build(shape, 1)
    inputs = speed.make_example(model, shape, (336, 336))
    budgets = speed.parse_budgets("foveate", "0.111")
    with torch.no_grad():
        case, refusal = speed.add_arms(speed.prepare_case(model, inputs, budgets, batch=1, size=(336, 336)), smallest)
    assert "leave encode out" in refusal
    assert [arm.kind for arm in case.arms] == ["whole", "pruned", "limit", "text", "text"]


# -- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_failure_ends_no_other_row(script):
    namespace: dict = {}
    exec(FAKE, namespace)
    rows = {name: namespace[name] for name in ("bad", "big", "wrong", "good")}
    results = measure(script, rows)
    assert [row["status"] for row in results.values()] == ["failed", "failed", "failed", "done"]
    assert results["bad"]["faults"] == ["ValueError: no luck"]
    assert "in bad" in "".join(results["bad"]["traceback"])
    assert "memory" in results["big"]["faults"][0]
    assert results["wrong"]["value"] == 2


def test_what_does_not_fit_is_left_out(script, monkeypatch):
    results = measure(script, {"first": dict, "second": dict}, until=time.time() + 5, seconds=9.0)
    assert {row["status"] for row in results.values()} == {"left out"}
    assert "may take 9" in results["first"]["reason"]
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    rows = {"first": lambda: now.append(now.pop() + 3) or {}, "second": dict}
    results = measure(script, rows, until=1020.0, seconds=18.0)
    assert [row["status"] for row in results.values()] == ["done", "left out"]


@pytest.fixture
def run_fake(script, smallest, tmp_path, monkeypatch):
    """Measure rows of a made-up part, in processes."""
    (tmp_path / "gpu_fake.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.syspath_prepend(tmp_path)

    def run(names, done=(), seconds=0.1, limit=60.0):
        monkeypatch.setenv("FAKE_ROWS", names)
        results = []
        script("gpu_rows").run_part("fake", smallest, done, results.append, until=time.time() + limit, seconds=seconds)
        return {row.pop("row"): row for row in results}

    yield run
    sys.modules.pop("gpu_fake", None)


def test_a_process_that_dies_is_followed_by_another(run_fake):
    results = run_fake("good killed bad")
    assert [row["status"] for row in results.values()] == ["done", "failed", "failed"]
    assert "killed" in results["killed"]["faults"][0]
    assert run_fake("good bad", done=["good"]).keys() == {"bad"}


def test_a_gpu_that_goes_away_is_named(script, monkeypatch):
    rows, results = script("gpu_rows"), []
    monkeypatch.setattr(rows, "PROCESSES", 1)
    settings = script("gpu_timing").GpuSettings("cuda:99", "smallest")
    rows.run_part("laws", settings, (), results.append, until=time.time() + 60, seconds=0.1)
    assert [row["status"] for row in results] == ["failed"]
    assert re.match(r"Not started, as processes of this part ended \(.*cuda", results[0]["faults"][0], re.IGNORECASE)


def test_a_row_that_hangs_is_ended(run_fake, script, monkeypatch):
    results = run_fake("slow good", limit=8.0)
    assert results["slow"]["status"] == "failed"
    assert "did not end within" in results["slow"]["faults"][0]
    assert results["good"]["status"] in ("left out", "done")


RUNNER = """
import sys, time
import gpu_rows, gpu_timing
settings = gpu_timing.GpuSettings("cpu", "smallest")
gpu_rows.run_part("fake", settings, (), print, until=time.time() + 600, seconds=0.1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Finds the process in /proc: on Linux only.")
def test_a_killed_run_leaves_no_process(run_fake, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_ROWS", "good slow")
    command = [sys.executable, "-c", RUNNER]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), os.environ["PYTHONPATH"]])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as runner:
        assert "good" in runner.stdout.readline()
        [child] = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()
        runner.send_signal(signal.SIGKILL)
    ends = time.time() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.time() < ends
        time.sleep(0.05)


@pytest.fixture
def run_main(run_fake, script, tmp_path, monkeypatch, capsys):
    """The script with a made-up part, in this process: its exit code and what it prints."""
    gpu = script("gpu")
    monkeypatch.setattr(gpu, "PARTS", {"fake": 0.1, "other": 0.1})
    (tmp_path / "gpu_other.py").write_text("def make_rows(settings): return {'only': dict}")

    def run(*options, rows="good bad", parts="fake"):
        monkeypatch.setenv("FAKE_ROWS", rows)
        own = ["gpu.py", "--device", "cpu", "--smallest", "--parts", parts, "--out", str(tmp_path / "out"), *options]
        monkeypatch.setattr(sys, "argv", own)
        code = gpu.main()
        return code, capsys.readouterr().out

    yield run
    sys.modules.pop("gpu_other", None)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "out" / "gpu-cpu-smallest.json"


def test_a_run_goes_on_where_it_stopped(run_main, file):
    code, text = run_main()
    assert code == 1
    assert "fake: bad: failed (ValueError: no luck)" in text
    assert "1 of 2 rows are done" in text
    first = json.loads(file.read_text())
    assert {"python", "foveate", "torch", "transformers"} <= set(first["versions"])
    assert (first["scale"], first["device"]["name"]) == ("smallest", "cpu")
    code, text = run_main("--minutes", "0.001")
    assert (code, "1 left out: fake: bad" in text) == (0, True)
    code, text = run_main(parts="fake,other")
    assert "fake: good" not in text
    second = json.loads(file.read_text())
    assert second["parts"]["fake"]["good"] == first["parts"]["fake"]["good"]
    assert second["parts"]["other"]["only"]["status"] == "done"
    code, text = run_main("--markdown")
    assert (code, "- **failed**: fake, bad: ValueError: no luck" in text) == (0, True)
    assert run_main("--markdown", str(file)) == (0, text)
    run_main("--fresh", parts="other")
    assert list(json.loads(file.read_text())["parts"]) == ["other"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "is damaged .*--fresh"),
        (lambda text: "", "is damaged .*--fresh"),
        (lambda text: "[1]", "is damaged .*--fresh"),
        (lambda text: '{"parts": {}}', "no file of this script.*--fresh"),
        (lambda text: text.replace('"status": "done"', '"state": 1'), "is damaged .*--fresh"),
        (lambda text: text.replace('"done"', "[]"), "no file of this script.*--fresh"),
        (
            lambda text: text.replace('"transformers": "', '"transformers": "0.'),
            "transformers 0.*this run has.*--fresh",
        ),
        (lambda text: text.replace('"name": "cpu"', '"name": "NVIDIA X"'), "name NVIDIA X.*name cpu.*--fresh"),
        (lambda text: text.replace('"commit": "', '"commit": "f'), "with commit f.*--fresh"),
    ],
)
def test_another_or_a_damaged_file_is_refused(run_main, file, script, smallest, change, message):
    record = {**script("gpu_record").describe_run(smallest), "parts": {"other": {"only": {"status": "done"}}}}
    file.parent.mkdir()
    before = change(json.dumps(record))
    file.write_text(before)
    with pytest.raises(InputError, match=message):
        run_main(rows="")
    assert file.read_text() == before
    code, _ = run_main("--fresh", rows="")
    assert code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "tpu"), "'tpu' is not for this script: give cuda, cuda:1 or cpu"),
        (("--device", "cuda:x"), "'cuda:x' is not for this script"),
        (("--parts", "laws,speeds"), "give some of fake,other"),
        (("--parts", ""), "give some of"),
        (("--minutes", "0"), "--minutes 0.0: give a number above 0"),
        (("--minutes", "-1"), "--minutes"),
        (("--minutes", "nan"), "--minutes"),
        (("--minutes", "inf"), "--minutes"),
        (("--markdown", "no/file.json"), "no/file.json cannot be read"),
        (("--markdown", "."), "cannot be read|nothing"),
        (("--markdown",), "gpu-cpu-smallest.json cannot be read"),
    ],
)
def test_bad_options(run_main, options, message):
    with pytest.raises(InputError, match=message):
        run_main(*options)


def test_a_gpu_that_is_not_there(script, monkeypatch):
    check_device = script("gpu").check_device
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=r"sees no GPU.*--device cpu --small"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [check_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda:0", "cuda:1"]
    with pytest.raises(InputError, match="sees 2 GPUs: give cuda:0 to cuda:1"):
        check_device("cuda:2")


def test_the_command(tmp_path):
    """As a user gives it, on this machine: either there is a GPU, or it is refused in a sentence."""
    command = [sys.executable, BENCHMARKS / "gpu.py", "--out", tmp_path, "--parts", "kernel", "--minutes", "0.0001"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if torch.cuda.is_available():
        assert (result.returncode, "left out" in result.stdout) == (0, True)
    else:
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: --device cuda: torch ")
