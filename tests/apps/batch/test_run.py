"""Whole runs on Ray, started by this process."""

import json
import os
import threading
from dataclasses import replace

import pytest

from apps.batch.drawn import check_once, library, lines, replies, settings, write_lines
from apps.batch.processes import blocked, find_workers, kill, wait_for
from foveate.apps.batch.cluster import connect
from foveate.apps.batch.run import run
from foveate.errors import FoveateError, InputError
from foveate.runtime.load import load
from policies import SAFE, make_policy

pytest.importorskip("ray", reason="Ray is not installed: pip install 'foveate[batch]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # of its own default
COUNT = 14


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with connect(None) as local:
        assert local
        yield


@pytest.fixture(scope="module")
def expected(folder, rows):
    return library(folder, rows)


def run_beside(work):
    """Run something in a thread beside the test; its errors fail the test when it is joined."""
    failed = []

    def guarded():
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()

    def join():
        thread.join()
        assert failed == []

    return join


def test_a_policy_goes_to_the_workers(folder, rows, tmp_path):
    policy = make_policy(load("bundled").model)
    few = write_lines(folder / "few.jsonl", rows[:3])
    for _ in range(2):  # the second run finds everything answered
        assert run(few, tmp_path / "out", settings(keep=policy), shard=2).answered == 3
    assert replies(tmp_path / "out") == library(folder, rows[:3], keep=policy)
    for line in lines(tmp_path / "out", "part"):
        assert (line["kept"], line["total"]) == (144, 576)
        assert line["reason"].startswith("25 % of the tokens, at an estimated risk of")
    with pytest.raises(InputError, match=r"holds a run with another keep \('policy \w+', not 'policy \w+'\)"):
        run(few, tmp_path / "out", settings(keep=replace(policy, price=SAFE)), shard=2)


def test_lines_and_a_table_get_the_librarys_answers(folder, rows, expected, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    outcome = run(folder / "q.jsonl", tmp_path / "lines", settings(), shard=4)
    assert (outcome.answered, outcome.bad, outcome.earlier) == (COUNT, 0, 0)
    assert outcome.speed == pytest.approx(COUNT / outcome.seconds)
    check_once(tmp_path / "lines", COUNT)
    assert replies(tmp_path / "lines") == expected
    assert [(line["id"], line["question"]) for line in lines(tmp_path / "lines", "part")] == [
        (row["id"], row["question"]) for row in rows
    ]

    data = [{"bytes": (folder / row["image"]).read_bytes(), "path": row["image"]} for row in rows]
    columns = {"id": [row["id"] for row in rows], "image": data, "question": [row["question"] for row in rows]}
    parquet.write_table(pa.table(columns), folder / "q.parquet", row_group_size=5)
    run(folder / "q.parquet", tmp_path / "table", settings(batch=3), shard=6)
    assert lines(tmp_path / "table", "part") == lines(tmp_path / "lines", "part")


def test_a_worker_that_is_killed_loses_nothing(folder, rows, expected, tmp_path):
    out = tmp_path / "out"

    def kill_one():
        with blocked(folder / rows[7]["image"]):
            workers = wait_for(lambda: list(out.glob("part-*.jsonl")) and find_workers(os.getpid()))
        kill(workers)

    join = run_beside(kill_one)
    outcome = run(folder / "q.jsonl", out, settings(batch=1), shard=5)
    join()
    assert (outcome.answered, outcome.bad) == (COUNT, 0)
    check_once(out, COUNT)
    assert replies(out) == expected


def test_a_worker_that_keeps_dying_ends_the_run(folder, rows, tmp_path):
    out = tmp_path / "out"

    def kill_one():
        with blocked(folder / rows[0]["image"]):
            (attempts,) = wait_for(lambda: list(out.glob("attempts-*")))
            with attempts.open("ab") as file:
                file.write(b"...")  # as if it had died three times already, which takes long
            assert wait_for(lambda: kill(find_workers(os.getpid())))

    join = run_beside(kill_one)
    with pytest.raises(FoveateError, match="died 4 times at rows 0 to 13"):
        run(folder / "q.jsonl", out, settings(), shard=100)
    join()
    assert lines(out, "part") == []


def test_a_file_that_changes_during_the_run(folder, rows, expected, tmp_path):
    path, out, last = write_lines(folder / "changing.jsonl", rows), tmp_path / "out", COUNT - 1

    def edit():
        wait_for(lambda: list(out.glob("part-*.jsonl")))
        write_lines(folder / "edited.jsonl", [*rows[:last], {**rows[last], "id": "edited"}]).replace(path)

    join = run_beside(edit)
    with pytest.raises(InputError, match=rf"row {last} \(from 0\) was changed"):
        run(path, out, settings(batch=1), shard=1)
    join()
    assert [line["row"] for line in lines(out, "part")] == list(range(last))
    with pytest.raises(InputError, match="another input"):
        run(path, out, settings(batch=1), shard=1)
    write_lines(path, rows)
    outcome = run(path, out, settings(batch=1), shard=1)
    assert (outcome.answered, outcome.earlier) == (COUNT, last)
    check_once(out, COUNT)
    assert replies(out) == expected

    (out / "part-000003.jsonl").write_text("\n")
    again = run(path, out, settings(batch=1), shard=1)
    assert (again.earlier, again.notes[0]) == (last, "part-000003.jsonl was damaged: its rows were answered again.")
    check_once(out, COUNT)
    assert replies(out) == expected


def test_bad_rows_are_set_aside(folder, rows, expected, tmp_path):
    (folder / "text.png").write_text("no image")
    odd = [
        "{\n", {"image": "none.png", "question": "what?"}, "\n", rows[0], {"image": "text.png", "question": "what?"},
        {**rows[1], "question": "what is <image>?", "id": "ünï"}, rows[1], {"question": "what?"}, "[]\n",
    ]  # fmt: skip
    path, out = write_lines(folder / "odd.jsonl", odd), tmp_path / "out"
    outcome = run(path, out, settings(), shard=3)
    assert (outcome.answered, outcome.bad) == (2, 6)
    check_once(out, 8)
    assert replies(out) == expected[:2]
    assert [(line["row"], line["id"]) for line in lines(out, "bad")] == [
        (0, "row-0"), (1, "row-1"), (3, "row-3"), (4, "ünï"), (6, "row-6"), (7, "row-7"),
    ]  # fmt: skip
    assert "stands for an image" in lines(out, "bad")[3]["reason"]
    assert json.loads((out / "bad-000001.jsonl").read_text().splitlines()[1]) == lines(out, "bad")[3]

    (out / "bad-000001.jsonl").unlink()  # answer these again
    again = run(path, out, settings(), shard=3)
    assert (again.answered, again.bad, again.earlier) == (2, 6, 5)
    check_once(out, 8)


def test_a_run_that_is_over_starts_nothing(folder, tmp_path, monkeypatch):
    path, out = write_lines(folder / "none.jsonl", ["{}\n"] * 3), tmp_path / "out"
    with pytest.raises(InputError, match="None of the 3 rows could be answered: 'question' is missing"):
        run(path, out, settings(), shard=2)
    check_once(out, 3)
    monkeypatch.setattr("foveate.apps.batch.run.answer_shards", None)
    with pytest.raises(InputError, match="None of the 3 rows"):
        run(path, out, settings(), shard=2)
    for changes, says in (({"keep": 0.2}, "another keep"), ({"method": "grid"}, "another method")):
        with pytest.raises(InputError, match=says):
            run(path, out, settings(**changes), shard=2)
    with pytest.raises(InputError, match="another shard"):
        run(path, out, settings(), shard=3)
    write_lines(path, ["{}\n"] * 4)
    with pytest.raises(InputError, match="another input"):
        run(path, out, settings(), shard=2)
