"""One call under an in-decoder method, against stock layers on the whole sequence with dropped tokens masked."""

import dataclasses
import itertools
import time

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaModel

from foveate import FastV
from foveate.hooks.call import DecodeCall, PrefillCall
from foveate.hooks.prompt import RatedImage
from foveate.models.cache import cache_name
from foveate.models.visual_input import make_visual_input

pytestmark = pytest.mark.usefixtures("no_grad")

DEPTH, WIDTH, LENGTH = 5, 24, 14
REAL = torch.tensor([[1] * 14, [0] * 3 + [1] * 11, [0] * 5 + [1] * 9]).bool()
# (row, columns, raters): two images in one row, a row without any
IMAGES = [(0, [1, 2, 3, 4, 5, 6], [13]), (1, [3, 4, 6, 7], [9, 13]), (1, [8, 10, 11], [12, 13])]
COUNTS = {1: (4, 3, 2), 3: (2, 1, 1)}


@pytest.fixture(scope="module")
def decoder():
    config = LlamaConfig(
        vocab_size=32, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=DEPTH, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, max_position_embeddings=64, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    made = LlamaModel(config).eval()
    for parameter in made.layers.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return made


def embed(length=LENGTH, seed=1):
    return torch.randn(len(REAL), length, WIDTH, generator=torch.Generator().manual_seed(seed))


def count(mask):
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def rated():
    images = []
    for row, columns, raters in IMAGES:
        item = make_visual_input("image", row, torch.tensor(columns), columns[0], torch.zeros(len(columns), 4))
        images.append(RatedImage(item, torch.tensor(raters)))
    return images


def loop(decoder, call, hidden, positions, mask, *, cache=None, extras=(), shared=False):
    """The output of every layer, with a call around each as the hooks have it; `extras` (n, L, d) are added on top."""
    rotary = decoder.rotary_emb(hidden, positions[:1] if shared else positions)
    outputs = []
    for number, layer in enumerate(decoder.layers):
        arguments = {"attention_mask": mask, "position_embeddings": rotary, "position_ids": positions}
        arguments[cache_name(layer.forward)] = cache
        before = dict(arguments)
        own, changed = call.before(number, layer, hidden, arguments)
        assert arguments == before  # the language model's own are left alone
        hidden = call.after(number, layer(own, **changed))
        if number < len(extras):
            hidden = hidden + extras[number]
        outputs.append(hidden)
    return outputs


def slow(decoder, hidden, positions, real, stays, *, extras=(), choose=None):
    """The same of the whole sequence: `stays` is by layer which slots (b, L) later layers may attend to.

    `choose(attention)` is shown the weights of each layer and may return the slots that stay from the next one on.
    """
    rotary, visible, outputs = decoder.rotary_emb(hidden, positions), real, []
    causal = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool).tril()
    for number, layer in enumerate(decoder.layers):
        visible = stays.get(number, visible)
        bias = torch.zeros(()).masked_fill(~(causal & visible[:, None, None]), torch.finfo(torch.float32).min)
        weights = []
        hook = layer.self_attn.register_forward_hook(lambda _, a, out, w=weights: w.append(out[1]))
        hidden = layer(hidden, attention_mask=bias, position_embeddings=rotary)
        hook.remove()
        hidden = hidden + extras[number] if number < len(extras) else hidden
        outputs.append(hidden)
        if choose is not None and number + 1 in COUNTS:
            stays[number + 1] = visible = choose(number + 1, weights[0], visible)
    return outputs


class Chooser:
    """Drops what the raters attend to least, image by image, from a plain list of numbers."""

    def __init__(self):
        self.left = [list(range(len(columns))) for _, columns, _ in IMAGES]
        self.made = {}

    def __call__(self, drop, weights, visible):
        visible = visible.clone()
        for n, (row, columns, raters) in enumerate(IMAGES):
            score = {i: float(weights[row, :, raters, columns[i]].double().mean()) for i in self.left[n]}
            ranked = sorted(self.left[n], key=lambda i, score=score: (-score[i], i))
            self.left[n] = sorted(ranked[: COUNTS[drop][n]])
            visible[row, columns] = False
            visible[row, [columns[i] for i in self.left[n]]] = True
        self.made[drop] = [list(left) for left in self.left]
        return visible


