"""The first look: what it reads, where it spreads it, and the choice that follows, beside a slow reference."""

import math
from dataclasses import dataclass, replace
from threading import Thread

import pytest
import torch

import foveate
from decoder_reference import deep_model, eager_twin
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError, ModelError
from foveate.method.foveate import Foveate
from foveate.method.glance import Glance
from foveate.models import lookup
from foveate.models.visual_input import Tile, make_visual_input
from foveate.pipeline.glance import mark_prompt, spread_attention
from foveate.pipeline.question import locate_questions

pytestmark = pytest.mark.usefixtures("no_grad")

NEW = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
SHARP = Glance(share=0.5, spread=0.8)


@pytest.fixture
def model(family):
    return deep_model(family)


@pytest.fixture
def inputs(model, family):
    return make_batch(model, family, [(2, 6), (1, 3)])


def spread_slowly(attention, places, sigma):
    out = []
    for x in places:
        out.append(
            max(
                float(a) * math.exp(-(math.dist(x, y) ** 2) / (2 * sigma**2))
                for a, y in zip(attention, places, strict=True)
            )
        )
    return torch.tensor(out)


def scale(scores):
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread > 0 else torch.zeros_like(scores)


def score_slowly(embeds, question):
    """The question tokens' centred maps of cosines, each weighted by its third moment, in float64."""
    unit, words = (torch.nn.functional.normalize(rows.double(), dim=-1) for rows in (embeds, question))
    total, weights = torch.zeros(len(embeds)).double(), 0.0
    for word in words:
        centred = unit @ word - (unit @ word).mean()
        weight = max(0.0, float((centred**3).mean()))
        total, weights = total + weight * centred, weights + weight
    return total / weights if weights else total


def select_slowly(embeds, grid, weight, k, method):
    """A core by Foveate's rule with the weights, and a complement by the rule without: the formulas, in float64."""
    unit = torch.nn.functional.normalize(embeds.double(), dim=-1)
    axes = sum(size > 1 for size in grid)
    places = torch.cartesian_prod(*(torch.arange(size).double() for size in grid))
    core = max(1, math.floor(method.core * k + 0.5))
    kept = [int(weight.argmax())]
    while len(kept) < k:
        total, weights = (core, weight) if len(kept) < core else (k, torch.ones_like(weight))
        sigma = method.reach * (math.prod(grid) / total) ** (1 / max(axes, 1))
        near = (-(torch.cdist(places, places) ** 2) / (2 * sigma**2)).exp()
        distance = 1 - unit @ unit.T + method.place * (1 - near)
        value = weights * distance[:, kept].amin(1)
        value[kept] = -1
        kept.append(int(value.argmax()))
    return sorted(kept)


def find_places(item):
    return torch.cartesian_prod(*(torch.arange(size).double() for size in item.grid))


def average_slowly(output, items, kept):
    """The encoder's output with the mean of the tokens nearest to a kept one in place of it, in every feature."""
    rows, start = [], 0
    for item, own in zip(items, kept, strict=True):
        places = find_places(item)
        nearest = [own[int(((places[own] - place) ** 2).sum(1).argmin())] for place in places]
        rows += [torch.tensor([start + m for m, n in enumerate(nearest) if n == owner]) for owner in nearest]
        start += item.total

    def average(features):
        flat = torch.cat([feature.reshape(-1, feature.shape[-1]) for feature in features])
        return list(torch.stack([flat[row].mean(0) for row in rows]).split([item.total for item in items]))

    output.pooler_output = average(output.pooler_output)
    if getattr(output, "deepstack_features", None) is not None:
        output.deepstack_features = [average(layer) for layer in output.deepstack_features]
    return output


