"""Which words are the question to an image and to a clip, and what is refused, without an engine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from foveate.errors import InputError
from foveate.integrations.vllm.settings import VllmSettings
from integrations.vllm.models import show

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from vllm.multimodal.parse import ImageProcessorItems, VideoProcessorItems

from foveate.integrations.vllm.llava import PrunedLlavaProcessor
from foveate.integrations.vllm.qwen import PrunedQwen3VLProcessor

FIRST, SECOND = "how many circles are there", "what is in the image"
TALK = [*show("i", FIRST), {"role": "assistant", "content": "yes"}, *show("v", SECOND)]


@pytest.fixture(scope="module")
def processor(references):
    """The plug-in's processor on a real tokenizer and chat template, with what vLLM tells it of the model."""
    reference = references("qwen3_vl")
    made = object.__new__(PrunedQwen3VLProcessor)
    model_config = SimpleNamespace(hf_config=reference.model.config, try_get_generation_config=dict)
    made.info = SimpleNamespace(
        ctx=SimpleNamespace(model_config=model_config), get_hf_processor=lambda: reference.processor
    )
    made.logged = set()
    return made


def find(processor, reference, talk, counts, **settings):
    ids = reference.ids(talk)
    inputs = SimpleNamespace(prompt=ids, mm_data_items=SimpleNamespace(get_all_counts=lambda: counts))
    questions = processor._find_questions(VllmSettings(0.3, **settings), inputs)
    return {name: [reference.processor.tokenizer.decode(ids).split() for ids in own] for name, own in questions.items()}


def test_the_question_of_each_image_and_clip(processor, references):
    reference, counts = references("qwen3_vl"), {"image": 1, "video": 1}
    last = find(processor, reference, TALK, counts)
    assert last == {"image": [SECOND.split()], "video": [SECOND.split()]}
    own = find(processor, reference, TALK, counts, turn="own")
    assert own == {"image": [FIRST.split()], "video": [SECOND.split()]}
    for blind in ({"reuse": "picture"}, {"method": "vidcom2"}):
        assert find(processor, reference, TALK, counts, **blind) == {"image": [[]], "video": [[]]}


def test_fewer_placeholders_than_clips(processor, references):
    """vLLM itself reports it: here each has a question, whatever it is."""
    for turn in ("last", "own"):
        for talk, counts in (
            (TALK, {"video": 3}),
            (show("i", FIRST), {"video": 2, "image": 1}),
            (show("", FIRST), {"video": 1}),
        ):
            found = find(processor, references("qwen3_vl"), talk, counts, turn=turn)
            assert {name: len(own) for name, own in found.items()} == {"image": 0, "video": 0, **counts}


def make_items(**items):
    return SimpleNamespace(mm_data_items=items)


def test_what_cannot_be_pruned(processor):
    settings = VllmSettings(0.3)
    images, clips, embeddings = ImageProcessorItems([None]), VideoProcessorItems([None]), object()
    processor._refuse_embeddings(make_items(image=images, video=clips))
    processor.check_request(settings, make_items(image=images, video=clips))
    for modality in ("image", "video"):
        with pytest.raises(InputError, match=f"{modality.capitalize()}s that come as embeddings are not pruned"):
            processor._refuse_embeddings(make_items(**{modality: embeddings}))
    other = object.__new__(PrunedLlavaProcessor)
    with pytest.raises(
        InputError, match=r'Videos of this model are not pruned.*"keep": 1\.0.*send the frames as images'
    ):
        other.check_request(settings, make_items(video=clips))
