"""A cache of the prompt's first words: the pruned prompt goes on from it as if it had been read whole."""

import pytest
import torch
from transformers import DynamicCache

import foveate
from caches import with_cache
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.reference import relative_error
from foveate.errors import InputError
from foveate.models import lookup
from foveate.models.cache import cache_of

FAMILIES = (
    "llava", "llava_next", "idefics3", "internvl", "mistral3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v", "gemma3",
    "gemma3n", "qwen3_5", "lfm2_vl", "nemotron_h_omni", "hunyuan_vl", "granite4_vision",
)  # fmt: skip


def make(name, rows=((2, 6),)):
    family = lookup.family(name)
    model = make_tiny_model(family)
    return model, make_batch(model, family, list(rows))


def fill(model, ids):
    """The stock model's cache of these words."""
    cache = with_cache(model, DynamicCache(config=model.config.get_text_config(decoder=True)))
    model(input_ids=ids, attention_mask=torch.ones_like(ids), **cache)
    return cache


def generate(model, inputs, **options):
    """(logits of three steps, sequences)."""
    visual = lookup.family(model.config.model_type).token_id(model.config)
    settings = {"max_new_tokens": 3, "do_sample": False, "output_logits": True, "suppress_tokens": [visual]}
    out = model.generate(**inputs, **settings, **options, return_dict_in_generate=True)
    return torch.cat(out.logits), out.sequences


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_it_goes_on_from_the_first_words(name):
    """`generate`, `forward` and `generate` under `attach`, each beside the same without a cache."""
    model, inputs = make(name)
    short = foveate.prune_inputs(model, inputs, keep=3)
    stock, whole = generate(model, short)
    last = model(**short).logits[:, -1]
    for count in {1, min(item.first for item in short.report.items)}:
        words = inputs["input_ids"][:, :count]
        own = foveate.prune_inputs(model, {**inputs, **fill(model, words)}, keep=3)
        assert own["input_ids"].shape[1] == short["input_ids"].shape[1] - count
        logits, sequences = generate(model, own)
        assert relative_error(logits, stock) < 1e-5
        assert torch.equal(sequences, whole[:, count:])
        own = foveate.prune_inputs(model, {**inputs, **fill(model, words)}, keep=3)
        assert relative_error(model(**own).logits[:, -1], last) < 1e-5
        with foveate.pruning(model, keep=3):
            logits, sequences = generate(model, inputs, **fill(model, words))
        assert relative_error(logits, stock) < 1e-5
        assert torch.equal(sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])


@pytest.mark.parametrize("method", ["foveate", "glance"])
@torch.no_grad()
def test_every_row_has_its_own_words(llava, method):
    """The first look of a method reads the prompt without the cache, and leaves it as it is."""
    inputs = make_batch(llava, lookup.family("llava"), [(1, 6), (1, 6)])
    stock, _ = generate(llava, foveate.prune_inputs(llava, inputs, keep=3, method=method))
    own = foveate.prune_inputs(llava, {**inputs, **fill(llava, inputs["input_ids"][:, :1])}, keep=3, method=method)
    assert relative_error(generate(llava, own)[0], stock) < 1e-5


@torch.no_grad()
def test_the_next_turn_goes_on_behind_both(llava):
    """The cache that `generate` filled from the words on is that of the pruned prompt."""
    inputs = make_batch(llava, lookup.family("llava"), [(1, 6)])
    more = torch.randint(10, 200, (1, 4))
    answers = []
    for start in ({}, fill(llava, inputs["input_ids"][:, :1])):
        with foveate.pruning(llava, keep=3):
            out = llava.generate(**inputs, **start, max_new_tokens=3, return_dict_in_generate=True)
            ids = torch.cat([out.sequences, more], dim=1)
            answers.append(generate(llava, {"input_ids": ids}, **with_cache(llava, cache_of(out)))[0])
    assert relative_error(answers[1], answers[0]) < 1e-5


@torch.no_grad()
def test_losses_count_what_follows(llava):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 6)])
    labels = inputs["input_ids"].masked_fill(torch.arange(inputs["input_ids"].shape[1]) < 20, -100)
    stock = llava(**foveate.prune_inputs(llava, {**inputs, "labels": labels}, keep=3)).loss
    start = fill(llava, inputs["input_ids"][:, :1])
    loss = llava(**foveate.prune_inputs(llava, {**inputs, "labels": labels, **start}, keep=3)).loss
    assert abs(float(loss - stock)) < 1e-5


@pytest.mark.parametrize(
    ("name", "rows", "count", "columns", "message"),
    [
        ("llava", [(1, 6)], 3, 1, "holds 3 tokens, and the first image begins behind 1"),
        ("llava", [(1, 6), (1, 6)], 1, 1, "has 1 rows, the prompt 2"),
        ("llava", [(1, 6), (1, 3)], 1, 2, "padded batch"),
        ("ovis2", [(1, 6)], 2, 1, "behind the mark of an image's start"),
        ("minicpmv4_7", [(1, 6)], 2, 1, "not at the positions 0 to 1"),
        ("mllama", [(1, 6)], 1, 1, "in one piece"),
        ("paligemma", [(1, 6)], 1, 1, "in one piece"),
    ],
)
@torch.no_grad()
def test_what_it_cannot_go_on_from_is_refused(name, rows, count, columns, message):
    model, inputs = make(name, rows)
    start = fill(model, inputs["input_ids"][:columns, :count])
    before = cache_of(start).get_seq_length()
    with pytest.raises(InputError, match=message):
        foveate.prune_inputs(model, {**inputs, **start}, keep=3)
    with foveate.pruning(model, keep=3), pytest.raises(InputError, match=message):
        model.generate(**inputs, **start, max_new_tokens=2)
    with foveate.pruning(model, keep=3), pytest.raises(InputError, match="whole conversation without a cache"):
        model(**inputs, **start)
    assert cache_of(start).get_seq_length() == before


@torch.no_grad()
def test_rows_that_keep_different_numbers_are_refused():
    model, inputs = make("qwen2_5_vl", [(2, 1), (1, 12)])
    inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
    start = fill(model, inputs["input_ids"][:, :1])
    with pytest.raises(InputError, match="different numbers of tokens"):
        foveate.prune_inputs(model, {**inputs, **start}, keep=0.5)
