import json
from types import SimpleNamespace

import pytest
import torch

from foveate.apps.serve.chat_response import ResponseWriter, server_sent_event
from foveate.apps.serve.events import AnswerEnd
from foveate.apps.serve.generation import GenerationResult, PrunedPrompt
from foveate.models.visual_input import VisualInput
from foveate.pipeline.report import PrunedInputs, Report


@pytest.fixture
def writer():
    return ResponseWriter.new("m")


@pytest.fixture
def end():
    """The end of an answer about two images."""
    every = torch.arange(16)
    items = [VisualInput("image", 0, every, 0, 16, torch.zeros(0, 8), every[:k], index=n) for n, k in enumerate((5, 3))]
    report = Report(tuple(items), "grid", 0.25, ("careful",))
    prompt = PrunedPrompt(PrunedInputs({}, report), 0.5, 20)
    return AnswerEnd(prompt, GenerationResult(7, "length", 0.125, 4096), ("a note",))


def test_a_completion(writer, end):
    completion = writer.completion("hello", end)
    assert completion["choices"][0]["message"]["content"] == "hello"
    assert completion["choices"][0]["finish_reason"] == "length"
    assert completion["usage"] == {
        "prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27,
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 8},
    }  # fmt: skip
    assert completion["foveate"] == {
        "method": "grid", "kept": [5, 3], "total": [16, 16], "kv_bytes": 4096, "notes": ["a note", "careful"],
        "encoded": [1.0, 1.0], "reasons": [], "reused": 0,
        "seconds": {"encode": 0.5, "select": 0.25, "prefill": 0.125},
    }  # fmt: skip


def test_a_chunk_belongs_to_its_answer(writer, end):
    chunk = writer.chunk({"content": "a"})
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["id"] == writer.completion("hello", end)["id"] != ResponseWriter.new("m").id


def test_server_sent_events(writer):
    chunk = writer.chunk({"content": "a"})
    assert server_sent_event(chunk) == f"data: {json.dumps(chunk)}\n\n"
    assert server_sent_event("[DONE]") == "data: [DONE]\n\n"


def test_openai_s_own_types_read_them(writer, end):
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    completion = ChatCompletion.model_validate(writer.completion("hello", end))
    assert completion.usage.prompt_tokens_details.image_tokens == 8
    for chunk in (writer.chunk({"role": "assistant"}), writer.last_chunk(end), writer.usage_chunk(end)):
        ChatCompletionChunk.model_validate(chunk)
    assert SimpleNamespace(**completion.model_extra["foveate"]).kept == [5, 3]