def glance_slowly(model, family, inputs, keep, method):
    """What is kept of every image, from a full run of the eager model over the tokens of the first look."""
    eager = eager_twin(model, family)
    whole = family.items(model, inputs, {"image": family.encode(model, inputs)}, ())
    even = foveate.prune_inputs(model, inputs, keep=method.share, method="grid").report.items
    means = average_slowly(family.encode(model, inputs), whole, [item.kept for item in even])
    raw = {name: value for name, value in inputs.items() if name != "pixel_values"}
    first = foveate.prune_inputs(
        model, {**raw, "mm_encoder_outputs": {"image": means}}, keep=method.share, method="grid"
    )
    depth = model.config.get_text_config().num_hidden_layers
    layer = eager(**first, use_cache=False, output_attentions=True).attentions[round(method.depth * depth)].mean(1)
    left = [(ids == family.token_id(model.config)).nonzero().squeeze(1) for ids in first["input_ids"]]
    mask = inputs["attention_mask"]
    questions, _ = locate_questions(model, family, inputs, mask, whole)
    kept = []
    for item, seen in zip(whole, even, strict=True):
        columns, left[item.row] = left[item.row][: len(seen.kept)], left[item.row][len(seen.kept) :]
        places = find_places(item)
        own = layer[item.row, -1, columns]
        attention = [float(own[((places[seen.kept] - place) ** 2).sum(1).argmin()]) for place in places]
        spread = spread_slowly(attention, places.tolist(), method.spread).double()
        score = scale(spread) + method.words * scale(score_slowly(item.embeds, questions[item.row]))
        weight = (method.focus * scale(score)).exp()
        kept.append(select_slowly(item.embeds, item.grid, weight, math.floor(keep * item.total + 0.5), method))
    return kept


@pytest.mark.parametrize("keep", [0.25, 0.5])
def test_the_choice_is_the_slow_reference(model, family, inputs, keep):
    short = foveate.prune_inputs(model, inputs, keep=keep, method=SHARP)
    assert [item.kept.tolist() for item in short.report.items] == glance_slowly(model, family, inputs, keep, SHARP)


@dataclass(frozen=True)
class LookAtSelection(Glance):
    """A first look at some of the tokens themselves."""

    @property
    def first_look(self):
        return replace(super().first_look, pooled=False)


def test_a_look_at_a_selection(model, family, inputs):
    """Attention is read of the selected tokens alone, as in a full run of the eager model over them, and spread."""
    method = LookAtSelection(share=0.5, spread=0.8)
    report = foveate.prune_inputs(model, inputs, keep=0.3, method=method).report
    first = foveate.prune_inputs(model, inputs, keep=method.share, method="grid")
    out = eager_twin(model, family)(**first, use_cache=False, output_attentions=True)
    depth = model.config.get_text_config().num_hidden_layers
    layer = out.attentions[round(method.depth * depth)].mean(1)
    left = [(ids == family.token_id(model.config)).nonzero().squeeze(1) for ids in first["input_ids"]]
    for item, seen in zip(report.items, first.report.items, strict=True):
        columns, left[item.row] = left[item.row][: len(seen.kept)], left[item.row][len(seen.kept) :]
        attention = torch.zeros(item.total)
        attention[seen.kept] = layer[item.row, -1, columns]
        expected = spread_slowly(attention, find_places(item).tolist(), method.spread)
        assert item.look.tolist() == seen.kept.tolist()
        torch.testing.assert_close(item.attention, expected, atol=1e-6, rtol=1e-4)
        assert len(item.kept) == math.floor(0.3 * item.total + 0.5)


@pytest.mark.parametrize("more", [{"per": "prompt"}, {"explain": True}, {"positions": "compact"}])
def test_the_look_is_the_same_whatever_is_selected_after_it(model, inputs, more):
    items = foveate.prune_inputs(model, inputs, keep=0.5, method=SHARP).report.items
    others = foveate.prune_inputs(model, inputs, keep=0.5, method=SHARP, **more).report.items
    for item, other in zip(items, others, strict=True):
        assert torch.equal(item.look, other.look)
        assert torch.equal(item.attention, other.attention)


