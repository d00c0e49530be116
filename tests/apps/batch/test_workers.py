"""A worker, called as Ray calls it."""

import json
from dataclasses import asdict

import pytest

from apps.batch.drawn import check_once, draw, library, lines, replies, settings, write_lines
from foveate.apps.batch import workers
from foveate.apps.batch.formats import open_source
from foveate.apps.batch.workers import MAX_ATTEMPTS, BatchJob, BatchWorker
from foveate.apps.results import claim_folder

ROWS = 5


@pytest.fixture
def job(tmp_path):
    source = open_source(write_lines(tmp_path / "q.jsonl", draw(tmp_path, ROWS)))
    claim_folder(tmp_path / "out", {})
    return BatchJob(settings(), source, tmp_path / "out")


def call(worker, shard):
    (text,) = worker({name: [value] for name, value in asdict(shard).items()})["result"]
    return json.loads(text)


def test_shards_are_written(job, tmp_path):
    worker, shards = BatchWorker(job), job.source.scan(3).shards
    assert [call(worker, shard) for shard in shards] == [
        {"shard": 0, "rows": 3, "notes": []}, {"shard": 1, "rows": 2, "notes": []}
    ]  # fmt: skip
    check_once(job.out, ROWS)
    rows = [json.loads(line) for line in job.source.path.read_text().splitlines()]
    assert replies(job.out) == library(tmp_path, rows)
    assert [line["id"] for line in lines(job.out, "part")] == [row["id"] for row in rows]
    assert call(BatchWorker(job), shards[0])["rows"] == 3  # as after a retry
    check_once(job.out, ROWS)


def test_a_shard_of_which_workers_die(job, monkeypatch):
    def die(settings):
        raise KeyboardInterrupt

    (shard,) = job.source.scan(9).shards
    with monkeypatch.context() as patched:
        patched.setattr(workers, "open_engine", die)
        for _ in range(MAX_ATTEMPTS):
            with pytest.raises(KeyboardInterrupt):
                call(BatchWorker(job), shard)
    refusal = call(BatchWorker(job), shard)["refusal"]
    assert f"died {MAX_ATTEMPTS} times at rows 0 to 4" in refusal
    assert "fewer --actors" in refusal


def test_a_failure_comes_back_as_a_sentence(job, tmp_path, monkeypatch):
    (shard,) = job.source.scan(9).shards
    broken = BatchJob(settings(model="bundled-qwen", method="visionzip"), job.source, job.out)
    assert "visionzip" in call(BatchWorker(broken), shard)["refusal"]

    elsewhere = BatchJob(settings(), job.source, tmp_path / "elsewhere")
    assert "same path on every machine" in call(BatchWorker(elsewhere), shard)["refusal"]

    def fail(settings):
        raise RuntimeError("no kernel image")

    with monkeypatch.context() as patched:
        patched.setattr("foveate.apps.batch.engines.transformers.TransformersEngine", fail)
        assert "RuntimeError('no kernel image')" in call(BatchWorker(job), shard)["refusal"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("foveate.apps.batch.workers.write_shard", full)
    assert "make room" in call(BatchWorker(job), shard)["refusal"]
