"""The laws of methods that hide visual tokens from single steps of decoding, on every family."""

import copy

import pytest
import torch
from transformers import StaticCache

import foveate
from caches import with_cache
from compare import close, state
from decoder_reference import deep_model, eager_twin
from foveate import StepReport, VisionPulse
from foveate.conformance.batches import make_batch, take_row
from foveate.errors import FoveateWarning, InputError, ModelError
from foveate.models.cache import cache_of
from step_reference import slow_steps

ROWS = [(2, 5), (1, 9), (0, 4), (3, 3)]
STEPS = 4
NEW = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, "return_dict_in_generate": True,
       "output_logits": True}  # fmt: skip
METHODS = {"default": VisionPulse(), "all between": VisionPulse(least=0, temperature=2, anchor_at=0.6)}
every_method = pytest.mark.parametrize("method", list(METHODS.values()), ids=list(METHODS))
pytestmark = [pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning"), pytest.mark.usefixtures("no_grad")]


@pytest.fixture
def model(family):
    return deep_model(family)


@pytest.fixture(params=["sdpa", "eager"])
def either(family, request):
    return deep_model(family, attention=request.param)


def choices(report):
    return [[kept.tolist() for kept in step.kept] for step in report.steps]


def test_keep_all_is_the_stock_model_bit_for_bit(either, family):
    inputs = make_batch(either, family, ROWS)
    stock = either.generate(**inputs, **NEW)
    with foveate.pruning(either, keep=1.0, method="visionpulse") as handle:
        out = either.generate(**inputs, **NEW)
    assert torch.equal(out.sequences, stock.sequences)
    assert all(torch.equal(one, other) for one, other in zip(out.logits, stock.logits, strict=True))
    assert (handle.report.step_share, handle.report.mean_share, len(handle.report.steps)) == (1.0, 1.0, STEPS - 1)


@every_method
@pytest.mark.parametrize("keep", [0.4, 3])
def test_steps_are_the_reference(either, family, method, keep):
    """The same choices, and the logits of stock layers on the whole sequence with the other tokens masked by hand."""
    inputs = make_batch(either, family, ROWS)
    with foveate.pruning(either, keep=keep, method=method) as handle:
        out = either.generate(**inputs, **NEW)
    expected, made = slow_steps(eager_twin(either, family), family, method, inputs, out.sequences, keep)
    assert choices(handle.report) == made
    close(torch.stack(out.logits, 1), expected)
    assert handle.report.anchor == method.find_anchor(6)
    shares = [sum(map(len, step)) / handle.report.total_count for step in made]
    assert handle.report.step_share == pytest.approx(sum(shares) / len(shares))
    assert handle.report.step_share < 1


def test_the_prompt_is_read_as_by_the_stock_model(either, family):
    inputs = make_batch(either, family, ROWS)
    stock = either(**inputs).logits
    with foveate.pruning(either, keep=0.1, method="visionpulse") as handle:
        assert torch.equal(either(**inputs).logits, stock)
    report = handle.report
    assert [len(item.kept) for item in report.items] == [item.total for item in report.items]
    assert (report.steps, report.step_share, report.visual_tokens) == ((), 1.0, (report.total_count,) * 6)


def test_one_row_without_mask_sampled(model, family):
    inputs = make_batch(model, family, [(2, 6)])
    unmasked = {name: value for name, value in inputs.items() if name != "attention_mask"}
    torch.manual_seed(0)
    with foveate.pruning(model, keep=0.3, method="visionpulse") as handle:
        out = model.generate(**unmasked, **{**NEW, "do_sample": True})
    expected, made = slow_steps(eager_twin(model, family), family, VisionPulse(), inputs, out.sequences, 0.3)
    assert choices(handle.report) == made
    close(torch.stack(out.logits, 1), expected)


def test_a_ragged_batch_is_each_row_alone(model, family):
    rows = [(2, 5), (1, 11), (1, 2), (0, 3)]
    inputs, shown = make_batch(model, family, rows), 0
    with foveate.pruning(model, keep=0.3, method="visionpulse") as handle:
        together, steps = model.generate(**inputs, **NEW), None
        steps = choices(handle.report)
        for row, (count, _) in enumerate(rows[:3]):
            alone = model.generate(**take_row(model, family, inputs, row, range(shown, shown + count)), **NEW)
            shown += count
            assert torch.equal(together.sequences[row, -STEPS:], alone.sequences[0, -STEPS:])
            for one, other in zip(together.logits, alone.logits, strict=True):
                close(one[row], other[0])
            assert [step[row] for step in steps] == [step[0] for step in choices(handle.report)]


def test_beams_score_what_recomputation_scores(model, family):
    """The cache is reordered among beams; each returned sequence must have the score it has alone."""
    inputs = make_batch(model, family, [(2, 5), (1, 3)])
    settings = {**NEW, "num_beams": 3, "num_return_sequences": 2, "output_scores": True, "length_penalty": 0.0}
    with foveate.pruning(model, keep=0.3, method="visionpulse"):
        out = model.generate(**inputs, **settings)
    for pick in range(2):
        sequences = out.sequences[pick::2]
        logits, _ = slow_steps(eager_twin(model, family), family, VisionPulse(), inputs, sequences, 0.3)
        scores = logits.log_softmax(-1)
        scores[..., model.generation_config.eos_token_id] = -torch.inf
        close(scores.gather(2, sequences[:, -STEPS:, None]).sum((1, 2)), out.sequences_scores[pick::2])


def test_several_tokens_at_once_run_as_in_the_stock_model(model, family):
    inputs = make_batch(model, family, [(2, 5), (1, 3)])
    new = torch.randint(10, 200, (2, 3), generator=torch.Generator().manual_seed(1))
    more = {"input_ids": new, "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1)}
    more["position_ids"] = torch.arange(40, 43).expand(2, -1)
    stock = model(**more, **with_cache(model, cache_of(model(**inputs, use_cache=True)))).logits
    with foveate.pruning(model, keep=0.1, method="visionpulse") as handle:
        cache = cache_of(model(**inputs, use_cache=True))
        assert torch.equal(model(**more, **with_cache(model, cache)).logits, stock)
        assert handle.report.steps == ()
        one = {"input_ids": new[:, :1], "position_ids": torch.full((2, 1), 43)}
        model(**one, **with_cache(model, cache))
        assert len(handle.report.steps) == 1


def test_assisted_decoding_runs(model, family):
    inputs = make_batch(model, family, [(1, 5)])
    with foveate.pruning(model, keep=0.3, method="visionpulse"):
        settings = {**NEW, "max_new_tokens": 8, "min_new_tokens": 8}
        out = model.generate(**inputs, **settings, prompt_lookup_num_tokens=2)
    assert out.sequences.shape[1] == inputs["input_ids"].shape[1] + 8


def test_text_only_is_untouched(model, family):
    inputs = make_batch(model, family, [(0, 6), (0, 3)])
    stock = model.generate(**inputs, **NEW)
    with foveate.pruning(model, keep=0.1, method="visionpulse") as handle:
        out = model.generate(**inputs, **NEW)
        assert handle.last_report is None
    assert torch.equal(torch.stack(out.logits), torch.stack(stock.logits))


# -- caches ---------------------------------------------------------------------------------------------------------


def step(model, cache, rows, at=60):
    """The logits of one step; each row has a token of its own."""
    tokens = torch.tensor([[21], [34]])[rows]
    one = {"input_ids": tokens, "position_ids": torch.full((len(rows), 1), at)}
    return model(**one, **with_cache(model, cache)).logits


def test_the_cache_stays_whole_and_the_stock_model_goes_on_from_it(model, family):
    inputs = make_batch(model, family, [(2, 5), (1, 5)])
    stock = cache_of(model(**inputs, use_cache=True))
    expected = step(model, copy.deepcopy(stock), [0, 1])
    with foveate.pruning(model, keep=0.1, method="visionpulse"):
        cache = cache_of(model(**inputs, use_cache=True))
        twin = copy.deepcopy(cache)
        assert not torch.equal(step(model, twin, [0, 1]), expected)
        assert {layer.keys.shape[-2] for layer in twin.layers} == {inputs["input_ids"].shape[1] + 1}
        assert torch.equal(step(model, stock, [0, 1]), expected)  # filled without the method: nothing is known of it
    assert torch.equal(step(model, copy.deepcopy(cache), [0, 1]), expected)
    for method in ("fastv", "divprune"):
        with foveate.pruning(model, keep=0.1, method=method):
            assert torch.equal(step(model, copy.deepcopy(cache), [0, 1]), expected)


def test_copies_of_a_cache_and_reordered_rows_go_on(model, family):
    inputs = make_batch(model, family, [(1, 5), (2, 3)])
    with foveate.pruning(model, keep=0.3, method="visionpulse") as handle:
        cache = cache_of(model(**inputs, use_cache=True))
        twin, beams, fewer = (copy.deepcopy(cache) for _ in range(3))
        expected = step(model, cache, [0, 1])
        kept = choices(handle.report)[0]
        assert len(kept[0]) < len(kept[1])
        twin.reorder_cache(torch.tensor([1, 0]))
        beams.batch_repeat_interleave(2)
        beams.reorder_cache(torch.tensor([3, 0, 1, 2]))
        fewer.batch_select_indices(torch.tensor([1]))
        for other, rows in ((twin, [1, 0]), (beams, [1, 0, 0, 1]), (fewer, [1])):
            close(step(model, other, rows), expected[rows])
            assert choices(handle.report)[-1] == [kept[row] for row in rows]
        with pytest.raises(InputError, match="of 2 rows: go on with as many rows, not 1"):
            step(model, cache, [0])


def test_a_cache_that_was_cut_back_knows_its_visual_tokens(model, family):
    inputs = make_batch(model, family, [(1, 5)])
    with foveate.pruning(model, keep=0.3, method="visionpulse") as handle:
        cache = cache_of(model(**inputs, use_cache=True))
        expected = step(model, cache, [0])
        cache.crop(-1)
        close(step(model, cache, [0]), expected)
        places = (inputs["input_ids"][0] == family.token_id(model.config)).nonzero()
        cache.crop(int(places[0]) - cache.get_seq_length() + 2)  # two visual tokens are left
        for _ in range(3):
            step(model, cache, [0])
        shares = [each.share for each in handle.report.steps]
        assert shares[-3:] == [0.5, 0.5, 0.5]


def test_a_cache_that_was_reset_is_a_new_one(model, family):
    images, text = make_batch(model, family, [(1, 6)]), make_batch(model, family, [(0, 6)])
    stock = cache_of(model(**text, use_cache=True))
    expected = step(model, stock, [0])
    with foveate.pruning(model, keep=0.1, method="visionpulse") as handle:
        cache = cache_of(model(**images, use_cache=True))
        cache.reset()
        model(**text, **with_cache(model, cache))
        assert torch.equal(step(model, cache, [0]), expected)
        assert handle.report.steps == ()


def test_the_steps_of_another_prompt_are_not_reported(model, family):
    first, second = make_batch(model, family, [(1, 6)]), make_batch(model, family, [(2, 6)])
    with foveate.pruning(model, keep=0.3, method="visionpulse") as handle:
        cache = cache_of(model(**first, use_cache=True))
        other = cache_of(model(**second, use_cache=True))
        step(model, cache, [0])
        assert handle.report.steps == ()
        step(model, other, [0])
        assert len(handle.report.steps) == 1


def test_without_a_cache_a_note_says_that_nothing_is_hidden(model, family):
    inputs = make_batch(model, family, [(1, 6)])
    stock = model.generate(**inputs, **NEW, use_cache=False)
    with foveate.pruning(model, keep=0.1, method="visionpulse") as handle:
        out = model.generate(**inputs, **NEW, use_cache=False)
    assert torch.equal(torch.stack(out.logits), torch.stack(stock.logits))
    assert "no steps of decoding" in handle.report.notes[0]


def test_pruned_inputs_go_on(model, family):
    inputs = make_batch(model, family, [(2, 5), (1, 9)])
    short = foveate.prune_inputs(model, inputs, keep=0.6)
    with foveate.pruning(model, keep=2, method="visionpulse") as handle:
        model.generate(**short, **NEW)
    report = handle.report
    assert report.total_count == short.report.kept_count
    assert all(0 < len(kept) <= 2 for each in report.steps for kept in each.kept)


# -- what is refused, and what stays ----------------------------------------------------------------------------------


def test_what_cannot_be_right_is_refused(model, family):
    inputs = make_batch(model, family, [(1, 5)])
    wrong = [
        ({"labels": inputs["input_ids"]}, "a call with labels has none"),
        ({"pixel_values_videos": inputs["pixel_values"]}, "prunes images, not videos"),
        ({"attention_mask": inputs["attention_mask"] * 0}, "hides image placeholders"),
        ({"input_ids": inputs["input_ids"].clamp(max=200)}, "no placeholder is left"),
        (with_cache(model, StaticCache(config=model.config.get_text_config(), max_cache_len=99)), "not a static one"),
    ]
    with foveate.pruning(model, keep=0.3, method="visionpulse") as handle:
        for change, words in wrong:
            with pytest.raises(InputError, match=words):
                model(**{**inputs, **change})
        cache = cache_of(model(**inputs, use_cache=True))
        with pytest.raises(InputError, match="is filled, and this call does not tell with what"):
            model(**inputs, **with_cache(model, cache))
        with pytest.raises(InputError, match="was called past"):
            model.base_model(**inputs)
        for layer in cache.layers:  # as a quantized cache: the keys are somewhere else
            layer.get_seq_length = lambda: 99
        with pytest.raises(InputError, match="cannot be read as they are"):
            step(model, cache, [0])
        model.generate(**inputs, **NEW)
        assert len(handle.report.steps) == STEPS - 1


def test_attention_without_masks_is_refused(model, family):
    inputs, text = make_batch(model, family, [(1, 5)]), model.config.get_text_config()
    text._attn_implementation = "flash_attention_2"
    with pytest.raises(ModelError, match="'flash_attention_2' does not take"):
        foveate.attach(model, keep=0.3, method="visionpulse")
    text._attn_implementation = "sdpa"
    with foveate.pruning(model, keep=0.3, method="visionpulse"):
        text._attn_implementation = "flex_attention"
        with pytest.raises(ModelError, match="'flex_attention' does not take"):
            model(**inputs)


def test_methods_in_the_decoder_do_not_mix(model):
    for first, second in (("visionpulse", "fastv"), ("fastv", "visionpulse"), ("divprune", "visionpulse")):
        with (
            foveate.pruning(model, keep=0.3, method=first),
            pytest.raises(InputError, match="remove its handle"),
        ):
            foveate.attach(model, keep=0.3, method=second)
    with pytest.raises(InputError, match="takes one budget"):
        foveate.attach(model, keep=[0.1, 0.2], method="visionpulse")


def test_a_number_that_hides_nothing_is_warned_of_once(model, family):
    inputs = make_batch(model, family, [(1, 5)])
    stock = model.generate(**inputs, **NEW)
    with foveate.pruning(model, keep=99, method="visionpulse") as handle:
        with pytest.warns(FoveateWarning, match="keep=99 keeps all") as caught:
            out = model.generate(**inputs, **NEW)
        assert len([each for each in caught if each.category is FoveateWarning]) == 1
    assert torch.equal(torch.stack(out.logits), torch.stack(stock.logits))
    assert handle.report.step_share == 1.0


class Mine(Exception):
    pass


def test_remove_leaves_no_trace_even_after_an_error_inside(model, family):
    inputs, before = make_batch(model, family, [(1, 5)]), state(model)
    stock, last = model.generate(**inputs, **NEW), model.base_model.language_model.layers[-1]

    def fail(*_):
        raise Mine

    with foveate.pruning(model, keep=0.3, method="visionpulse") as handle:
        assert state(model) != before
        twin = copy.deepcopy(model)
        cache = cache_of(model(**inputs, use_cache=True))
        broken = last.register_forward_pre_hook(fail)
        with pytest.raises(Mine):
            step(model, cache, [0])
        broken.remove()
        assert handle.report.steps == ()
        text = make_batch(model, family, [(0, 3)])
        assert torch.equal(model(**text).logits, twin(**text).logits)
    assert state(model) == before
    assert torch.equal(torch.stack(model.generate(**inputs, **NEW).logits), torch.stack(stock.logits))
    assert torch.equal(torch.stack(twin.generate(**inputs, **NEW).logits), torch.stack(stock.logits))


def test_half_precision(model, family):
    inputs = make_batch(model.to(torch.bfloat16), family, [(2, 5), (1, 3)])
    with foveate.pruning(model, keep=0.3, method="visionpulse") as handle:
        assert torch.isfinite(torch.stack(model.generate(**inputs, **NEW).logits)).all()
    assert handle.report.step_share < 1


def test_the_report_in_words(model, family):
    inputs = make_batch(model, family, [(2, 5)])
    with foveate.pruning(model, keep=4, method=VisionPulse(least=1)) as handle:
        model.generate(**inputs, **NEW)
    report = handle.report
    assert isinstance(report, StepReport)
    assert str(report) == (
        f"visionpulse: {4 / report.total_count:.1%} of {report.total_count} visual tokens a step "
        f"from layer 3 on, {STEPS - 1} steps"
    )
    assert report.mean_share == pytest.approx((1 + report.step_share) / 2)
    assert str(report) in report._repr_html_()
    assert report.seconds > 0
