"""A run that is killed and started again is the run that was never killed."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from apps.faults import limit_files, needs_fork, run_in_child, signal_at
from foveate.apps.evaluate import evaluate, sample_examples
from foveate.apps.evaluate.arms import UnprunedEvalArm
from foveate.apps.evaluate.runner import ANSWERS
from foveate.apps.evaluate.settings import make_arms
from foveate.apps.results import RUN, claim_folder, open_folder
from foveate.errors import InputError
from foveate.runtime.load import load
from tiny import tiny_folder

KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_folder("llava", tmp_path_factory.mktemp("llava")))


@pytest.fixture(scope="module")
def loaded(folder):
    return load(folder)


@pytest.fixture(scope="module")
def examples():
    return sample_examples(["counting", "chart"], "dev", 4)


def arms():
    return make_arms({}, [0.3], max_new_tokens=2)


def timeless(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_every_arm_answers_every_question(loaded, examples, tmp_path):
    rows = evaluate(loaded, examples, arms(), batch=3, out=tmp_path, settings={"a": 1})
    assert [(row["arm"], row["id"]) for row in rows] == [(a.label, e.id) for a in arms() for e in examples]
    assert json.loads((tmp_path / RUN).read_text()) == {"a": 1}
    on_disk = [json.loads(line) for line in (tmp_path / ANSWERS).read_text().splitlines()]
    assert sorted(map(str, on_disk)) == sorted(map(str, rows))
    assert timeless(evaluate(loaded, examples, arms(), batch=3)) == timeless(rows)
    pruned = next(row for row in rows if row["name"] == "grid")
    assert pruned["tokens"] == len(pruned["kept"]) < pruned["total"]


def test_batches_do_not_change_answers(loaded, examples):
    """But for `total` and `seconds`, nothing depends on the other questions of a batch."""
    one, many = (timeless(evaluate(loaded, examples, arms(), batch=batch)) for batch in (1, 8))
    assert one == many


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.62, 0.99])
def test_a_file_cut_anywhere_is_continued(loaded, examples, tmp_path, cut):
    rows = evaluate(loaded, examples, arms(), batch=3, out=tmp_path)
    log = tmp_path / ANSWERS
    whole = log.read_bytes()
    log.write_bytes(whole[: int(cut * len(whole))])
    again = evaluate(loaded, examples, arms(), batch=3, out=tmp_path)
    assert timeless(again) == timeless(rows)
    keys = [(row["id"], row["arm"]) for row in map(json.loads, log.read_text().splitlines())]
    assert len(keys) == len(set(keys)) == len(rows)


def test_a_finished_run_repeats_nothing(loaded, examples, tmp_path, monkeypatch):
    rows = evaluate(loaded, examples, arms(), out=tmp_path)
    monkeypatch.setattr(UnprunedEvalArm, "generate", None)
    assert evaluate(loaded, examples, arms(), out=tmp_path) == rows


def test_other_settings_are_another_run(loaded, examples, tmp_path):
    evaluate(loaded, examples[:1], arms()[:1], out=tmp_path, settings={"split": "dev"})
    with pytest.raises(InputError, match=r"another split \('dev', not 'test'\)"):
        evaluate(loaded, examples[:1], arms()[:1], out=tmp_path, settings={"split": "test"})


def test_one_token_is_not_all_of_them(tmp_path):
    claim_folder(tmp_path, {"keep": 1, "more": {"a": 1, "b": None}})
    claim_folder(tmp_path, {"more": {"b": None, "a": 1}, "keep": 1})
    with pytest.raises(InputError, match=r"another keep \(1, not 1.0\)"):
        claim_folder(tmp_path, {"keep": 1.0, "more": {"a": 1, "b": None}})


def test_a_folder_that_cannot_be_used(loaded, examples, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="another folder"):
        evaluate(loaded, examples, arms(), out=tmp_path / "file")


def test_an_arm_that_is_requested_twice(loaded, examples):
    with pytest.raises(InputError, match="twice"):
        evaluate(loaded, examples, [*arms(), *arms()])


DAMAGE = {
    "blank": b"\n", "garbage": b"garbage\n", "null": b"null\n", "list": b"[1]\n", "empty": b"{}\n", "zeros": b"\0\0\n",
    "no text": b"\xff\xfe\n", "deep": b"[" * 100_000 + b"\n", "no answer": b'{"id": "x", "arm": "unpruned"}\n',
    "unhashable": b'{"id": [], "arm": {}}\n',
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_line_is_refused_and_nothing_is_lost(loaded, examples, tmp_path, kind):
    rows = evaluate(loaded, examples[:2], arms()[:3], out=tmp_path)
    log = tmp_path / ANSWERS
    whole = log.read_bytes().splitlines(keepends=True)
    for place in (0, 3, len(whole)):
        damaged = b"".join([*whole[:place], DAMAGE[kind], *whole[place:]])
        log.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"Line {place + 1} of .*answers.jsonl is damaged, blank or no answer"):
            evaluate(loaded, examples[:2], arms()[:3], out=tmp_path)
        assert log.read_bytes() == damaged
    log.write_bytes(b"".join(whole[:2] + whole[3:]))  # as the sentence says
    again = evaluate(loaded, examples[:2], arms()[:3], out=tmp_path)
    assert timeless(again) == timeless(rows)
    assert len(log.read_text().splitlines()) == len(rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("right", "yes"), ("right", None), ("tokens", "1"), ("answer", 3), ("kept", 7), ("seconds", None),
        ("total", "x"), ("question", "another?"), ("expected", []), ("task", "x"), ("keep", 0.7), ("name", "x"),
        ("more", 1),
    ],
)  # fmt: skip
def test_an_answer_with_another_field_is_refused(loaded, examples, tmp_path, name, value):
    evaluate(loaded, examples[:2], arms()[:2], out=tmp_path)
    log = tmp_path / ANSWERS
    first, *rest = log.read_text().splitlines()
    log.write_text("\n".join([json.dumps({**json.loads(first), name: value}), *rest, "\n", ""]))
    with pytest.raises(InputError, match=r"Line 1 \(and 2 more\) of"):
        evaluate(loaded, examples[:2], arms()[:2], out=tmp_path)


def test_answers_without_settings_are_of_an_unknown_run(loaded, examples, tmp_path):
    evaluate(loaded, examples[:2], arms()[:2], out=tmp_path)
    (tmp_path / RUN).unlink()
    with pytest.raises(InputError, match=r"holds answers without their run\.json"):
        evaluate(loaded, examples[:2], arms()[:2], out=tmp_path)


def test_two_runs_in_one_folder(loaded, examples, tmp_path):
    with open_folder(tmp_path), pytest.raises(InputError, match="Another run writes to"):
        evaluate(loaded, examples[:2], arms()[:2], out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_fork
def test_killed_at_any_step_and_on_a_full_disk(loaded, examples, tmp_path):
    """Whatever happens before, the same call again ends with the rows of a run in one piece."""
    few = arms()[:2]
    rows = evaluate(loaded, examples, few, batch=3)
    faults = [partial(signal_at, step, number=number) for step in range(8) for number in KILLS]
    faults += [lambda out, size=size: limit_files(size) for size in (0, 1, 200, 700, 1500, 2100)]
    for count, fault in enumerate(faults):
        out = tmp_path / str(count)

        def work(out=out, fault=fault):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            fault(out)
            evaluate(loaded, examples, few, batch=3, out=out)

        code, error = run_in_child(work)
        assert code in (0, -signal.SIGKILL, -signal.SIGTERM) or "cannot be written" in error or "Interrupt" in error
        assert timeless(evaluate(loaded, examples, few, batch=3, out=out)) == timeless(rows)
        keys = [(row["id"], row["arm"]) for row in map(json.loads, (out / ANSWERS).read_text().splitlines())]
        assert len(keys) == len(set(keys)) == len(rows)
        assert {path.name for path in out.iterdir()} == {RUN, ANSWERS}


KILLED = """
import os, signal
from foveate.apps.cli import main
from foveate.apps.evaluate import runner
answer, left = runner._answer, iter(range(5))
def answer_or_die(*arguments):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(*arguments)
runner._answer = answer_or_die
main()
"""


def test_a_killed_command_continues(folder, tmp_path):
    """SIGKILL at the sixth batch: the second run's table and summary are those of a run in one piece."""
    options = [
        "--model", folder, "--methods", "divprune", "--keep", "0.3", "--tasks", "counting,overview", "--limit", "3",
        "--batch", "2", "--max-new-tokens", "2", "--no-plot",
    ]  # fmt: skip

    def run(name, code="from foveate.apps.cli import main; main()"):
        command = [sys.executable, "-c", code, "eval", *options, "--out", str(tmp_path / name)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode

    assert run("killed", KILLED) == -signal.SIGKILL
    assert len((tmp_path / "killed" / ANSWERS).read_text().splitlines()) == 5 * 2
    assert [run("killed"), run("whole")] == [0, 0]
    for name in ("table.md", "summary.json", RUN):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