def whole_bias(real):
    causal = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool).tril()
    return torch.zeros(()).masked_fill(~(causal & real[:, None, None]), torch.finfo(torch.float32).min)


def prefill(decoder, whole=0, mask=None):
    return PrefillCall(decoder.config, FastV(), REAL.long() if mask is None else mask, rated(), COUNTS, whole)


def same(one, other, stays):
    torch.testing.assert_close(one[stays], other[stays], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("whole", [0, 1, 2, 3, 4, 5])
def test_a_prompt_is_pruned_as_if_dropped_tokens_were_masked(decoder, whole, seed):
    hidden, positions = embed(seed=40 + seed), count(REAL)
    extras = [embed(seed=20 + n) for n in range(whole)]  # as DeepStack adds features after the first layers
    chooser, stays = Chooser(), {}
    expected = slow(decoder, hidden, positions, REAL, stays, extras=extras, choose=chooser)
    call = prefill(decoder, whole)
    assert (call.cache, call.answer, call.notes) == (None, 0, ())
    outputs = loop(decoder, call, hidden, positions, whole_bias(REAL), extras=extras)
    assert [stage.layer for stage in call.stages] == [1, 3]
    assert {stage.layer: [kept.tolist() for kept in stage.kept] for stage in call.stages} == chooser.made
    visible = REAL
    for number, (output, wanted) in enumerate(zip(outputs, expected, strict=True)):
        visible = stays.get(number, visible)
        if number < max(whole, 1) or number == DEPTH - 1:  # the language model reads or adds to the whole sequence
            assert output.shape == hidden.shape
            same(output, wanted, visible)
        else:
            assert output.shape[1] == int(visible.sum(1).max())
            slots = next(slots for slots in reversed(call.slots) if slots.layer <= number)
            same(slots.scatter(output), wanted, visible)
    assert [(slots.layer, slots.length) for slots in call.slots] == [(1, LENGTH), (3, LENGTH)]
    for slots in call.slots:
        kept = torch.zeros_like(REAL).scatter(1, slots.places, slots.real)
        assert torch.equal(kept, stays[slots.layer])


def test_a_drop_before_the_last_layer_and_one_drop_alone(decoder):
    hidden, positions = embed(), count(REAL)
    for drop in (1, 2, DEPTH - 1):
        call = PrefillCall(decoder.config, FastV(), REAL.long(), rated(), {drop: (4, 3, 2)}, 0)
        outputs = loop(decoder, call, hidden, positions, whole_bias(REAL))
        (slots,) = call.slots
        stays = torch.zeros_like(REAL).scatter(1, slots.places, slots.real)
        expected = slow(decoder, hidden, positions, REAL, {drop: stays})
        same(outputs[-1], expected[-1], stays)
        assert [output.shape[1] == LENGTH for output in outputs] == [n < drop or n == DEPTH - 1 for n in range(DEPTH)]


def test_one_rotary_embedding_may_serve_all_rows(decoder):
    """Positions of one row, as models have them that count columns."""
    hidden, positions = embed(), torch.arange(LENGTH).expand(3, -1)
    one, other = prefill(decoder), prefill(decoder)
    apart = loop(decoder, one, hidden, positions, whole_bias(REAL))
    shared = loop(decoder, other, hidden, positions, whole_bias(REAL), shared=True)
    assert all(torch.equal(a, b) for a, b in zip(apart, shared, strict=True))
    made = [[[kept.tolist() for kept in stage.kept] for stage in call.stages] for call in (one, other)]
    assert made[0] == made[1]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_kept_of_what_was_dropped_before(decoder, seed):
    """The second drop chooses among what the first one left, also where images have kept tokens already."""
    images = rated()
    item = dataclasses.replace(images[0].item, kept=torch.tensor([0, 2, 3, 5]))
    images[0] = dataclasses.replace(images[0], item=item)
    call = PrefillCall(decoder.config, FastV(), REAL.long(), images, {1: (3, 2, 2), 2: (2, 1, 1)}, 0)
    loop(decoder, call, embed(seed=seed), count(REAL), whole_bias(REAL))
    first, second = (stage.kept for stage in call.stages)
    assert set(first[0].tolist()) < {0, 2, 3, 5}
    assert [set(b.tolist()) < set(a.tolist()) for a, b in zip(first, second, strict=True)] == [True] * 3
    assert [len(kept) for kept in (*first, *second)] == [3, 2, 2, 2, 1, 1]


def test_the_seconds_are_those_of_all_selections(decoder, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) * 0.5)
    call = prefill(decoder)
    assert call.seconds == 0
    loop(decoder, call, embed(), count(REAL), whole_bias(REAL))
    assert call.seconds == 0.5 * len(COUNTS)


