"""The files of a shard are complete, or do not exist."""

import os
import signal

import pytest

from apps.batch.drawn import lines
from apps.faults import needs_fork, run_in_child
from foveate.apps.batch import folder
from foveate.apps.batch.folder import ShardCount
from foveate.apps.batch.source import Shard
from foveate.errors import InputError

SHARDS = [Shard(0, 0, 3), Shard(1, 3, 3), Shard(2, 6, 1)]


def row(number):
    return {"row": number, "answer": "yes\nno \u2028 \ud800"}


def test_what_is_written_counts(tmp_path):
    folder.write_shard(tmp_path, 0, [row(0), row(1)], [row(2)])
    folder.write_shard(tmp_path, 2, [], [row(6)])
    assert folder.count_finished(tmp_path, SHARDS) == {0: ShardCount(2, 1), 2: ShardCount(0, 1)}
    assert [line["row"] for line in lines(tmp_path, "part")] == [0, 1]
    assert [line["row"] for line in lines(tmp_path, "bad")] == [2, 6]


def test_a_shard_that_is_written_twice_counts_once(tmp_path):
    folder.write_shard(tmp_path, 0, [row(0)], [row(1), row(2)])
    folder.write_shard(tmp_path, 0, [row(0), row(1), row(2)], [])
    assert folder.count_finished(tmp_path, SHARDS) == {0: ShardCount(3, 0)}
    assert lines(tmp_path, "bad") == []


@pytest.mark.parametrize("name", ["part-000000.jsonl", "bad-000000.jsonl"])
def test_a_file_that_is_lost_or_cut_short_invalidates_its_shard(tmp_path, name):
    folder.write_shard(tmp_path, 0, [row(0), row(1)], [row(2)])
    (tmp_path / name).write_text("")
    assert folder.count_finished(tmp_path, SHARDS) == {}
    (tmp_path / name).unlink()
    assert folder.count_finished(tmp_path, SHARDS) == {}


@pytest.mark.parametrize("name", ["part-000000.jsonl", "bad-000000.jsonl"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text + "\n",
        lambda text: "\n" + text,
        lambda text: text + text,
        lambda text: text.replace('"row": ', '"row": 1'),
        lambda text: text.replace('"row"', '"raw"'),
        lambda text: text[:-5],
        lambda text: "\0" * len(text),
        lambda text: "[]\n" * text.count("\n"),
        lambda text: text.replace("{", "[" * 100_000, 1),
    ],
)
def test_a_damaged_file_invalidates_its_shard(tmp_path, name, damage):
    folder.write_shard(tmp_path, 0, [row(0), row(1)], [row(2)])
    folder.write_shard(tmp_path, 2, [row(6)], [])
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(damage(text))
    assert set(folder.count_finished(tmp_path, SHARDS)) == {2}
    assert folder.find_damaged(tmp_path, SHARDS[:2]) == ["part-000000.jsonl"]
    (tmp_path / name).write_text(text)
    assert set(folder.count_finished(tmp_path, SHARDS)) == {0, 2}


def test_a_writer_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            folder.write_shard(tmp_path, 0, [row(0), row(1), row(2)], [])
    assert folder.count_finished(tmp_path, SHARDS) == {}
    assert list(tmp_path.iterdir()) == []


@needs_fork
def test_a_writer_that_is_killed_leaves_no_shard(tmp_path, monkeypatch):
    def die(self, target):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("pathlib.Path.replace", die)
    code, _ = run_in_child(lambda: folder.write_shard(tmp_path, 0, [row(0), row(1), row(2)], []))
    assert code == -signal.SIGKILL
    assert folder.count_finished(tmp_path, SHARDS) == {}
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    folder.clean_up(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_answers_of_an_unknown_run(tmp_path):
    folder.check_folder(tmp_path / "none")
    folder.check_folder(tmp_path)
    folder.write_shard(tmp_path, 0, [row(0)], [])
    with pytest.raises(InputError, match="give another folder"):
        folder.check_folder(tmp_path)
    (tmp_path / "run.json").touch()
    folder.check_folder(tmp_path)


def test_attempts(tmp_path):
    assert [folder.record_attempt(tmp_path, 1) for _ in range(3)] == [1, 2, 3]
    assert folder.record_attempt(tmp_path, 2) == 1
    folder.write_shard(tmp_path, 1, [row(3), row(4), row(5)], [])
    assert folder.record_attempt(tmp_path, 1) == 1
    folder.clean_up(tmp_path)
    assert folder.record_attempt(tmp_path, 2) == 1


def test_the_first_reason(tmp_path):
    folder.write_shard(tmp_path, 0, [], [{"row": 0, "reason": "It is \ud800."}, {"row": 1, "reason": "no"}])
    assert folder.read_reason(tmp_path, SHARDS[0]) == "It is \ud800."
