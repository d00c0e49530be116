"""The laws hold on every family, and each of them can be broken."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from foveate.conformance import laws, reference
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.reference import find_kept_items, mark_kept
from foveate.conformance.registry import to_tiny_family
from foveate.models import Family, base, family_of, lookup, patch_encoder, sequence as rewrite
from foveate.models.sequence import count_positions
from foveate.models.windows import WindowPlan
from foveate.pipeline.prune import prune_inputs
from kinds import by_kind

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning")


@pytest.fixture(autouse=True)
def absolute_limit(monkeypatch):
    """Hold tiny models to 1e-5 whatever the size of their logits; test_tolerance.py has the relative limit."""
    monkeypatch.setattr(reference, "logit_size", lambda logits: 1.0)


@pytest.mark.parametrize("model_type", by_kind(lookup.available(), pytest.mark.further))
def test_every_law_holds(model_type):
    results = laws.check_family(model_type)
    assert [r.name for r in results] == list(laws.select_laws(lookup.family(model_type)))
    assert all(r.passed for r in results), results


@pytest.mark.parametrize(
    ("model_type", "name"),
    [(kind, name) for kind in ("llava", "qwen2_5_vl", "qwen3_vl") for name in laws.select_laws(lookup.family(kind))],
)
def test_law_with_eager_attention(model_type, name):
    family = lookup.family(model_type)
    torch.manual_seed(0)
    config = to_tiny_family(family).make_config()
    config.foveate_template = {}
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        assert laws.LAWS[name](model, family) <= laws.TOLERANCE[torch.float32]


def test_check_reports_every_law_and_restores_the_mode(model):
    model.train()
    model.base_model.language_model.eval()  # as where a part is frozen
    results = laws.check(model)
    assert [r.name for r in results] == list(laws.select_laws(family_of(model)))
    assert all(r.passed for r in results), results
    assert model.training
    assert not model.base_model.language_model.training


@pytest.mark.parametrize(
    ("model_type", "part", "other"),
    [
        ("llava", "text_config", {"model_type": "mistral", "sliding_window": 512}),  # as BakLLaVA
        ("llava", "text_config", {"model_type": "qwen2"}),
        ("llava", "vision_config", {"model_type": "siglip_vision_model", "vision_use_head": False}),
        ("llava_next", "text_config", {"model_type": "mistral", "sliding_window": None}),
        ("internvl", "text_config", {"model_type": "llama"}),
        ("paligemma", "text_config", {"model_type": "gemma"}),
    ],
)
def test_other_parts_in_the_same_family(model_type, part, other):
    family = lookup.family(model_type)
    select = {"vision_feature_select_strategy": "full"} if part == "vision_config" else {}
    results = laws.check(make_tiny_model(family, **{part: other, **select}), family)
    assert all(result.passed for result in results), results


def status_of(family, law):
    return {result.name: result.status for result in laws.check(make_tiny_model(family), family)}[law]


def test_renumbered_positions_break_the_masking_law(monkeypatch):
    family = lookup.family("llava")
    monkeypatch.setattr(type(family), "positions", lambda self, model, inputs, mask: count_positions(mask) * 2)
    assert status_of(family, "keep=1.0 is the untouched model") == "violated"


def test_forgotten_deepstack_breaks_the_masking_law(monkeypatch):
    family = lookup.family("qwen3_vl")
    right = type(family).keep

    def keep(self, encoded, items):
        out = right(self, encoded, items)
        first = [replace(item, kept=torch.arange(len(item.kept))) for item in items]  # instead of the kept ones
        out.deepstack_features = right(self, encoded, first).deepstack_features
        return out

    monkeypatch.setattr(type(family), "keep", keep)
    assert status_of(family, "pruned = full with dropped tokens masked") == "violated"


def test_a_mask_of_ones_would_be_read_as_packed_sequences(monkeypatch):
    """The trap behind `sequence.ATTEND`: if this passes one day, the marker can go."""
    monkeypatch.setattr(rewrite, "ATTEND", 1)
    assert status_of(lookup.family("llava"), "cached decoding = recomputation") == "violated"


def test_questions_of_other_rows_break_the_ragged_law(monkeypatch):
    from foveate.pipeline import question, select

    monkeypatch.setattr(
        question, "find_question", lambda ids, first, template, ignored: list(range(len(ids) - 3, len(ids)))
    )
    right = select.VisualTokens
    monkeypatch.setattr(select, "VisualTokens", lambda e, q, g: right(e.roll(len(e) // 3, 0), q, g))
    # A consistent change is no breach.
    assert status_of(lookup.family("llava"), "ragged batch = each row alone") == "holds"
    calls = []

    def unstable(embeds, question, grid):
        calls.append(1)
        return right(embeds.roll(len(calls), 0), question, grid)

    monkeypatch.setattr(select, "VisualTokens", unstable)
    assert status_of(lookup.family("llava"), "ragged batch = each row alone") == "violated"


def test_other_places_break_the_law_on_merge_units(monkeypatch):
    place = patch_encoder.place_units

    def misplace(tower, grids, units):
        places = place(tower, grids, units)
        return {**places, "position_ids": places["position_ids"].roll(4, 0)}

    monkeypatch.setattr(patch_encoder, "place_units", misplace)
    for model_type in ("qwen2_5_vl", "qwen3_vl"):
        assert status_of(lookup.family(model_type), "all merge units chosen = the untouched features") == "violated"


def test_other_positions_and_other_windows_break_the_laws_on_windows(monkeypatch):
    family = lookup.family("qwen2_5_vl")
    cut, choose, calls = base.cut_sequence, WindowPlan.choose, []
    monkeypatch.setattr(base, "cut_sequence", lambda *args, compact, **more: cut(*args, compact=True, **more))
    assert status_of(family, "some windows encoded = full with these tokens") == "violated"
    monkeypatch.setattr(base, "cut_sequence", cut)

    def unstable(plan, ranking):
        calls.append(plan)
        return choose(plan, ranking[::-1] if len(calls) > 6 else ranking)  # the batch has 6 images with windows

    monkeypatch.setattr(WindowPlan, "choose", unstable)
    with torch.no_grad():
        assert laws.LAWS["some windows encoded in a batch = each row alone"](make_tiny_model(family), family) > 1e-2


def test_not_a_number_breaks_every_law_that_compares_logits(llava):
    with torch.no_grad():
        llava.lm_head.weight[7] = float("nan")
    statuses = {result.name: result.status for result in laws.check(llava)}
    assert statuses.pop("beams, sampling, assisted decoding") != "violated"
    assert set(statuses.values()) == {"violated"}


def test_a_law_that_cannot_run_is_an_error_and_the_others_still_run(monkeypatch):
    def fail(model, family):
        raise ValueError("of mine")

    monkeypatch.setitem(laws.LAWS, "keep=1.0 is the untouched model", fail)
    first, *others = laws.check_family("llava")
    assert (first.status, first.figure, first.passed) == ("error", "ValueError: of mine", False)
    assert {result.status for result in others} == {"holds"}


@pytest.mark.filterwarnings("ignore:Pruning is attached to this model already")
def test_a_handle_that_stays_breaks_the_trace_law(monkeypatch):
    from foveate.hooks.attach import Handle

    monkeypatch.setattr(Handle, "remove", lambda self: None)
    assert status_of(lookup.family("llava"), "remove() leaves no trace") == "violated"


def test_family_of_finds_the_registered_class(model, family):
    assert type(family_of(model)) is type(family)
    assert isinstance(family, Family)
    assert lookup.describe(type(family))


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}])
@torch.no_grad()
def test_generation_says_what_the_masked_full_model_says(model, family, settings):
    """Decoding goes on at the positions, and beams see the features, of the full prompt."""
    inputs = make_batch(model, family, [(2, 5), (1, 9)])
    short = prune_inputs(model, inputs, keep=0.4)
    words = {k: v for k, v in inputs.items() if k not in {"pixel_values", *family.encoder_inputs(model, inputs)}}
    everything = [
        replace(item, kept=torch.arange(item.total)) for item in find_kept_items(model, family, inputs, short)
    ]
    full = {
        **words,
        "position_ids": family.positions(model, inputs, inputs["attention_mask"]),
        "attention_mask": mark_kept(model, family, inputs, short).long(),
        "mm_encoder_outputs": {"image": family.keep(family.encode(model, inputs), everything)},
    }
    new = {"max_new_tokens": 5, "min_new_tokens": 5, **settings}
    assert torch.equal(model.generate(**short, **new)[:, -5:], model.generate(**full, **new)[:, -5:])