def test_selecting_needs_no_gradient_and_passes_those_of_the_layers_on(decoder):
    with torch.enable_grad():
        hidden = embed().requires_grad_()
        outputs = loop(decoder, prefill(decoder), hidden, count(REAL), whole_bias(REAL))
        outputs[-1][0, -1].sum().backward()
    assert hidden.grad[0].abs().sum() > 0
    assert not hidden.grad[2].any()


@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("masked", [True, False])
def test_new_tokens_see_what_each_layer_kept(decoder, new, masked):
    hidden, positions, cache = embed(), count(REAL), DynamicCache(config=decoder.config)
    call = prefill(decoder)
    loop(decoder, call, hidden, positions, whole_bias(REAL), cache=cache)
    assert call.cache is cache
    lengths = [cache.get_seq_length(number) for number in range(DEPTH)]
    widths = [int(slots.real.sum(1).max()) for slots in call.slots]
    assert lengths == [LENGTH, *[widths[0]] * 2, *[widths[1]] * 2]

    tail = torch.ones(3, new).bool()
    if masked and new > 1:
        tail[1, 0] = False  # a row of which fewer tokens are wanted
    mask = torch.cat([REAL, tail], dim=1)
    more, after = embed(new, seed=9), count(mask)[:, -new:]
    whole = torch.cat([hidden, more], dim=1)
    stays = {slots.layer: torch.zeros_like(REAL).scatter(1, slots.places, slots.real) for slots in call.slots}
    expected = slow(
        decoder, whole, torch.cat([positions, after], dim=1), mask,
        {layer: torch.cat([own, tail], dim=1) for layer, own in stays.items()},
    )  # fmt: skip
    step = DecodeCall(decoder.config, call.slots, mask.long() if masked else None)
    outputs = loop(decoder, step, more, after, whole_bias(mask)[..., -new:, :], cache=cache)
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.shape == more.shape
        same(output, wanted[:, -new:], tail)
    assert [cache.get_seq_length(number) for number in range(DEPTH)] == [length + new for length in lengths]


def test_position_ids_are_left_out_from_the_first_drop_on(decoder):
    """Flash attention takes a gap in them for the border between packed sequences."""
    call, cache = prefill(decoder), DynamicCache(config=decoder.config)
    loop(decoder, call, embed(), count(REAL), whole_bias(REAL), cache=cache)
    step = DecodeCall(decoder.config, call.slots, None)
    arguments = {"position_ids": torch.zeros(3, 1), "attention_mask": None, "past_key_values": cache}
    hidden = embed(1)
    assert step.before(0, None, hidden, arguments) == (hidden, arguments)
    assert step.find_slots(0) is None
    for layer, slots in ((1, call.slots[0]), (2, call.slots[0]), (3, call.slots[1]), (4, call.slots[1])):
        assert step.find_slots(layer) is slots
        own, changed = step.before(layer, None, hidden, arguments)
        assert own is hidden
        assert (changed["position_ids"], changed["past_key_values"]) == (None, cache)
        assert set(changed) == set(arguments)
    assert step.after(3, hidden) is hidden
