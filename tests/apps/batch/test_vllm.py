"""Answers by vLLM are those of the library, row by row, as long as no two words are nearly as likely."""

import os

import pytest

from apps.batch.drawn import draw, library, settings
from foveate.apps.batch.engines import open_engine
from foveate.errors import InputError
from foveate.runtime.files import open_image

pytest.importorskip("vllm", reason="vLLM is not installed: pip install 'foveate[vllm]'")
pytest.importorskip("foveate.integrations.vllm", reason="foveate does not prune inside vLLM here")
OPTIONS = {"dtype": "float32", "enforce_eager": True, "gpu_memory_utilization": 0.1}


@pytest.mark.filterwarnings("ignore")  # of vLLM's own
def test_it_is_the_library(tmp_path):
    rows = draw(tmp_path, 4)
    images, questions = [open_image(tmp_path / row["image"]) for row in rows], [row["question"] for row in rows]
    engine = open_engine(settings(engine="vllm", options=OPTIONS))
    replies = engine.answer(images, questions)
    assert [reply.answer for reply in replies] == [answer for answer, _, _ in library(tmp_path, rows)]
    assert {(reply.kept, reply.total) for reply in replies} == {(None, None)}
    with pytest.raises(InputError, match="stands for an image"):
        engine.answer(images, [*questions[:-1], "what is <image>?"])
    with pytest.raises(Exception, match="maximum context length"):
        engine.answer(images[:1], ["what " * 9000])
    assert engine.answer(images, questions) == replies
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
