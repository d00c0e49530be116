"""What the prompt holds for a pruned clip, without an engine."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from foveate.errors import ModelError
from foveate.integrations.vllm.settings import ImagePlan

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from vllm.multimodal.processing import PromptReplacement, PromptUpdateDetails

from foveate.integrations.vllm.prompt import restore_tokens, shorten_update

VISUAL = 9


def shorten(content, plan, modality="video", **options):
    stock = PromptReplacement(modality=modality, target=[VISUAL], replacement=lambda index: content)
    field = {"video": "foveate_video", "image": "foveate"}[modality]
    fields = {modality: [{}, {field: SimpleNamespace(data=plan.pack())}]}
    return shorten_update(stock, fields, **options).content(1)


def test_words_stay_and_so_many_tokens_come_back():
    """From what is left, all tokens can be told again."""
    draw = random.Random(5)
    for _ in range(300):
        whole = [draw.choice((VISUAL, VISUAL, 20, 21, 22)) for _ in range(draw.randint(1, 12))] + [VISUAL]
        words = tuple((place, token) for place, token in enumerate(whole) if token != VISUAL)
        visual = len(whole) - len(words)
        kept = draw.randint(1, visual)
        plan = ImagePlan(kept + len(words), len(whole), "grid", "original", (), words=words)
        assert ImagePlan.unpack(plan.pack()) == plan
        content = PromptUpdateDetails.select_token_id(whole, VISUAL)
        short = shorten(content, plan)
        if kept == visual:
            assert short is content  # as in stock vLLM: words are no embeddings of the model
            assert plan.is_whole
            profiled = shorten(content, plan, is_profile=True)
            assert (profiled.full, profiled.is_embed) == (whole, None)
            continue
        assert short.is_embed is None  # every row comes from the model
        assert [token for token in short.full if token != VISUAL] == [token for _, token in words]
        assert short.full.count(VISUAL) == kept
        assert restore_tokens(short.full, plan) == whole
        assert [whole[place] for place in plan.visual] == [VISUAL] * visual


@pytest.mark.parametrize("modality", ["image", "video"])
def test_a_number_that_vllm_counts_otherwise(modality):
    with pytest.raises(ModelError, match=f"vLLM expects 4 tokens of a {modality}, foveate 5"):
        shorten([VISUAL] * 4, ImagePlan(2, 5, "grid", "original", ()), modality)