def test_the_question_decides(model, family):
    inputs = make_batch(model, family, [(1, 8)])
    choices = set()
    for seed in range(8):
        torch.manual_seed(seed)
        other = {**inputs, "input_ids": inputs["input_ids"].clone()}
        other["input_ids"][:, -6:] = torch.randint(20, 60, (1, 6))
        choices.add(tuple(foveate.prune_inputs(model, other, keep=0.5, method=SHARP).report.items[0].kept.tolist()))
    assert len(choices) > 1


def test_attached_as_alone(model, inputs):
    short = foveate.prune_inputs(model, inputs, keep=0.3, method=SHARP)
    expected = model(**short).logits, model.generate(**short, **NEW)[:, -3:]
    with foveate.pruning(model, keep=0.3, method=SHARP):
        logits, answer = model(**inputs).logits, model.generate(**inputs, **NEW)[:, -3:]
    torch.testing.assert_close(logits, expected[0], atol=1e-5, rtol=0)
    assert torch.equal(answer, expected[1])


def test_in_threads_as_alone(family, model):
    prompts = [make_batch(model, family, [(1, words)]) for words in (3, 5, 7, 9)]
    expected = [model(**foveate.prune_inputs(model, one, keep=0.3, method=SHARP)).logits for one in prompts]
    answers = {}

    def call(number):
        with torch.no_grad():
            for _ in range(5):
                answers[number] = model(**prompts[number]).logits

    with foveate.pruning(model, keep=0.3, method=SHARP):
        threads = [Thread(target=call, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, logits in enumerate(expected):
        torch.testing.assert_close(answers[number], logits, atol=1e-5, rtol=0)


def test_in_training_gradients_are_those_of_the_tokens_that_stay(model, inputs):
    with torch.enable_grad():
        short = foveate.prune_inputs(model, inputs, keep=0.3, method=SHARP)
        model(**short).logits.sum().backward()
    assert all(p.grad is not None for p in model.base_model.language_model.layers.parameters())


def test_the_answer_does_not_choose(model, inputs):
    """Labels and logits_to_keep tell where the prompt ends: other answers leave the choice alone."""
    method = replace(SHARP, words=0.0)  # these models know no turns: an answer without labels is a part of the question
    answer = torch.tensor([[31, 32, 33], [34, 35, 36]])
    prompt = foveate.prune_inputs(model, inputs, keep=0.25, method=method)
    expected = [item.kept.tolist() for item in prompt.report.items]
    for ids in (answer, answer + 7):
        whole = dict(inputs)
        whole["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
        whole["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(ids)], 1)
        if "mm_token_type_ids" in inputs:
            whole["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], 1)
        labels = torch.cat([torch.full_like(inputs["input_ids"], -100), ids], 1)
        for told in ({"labels": labels}, {"logits_to_keep": 4}):
            short = foveate.prune_inputs(model, {**whole, **told}, keep=0.25, method=method)
            assert [item.kept.tolist() for item in short.report.items] == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, [0, 1, 1, 1, 1, 1, 1]),
        ({"logits_to_keep": 0}, [0, 1, 1, 1, 1, 1, 1]),
        ({"logits_to_keep": 1}, [0, 1, 1, 1, 1, 1, 1]),
        ({"logits_to_keep": 3}, [0, 1, 1, 1, 1, 0, 0]),
        ({"logits_to_keep": torch.tensor([4, 5])}, [0, 1, 1, 1, 1, 0, 0]),
        ({"labels": torch.tensor([[-100, -100, -100, -100, -100, 5, 6]])}, [0, 1, 1, 1, 1, 0, 0]),
        ({"labels": torch.tensor([[-100, -100, 7, -100, -100, 5, -100]])}, [0, 1, 1, 1, 1, 0, 0]),
        ({"labels": torch.tensor([[1, 2, 3, 4, 5, 6, 7]])}, [0, 1, 1, 1, 1, 1, 1]),
        ({"labels": torch.full((1, 7), -100)}, [0, 1, 1, 1, 1, 1, 1]),
        ({"labels": torch.tensor([[5, 6]])}, [0, 1, 1, 1, 1, 1, 1]),  # of a separate decoder
    ],
)
def test_where_the_prompt_ends(told, expected):
    mask = torch.tensor([[0, 1, 1, 1, 1, 1, 1]])
    assert mark_prompt(told, mask)[0].int().tolist() == expected


@pytest.mark.parametrize("grid", [(1, 5, 7), (3, 4, 5), (1, 1, 9), (6, 1, 1)])
def test_spread_over_a_grid(grid):
    attention = torch.rand(math.prod(grid), generator=torch.Generator().manual_seed(0))
    attention[::2] = 0
    item = replace(
        make_visual_input("image", 0, torch.arange(len(attention)), 0, torch.ones(len(attention), 2)), grid=grid
    )
    places = [(t, y, x) for t in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]
    for sigma in (0.3, 1.2, 5.0):
        torch.testing.assert_close(
            spread_attention(attention, item, sigma), spread_slowly(attention.tolist(), places, sigma)
        )


def test_spread_over_tiles_does_not_leave_a_tile():
    item = make_visual_input("image", 0, torch.arange(14), 0, torch.ones(14, 2))
    item = replace(item, tiles=(Tile(0, 2, 3, 4), Tile(8, 2, 3, 3)))  # the first has a row end after each row
    attention = torch.zeros(14)
    attention[[2, 7]] = torch.tensor([0.5, 0.25])
    spread = spread_attention(attention, item, 1.0)
    near, far = math.exp(-0.5), math.exp(-2)
    expected = torch.tensor([far, near, 1.0, 0.0, math.exp(-2.5), math.exp(-1), near, 0.0]) * 0.5
    expected[7] = 0.25  # a row end keeps its own
    torch.testing.assert_close(spread[:8], expected)
    assert not spread[8:].any()


def test_without_a_grid_tokens_are_one_row():
    item = make_visual_input("image", 0, torch.arange(5), 0, torch.ones(5, 2))
    spread = spread_attention(torch.tensor([0, 0, 1.0, 0, 0]), item, 1.0)
    torch.testing.assert_close(spread, torch.tensor([math.exp(-2), math.exp(-0.5), 1, math.exp(-0.5), math.exp(-2)]))


@pytest.mark.parametrize("model_type", ["mllama", "florence2", "blip-2"])
def test_models_without_one_sequence_are_refused(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    with pytest.raises(ModelError, match="glance reads how the prompt attends to the image"):
        foveate.prune_inputs(model, make_batch(model, family, [(1, 5)]), keep=0.5, method="glance")


def test_rows_without_an_image_and_keep_all(model, family, inputs):
    rows = make_batch(model, family, [(0, 4), (1, 3)])
    short = foveate.prune_inputs(model, rows, keep=0.5, method=SHARP)
    assert [item.row for item in short.report.items] == [1]
    whole = foveate.prune_inputs(model, inputs, keep=1.0, method=SHARP)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(model(**whole).logits[real], model(**inputs).logits[real], atol=1e-5, rtol=0)


def test_nothing_is_read_where_everything_is_kept(model, inputs, monkeypatch):
    def refuse(*_):
        raise AssertionError("A first look ran.")

    monkeypatch.setattr("foveate.pipeline.glance.read_attention", refuse)
    whole = foveate.prune_inputs(model, inputs, keep=1.0, method=SHARP)
    assert whole.report.kept_count == whole.report.total_count
    with pytest.raises(AssertionError, match="A first look ran"):
        foveate.prune_inputs(model, inputs, keep=0.5, method=SHARP)


def test_explained(model, inputs):
    short = foveate.prune_inputs(model, inputs, keep=0.3, method=SHARP, explain=True)
    for item in short.report.items:
        assert item.relevance.shape == (item.total,)
        assert float(item.relevance.amax()) > 0
        assert item.core.any()


def test_a_method_that_does_not_say_how_to_look_is_refused(model, inputs):
    class Curious(Foveate):
        name = "curious"
        needs = frozenset({"attention"})

    with pytest.raises(InputError, match="curious needs attention, and has no first_look"):
        foveate.prune_inputs(model, inputs, keep=0.3, method=Curious())
