"""Decoding goes on from a pruned prompt's cache, in the caller's own loop and in `generate`."""

import copy
import warnings
from functools import partial

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.modeling_outputs import BaseModelOutput

import foveate
from caches import with_cache
from compare import close
from decoder_reference import deep_model
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.reference import go_on
from foveate.errors import FoveateWarning, InputError
from foveate.hooks.continuation import continue_call, continue_generate, fit_encoder_mask, make_record
from foveate.hooks.record import CachedStates
from foveate.models import lookup
from foveate.models.cache import cache_of
from foveate.models.sequence import count_positions

pytestmark = pytest.mark.usefixtures("no_grad")

ROWS = [(2, 6), (1, 3)]
NEW = 8
TURN = torch.tensor([[31, 32, 33, 34], [35, 36, 37, 38]])


@pytest.fixture(params=["original", "compact"])
def positions(request):
    return request.param


@pytest.fixture
def inputs(model, family):
    model.generation_config.update(do_sample=False, eos_token_id=None, pad_token_id=0)
    return make_batch(model, family, ROWS)


@pytest.fixture
def handle(model, positions):
    with foveate.pruning(model, keep=0.3, positions=positions) as handle:
        yield handle


@pytest.fixture
def answer(model, family, inputs, handle):
    """What `generate` says, which the laws hold to recomputation."""
    return model.generate(
        **inputs, max_new_tokens=NEW, suppress_tokens=[family.token_id(model.config)], return_dict_in_generate=True,
        output_logits=True,
    )  # fmt: skip


@pytest.fixture
def new(inputs, answer):
    return answer.sequences[:, inputs["input_ids"].shape[1] :]


@pytest.fixture
def cache(model, inputs, handle):
    """A cache that holds the pruned prompt."""
    cache = DynamicCache(config=model.config.get_text_config())
    model(**inputs, **with_cache(model, cache))
    return cache


def call(model, inputs, cache, tokens, first, rows=(0, 1), **more):
    """Logits behind `tokens` (n, q), of which the first is the `first` one of the answer."""
    mask = inputs["attention_mask"][list(rows)]
    mask = torch.cat([mask, mask.new_ones(len(mask), first + tokens.shape[1])], 1)
    return model(input_ids=tokens, attention_mask=mask, **with_cache(model, cache), **more).logits[:, -1]


def test_several_tokens_at_once(model, inputs, cache, new, answer):
    close(call(model, inputs, cache, new[:, :3], 0), answer.logits[3])
    close(call(model, inputs, cache, new[:, 3:4], 3), answer.logits[4])


def test_positions_of_the_caller(model, family, inputs, cache, new, answer):
    """As `generate` counts them: from the last position of the whole prompt."""
    whole = family.positions(model, inputs, inputs["attention_mask"])
    axes = whole[1:] if whole.ndim == 3 else whole
    for step in range(3):
        own = {"position_ids": axes[..., -1:] + 1 + step}
        close(call(model, inputs, cache, new[:, step : step + 1], step, **own), answer.logits[step + 1])


def test_positions_of_the_caller_from_the_prompt_on():
    """PaliGemma counts from 1 in `forward`, and only the order of its tokens matters."""
    family = lookup.family("paligemma")
    model = make_tiny_model(family)
    inputs, token = make_batch(model, family, [(1, 6)]), torch.tensor([[42]])
    width = inputs["input_ids"].shape[1]

    def go_on():
        cache = DynamicCache(config=model.config.get_text_config())
        model(**inputs, **with_cache(model, cache))
        return model(input_ids=token, position_ids=torch.tensor([[width + 1]]), **with_cache(model, cache)).logits

    stock = go_on()
    with foveate.pruning(model, keep=1.0):
        close(go_on(), stock)


def test_rows_reordered_repeated_and_selected(model, inputs, cache, new, answer):
    swapped = [1, 0]
    cache.reorder_cache(torch.tensor(swapped))
    close(call(model, inputs, cache, new[swapped, :1], 0, swapped), answer.logits[1][swapped])
    cache.batch_repeat_interleave(2)
    beams = [1, 1, 0, 0]
    close(call(model, inputs, cache, new[beams, 1:2], 1, beams), answer.logits[2][beams])
    cache.reorder_cache(torch.tensor([3, 1, 0, 2]))
    beams = [0, 1, 1, 0]
    close(call(model, inputs, cache, new[beams, 2:3], 2, beams), answer.logits[3][beams])
    cache.batch_select_indices(torch.tensor([2]))
    close(call(model, inputs, cache, new[1:, 3:4], 3, [1]), answer.logits[4][1:])


def test_a_copy_of_the_cache_goes_on_by_itself(model, inputs, cache, new, answer):
    twin = copy.deepcopy(cache)
    cache.reorder_cache(torch.tensor([1, 0]))
    cache.reorder_cache(torch.tensor([1, 0]))
    close(call(model, inputs, cache, new[:, :1], 0), answer.logits[1])
    close(call(model, inputs, cache, new[:, 1:2], 1), answer.logits[2])
    twin.reorder_cache(torch.tensor([1, 0]))
    close(call(model, inputs, twin, new[[1, 0], :1], 0, [1, 0]), answer.logits[1][[1, 0]])


def test_generate_goes_on_from_the_callers_loop(model, family, inputs, cache, new):
    prompt = inputs["input_ids"]
    call(model, inputs, cache, new[:, :4], 0)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 5).long()], 1)
    out = model.generate(
        input_ids=torch.cat([prompt, new[:, :5]], 1), attention_mask=mask, max_new_tokens=3,
        suppress_tokens=[family.token_id(model.config)], **with_cache(model, cache),
    )  # fmt: skip
    assert torch.equal(out, torch.cat([prompt, new], 1))


@pytest.mark.parametrize("only_new", [False, True])
def test_the_next_turn_goes_on_from_generate(model, family, inputs, handle, answer, new, only_new):
    """Against the stock model's own `generate` on the pruned prompt, the answer and the turn, without a cache."""
    whole = torch.cat([answer.sequences, TURN], 1)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, NEW + 4).long()], 1)
    last = whole[:, -5:] if only_new else whole  # the answer's last token is not in the cache
    settings = {"max_new_tokens": 3, "suppress_tokens": [family.token_id(model.config)]}
    out = model.generate(input_ids=last, attention_mask=mask, **with_cache(model, cache_of(answer)), **settings)
    assert torch.equal(out[:, : last.shape[1]], last)
    short = foveate.prune_inputs(model, inputs, keep=0.3, positions=handle.settings.positions)
    text = torch.cat([new, TURN], 1)
    following = [go_on(short, text[:, n : n + 1], n) for n in range(text.shape[1])]
    stock = {
        **short,
        "input_ids": torch.cat([short["input_ids"], text], 1),
        "attention_mask": following[-1]["attention_mask"].clamp(max=1),
        "position_ids": torch.cat([short["position_ids"], *[one["position_ids"] for one in following]], -1),
    }
    types = {n: torch.cat([v, torch.zeros_like(text)], 1) for n, v in short.items() if n.endswith("type_ids")}
    expected = model.generate(**{**stock, **types}, **settings)
    assert torch.equal(out[:, -3:], expected[:, -3:])


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "gemma3", "mllama"])
@pytest.mark.parametrize("only_new", [False, True])
def test_a_text_conversation_goes_on_as_in_the_stock_model(model_type, only_new):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(0, 6), (0, 3)])
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, NEW + 4).long()], 1)
    settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}

    def talk():
        first = model.generate(**inputs, **settings, return_dict_in_generate=True)
        whole = torch.cat([first.sequences, TURN], 1)
        last = whole[:, -5:] if only_new else whole
        return model.generate(input_ids=last, attention_mask=mask, **with_cache(model, cache_of(first)), **settings)

    stock = talk()
    with foveate.pruning(model, keep=0.3):
        assert torch.equal(talk(), stock)


@pytest.mark.parametrize("keep", [1.0, 0.4])
@pytest.mark.parametrize("only_new", [False, True])
def test_the_next_turn_of_a_model_that_attends_across(keep, only_new):
    """Against the whole conversation without a cache, its image pruned alike by a question that stays the same."""
    family = lookup.family("mllama")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 6)])
    settings = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    with foveate.pruning(model, keep=keep, method="grid"):
        first = model.generate(**inputs, **settings, return_dict_in_generate=True)
        whole = torch.cat([first.sequences, TURN[:1]], 1)
        last = whole[:, -5:] if only_new else whole
        mask = torch.ones_like(whole)
        out = model.generate(input_ids=last, attention_mask=mask, **with_cache(model, cache_of(first)), **settings)
        seen = inputs["cross_attention_mask"]
        seen = torch.cat([seen, seen[:, -1:].expand(-1, whole.shape[1] - seen.shape[1], -1, -1)], 1)
        again = {**inputs, "input_ids": whole, "attention_mask": mask, "cross_attention_mask": seen}
        expected = model.generate(**again, **settings)
    assert torch.equal(out[:, -3:], expected[:, -3:])


@pytest.mark.parametrize("right", [False, True])
def test_padded_rows_that_attend_across_go_on_as_alone(right):
    family = lookup.family("mllama")
    model = make_tiny_model(family)
    inputs, token = make_batch(model, family, [(1, 8), (1, 3)]), torch.tensor([[42], [43]])
    if right:
        shift = int((inputs["attention_mask"][1] == 0).sum())
        for name in ("input_ids", "attention_mask", "cross_attention_mask"):
            inputs[name] = torch.stack([inputs[name][0], inputs[name][1].roll(-shift, 0)])
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 1).long()], 1)
    seen = inputs["cross_attention_mask"].amax(1, keepdim=True)  # one image each, which every token behind it sees

    def go_on(rows, **settings):
        cache = DynamicCache(config=model.config.get_text_config())
        model(**{name: value[rows] for name, value in inputs.items()}, **with_cache(model, cache))
        new = {"input_ids": token[rows], "attention_mask": mask[rows], **with_cache(model, cache)}
        return model(**new, **{name: value[rows] for name, value in settings.items()}).logits

    both, stock = [0, 1], [go_on([0, 1], cross_attention_mask=seen), go_on([0, 1])]
    with foveate.pruning(model, keep=1.0):
        close(go_on(both, cross_attention_mask=seen), stock[0])
        close(go_on(both), stock[1])
    with foveate.pruning(model, keep=0.4):
        with pytest.raises(InputError, match="leave it out after the prompt"):
            go_on(both, cross_attention_mask=1 - seen)
        together = go_on(both, cross_attention_mask=seen)
        for row in both:
            close(together[row], go_on([row])[0])


def test_embeddings_that_hide_an_image_are_warned_of_once(llava):
    embeds = llava.get_input_embeddings()(torch.tensor([[5, 6, 7]]))
    with foveate.pruning(llava, keep=0.3):
        with pytest.warns(FoveateWarning, match="nothing was pruned"):
            llava(inputs_embeds=embeds)
        llava(inputs_embeds=embeds)


def test_pruned_audio_which_goes_on_as_embeddings_hides_nothing():
    family = lookup.family("qwen2_5_omni_thinker")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("image", "audio"), 6)])
    short = foveate.prune_inputs(model, inputs, keep=0.3, modalities=("image", "audio"))
    with warnings.catch_warnings(), foveate.pruning(model, keep=0.3):
        warnings.simplefilter("error")
        assert model(**short).logits.shape[1] == short["attention_mask"].shape[1]


def test_embedded_tokens_go_on(model, inputs, cache, new, answer):
    embeds = model.get_input_embeddings()(new[:, :2])
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 2).long()], 1)
    logits = model(inputs_embeds=embeds, attention_mask=mask, **with_cache(model, cache)).logits[:, -1]
    close(logits, answer.logits[2])


def test_four_axes_of_the_caller(model, family, inputs, cache, new, answer):
    """The row that counts tokens is the pruned sequence's own."""
    whole = family.positions(model, inputs, inputs["attention_mask"])
    if whole.ndim == 2:
        whole = whole.expand(1, -1, -1)[0]
    for step in range(2):
        close(call(model, inputs, cache, new[:, step : step + 1], step, position_ids=whole[..., -1:] + 1 + step),
              answer.logits[step + 1])  # fmt: skip


def test_positions_for_all_rows_and_columns_of_older_callers(llava):
    inputs, token = make_batch(llava, lookup.family("llava"), [(1, 6), (1, 6)]), torch.tensor([[42], [43]])
    width = inputs["input_ids"].shape[1]
    with foveate.pruning(llava, keep=0.3):
        logits = []
        for more in ({}, {"position_ids": torch.tensor([[width]])}, {"position_ids": torch.tensor([width])},
                     {"cache_position": torch.tensor([width])}):  # fmt: skip
            cache = DynamicCache()
            llava(**inputs, **with_cache(llava, cache))
            logits.append(llava(input_ids=token, **with_cache(llava, cache), **more).logits)
    for one in logits[1:]:
        close(one, logits[0])


@pytest.mark.parametrize("model_type", ["florence2", "t5gemma2"])
def test_a_loop_over_a_decoder_of_its_own(model_type):
    """With what the first call returned of the encoder, or with the whole prompt again."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs, tokens = make_batch(model, family, [(1, 8), (1, 3)]), torch.tensor([[2, 11, 12], [2, 13, 14]])
    inputs.pop("decoder_input_ids", None)
    with foveate.pruning(model, keep=0.3):
        expected = model(**inputs, decoder_input_ids=tokens).logits
        first = model(**inputs, decoder_input_ids=tokens[:, :1], use_cache=True)
        cache, logits = cache_of(first), [first.logits]
        encoder = BaseModelOutput(last_hidden_state=first.encoder_last_hidden_state)
        again = {"encoder_outputs": encoder, "attention_mask": inputs["attention_mask"]}
        for step, more in ((1, again), (2, inputs)):
            new = {"decoder_input_ids": tokens[:, step : step + 1], **with_cache(model, cache)}
            logits.append(model(**new, **more).logits)
    close(torch.cat(logits, 1), expected)


def test_a_static_cache(llava):
    inputs, token = make_batch(llava, lookup.family("llava"), [(1, 6)]), torch.tensor([[42]])
    with foveate.pruning(llava, keep=0.3):
        logits = []
        for cache in (DynamicCache(), StaticCache(config=llava.config.get_text_config(), max_cache_len=64)):
            llava(**inputs, **with_cache(llava, cache))
            logits.append(llava(input_ids=token, **with_cache(llava, cache)).logits)
    close(*logits)


def test_tuples_and_positional_arguments(llava):
    inputs, token = make_batch(llava, lookup.family("llava"), [(1, 6)]), torch.tensor([[42]])
    with foveate.pruning(llava, keep=0.3):
        parts = llava(**inputs, use_cache=True, return_dict=False)
        cache = next(part for part in parts if isinstance(part, DynamicCache))
        one = llava(token, **with_cache(llava, cache)).logits
        out, own = llava(**inputs, use_cache=True), DynamicCache()
        llava(**inputs, **with_cache(llava, own))
        for made in (cache_of(out), own):
            close(one, llava(input_ids=token, **with_cache(llava, made)).logits)


def test_a_cache_that_was_reset_holds_the_next_prompt(llava):
    family = lookup.family("llava")
    first, second = (make_batch(llava, family, [(1, n)], seed=n) for n in (6, 9))
    token = torch.tensor([[42]])
    with foveate.pruning(llava, keep=0.3):
        cache = DynamicCache()
        llava(**first, **with_cache(llava, cache))
        cache.reset()
        llava(**second, **with_cache(llava, cache))
        one = llava(input_ids=token, **with_cache(llava, cache)).logits
        fresh = DynamicCache()
        llava(**second, **with_cache(llava, fresh))
        close(one, llava(input_ids=token, **with_cache(llava, fresh)).logits)
        fresh.reset()
        text = torch.tensor([[5, 6, 7]])
        close(llava(input_ids=text, **with_cache(llava, fresh)).logits, llava(input_ids=text).logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cache, width: {"attention_mask": torch.ones(1, width).long()}, "columns"),
        (lambda cache, width: {"attention_mask": torch.ones(1, 1, 1, width).long()}, "columns"),
        (
            lambda cache, width: {
                "attention_mask": torch.ones(2, width + 1).long().index_fill(1, torch.tensor([0]), 0)
            },
            "hides",
        ),
        (lambda cache, width: {"position_ids": torch.tensor([[cache.get_seq_length()]])}, "inside the pruned prompt"),
        (lambda cache, width: cache.crop(-5) or {}, "cropped"),
        (lambda cache, width: {"input_ids": torch.ones(3, 1).long()}, "2 rows"),
    ],
)
def test_what_cannot_go_on_is_refused(llava, change, message):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 6), (1, 6)])
    with foveate.pruning(llava, keep=0.3):
        cache = DynamicCache()
        llava(**inputs, **with_cache(llava, cache))
        width = inputs["input_ids"].shape[1]
        more = {"input_ids": torch.ones(2, 1).long(), **change(cache, width)}
        with pytest.raises(InputError, match=message):
            llava(**more, **with_cache(llava, cache))


def test_an_image_in_the_next_turn_is_refused(llava):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 6)])
    mask = torch.ones(1, 2 * inputs["input_ids"].shape[1]).long()
    with foveate.pruning(llava, keep=0.3):
        for call in (llava, partial(llava.generate, max_new_tokens=2)):
            for more in ({}, {"attention_mask": mask}):
                cache = DynamicCache()
                llava(**inputs, **with_cache(llava, cache))
                with pytest.raises(InputError, match="whole conversation without a cache"):
                    call(**{**inputs, **more}, **with_cache(llava, cache))


def test_generate_with_nothing_new_is_refused(llava):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 6)])
    with foveate.pruning(llava, keep=0.3):
        cache = DynamicCache()
        llava(**inputs, **with_cache(llava, cache))
        same = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with pytest.raises(InputError, match="append the next turn"):
            llava.generate(**same, **with_cache(llava, cache))


# -- the columns that the caller counts ------------------------------------------------------------------------------


@pytest.fixture
def padded(model, family):
    """Prompts padded on the left with answers padded on the right, as in GRPO, DPO and PPO."""
    inputs = make_batch(model, family, [(1, 9), (1, 4)])
    tail = torch.randint(10, 200, (2, 5), generator=torch.Generator().manual_seed(1))
    real = torch.ones_like(tail)
    real[1, 3:] = 0
    more = {"input_ids": torch.cat([inputs["input_ids"], tail], 1)}
    more["attention_mask"] = torch.cat([inputs["attention_mask"], real], 1)
    more |= {n: torch.cat([v, 0 * tail], 1) for n, v in inputs.items() if n.endswith("token_type_ids")}
    return {**inputs, **more}


def masked(model, family, inputs, report):
    """Logits of the whole sequence with the dropped tokens masked."""
    from foveate.conformance.reference import find_kept_items
    from foveate.conformance.registry import to_tiny_family

    items = find_kept_items(model, family, inputs, type("Short", (), {"report": report}))
    return model(**to_tiny_family(family).mask_dropped(model, inputs, items)).logits


@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_columns_from_the_end_stay(model, family, padded, keep):
    width = padded["input_ids"].shape[1]
    with foveate.pruning(model, keep=keep) as handle:
        last = model(**padded, logits_to_keep=6).logits
        columns = model(**padded, logits_to_keep=torch.tensor([width - 3, width - 6, width - 4])).logits
        whole = model(**padded).logits
        for index in (slice(-3, None), [-3, -2, -1], torch.arange(width) >= width - 3):
            close(model(**padded, logits_to_keep=index).logits, last[:, -3:])
    reference = masked(model, family, padded, handle.report)
    real = padded["attention_mask"][:, -6:].bool()
    close(last[real], reference[:, -6:][real])
    close(whole[:, -6:][real], reference[:, -6:][real])
    close(columns, reference[:, [-3, -6, -4]])


def test_labels_of_padded_rows(model, family, padded):
    labels = padded["input_ids"].masked_fill(padded["attention_mask"] == 0, -100)
    labels[:, :-5] = -100
    with foveate.pruning(model, keep=0.4) as handle:
        loss = model(**padded, labels=labels).loss
    logits = masked(model, family, padded, handle.report)[:, :-1]
    close(loss, torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()))


def test_logits_of_dropped_tokens_are_refused(model, padded):
    width = padded["input_ids"].shape[1]
    for keep in (width - 1, torch.arange(width)):
        with foveate.pruning(model, keep=0.4), pytest.raises(InputError, match="logits_to_keep"):
            model(**padded, logits_to_keep=keep)
        with pytest.raises(InputError, match="logits_to_keep"):
            foveate.prune_inputs(model, {**padded, "logits_to_keep": keep}, keep=0.4)


def test_packed_rows_are_refused(llava):
    one, two = (make_batch(llava, lookup.family("llava"), [(1, n)], seed=n) for n in (6, 9))
    lengths = [x["input_ids"].shape[1] for x in (one, two)]
    both = {name: torch.cat([one[name], two[name]], int(name == "input_ids")) for name in ("input_ids", "pixel_values")}
    restart = torch.cat([torch.arange(n) for n in lengths])
    for mark in (
        {"position_ids": restart[None]}, {"position_ids": restart[None, None].expand(4, -1, -1)},
        {"cu_seq_lens_q": torch.tensor([0, lengths[0], sum(lengths)])},
    ):  # fmt: skip
        with foveate.pruning(llava, keep=1.0), pytest.raises(InputError, match="one sample a row"):
            llava(**both, **mark)
    with foveate.pruning(llava, keep=0.5):
        llava(**both, position_ids=torch.arange(sum(lengths))[None])


@pytest.mark.parametrize("method", ["foveate", "fastv"])
def test_a_cache_does_not_go_on_without_its_handle(family, method):
    """The stock model would count positions from the shorter cache."""
    model = deep_model(family)
    inputs, token = make_batch(model, family, [(1, 6)]), torch.tensor([[42]])
    with foveate.pruning(model, keep=0.3, method=method):
        caches = [DynamicCache(config=model.config.get_text_config()) for _ in range(2)]
        for cache in caches:
            model(**inputs, **with_cache(model, cache))
        model(input_ids=token, **with_cache(model, caches[1]))
    caches.append(copy.deepcopy(caches[0]))
    for cache in caches:
        with pytest.raises(InputError, match="keep the handle attached"):
            model(input_ids=token, **with_cache(model, cache))
        cache.reset()
        model(input_ids=token, **with_cache(model, cache))
        model(input_ids=token, **with_cache(model, cache))


def test_a_failed_call_leaves_the_cache_closed(llava):
    inputs, token, cache = make_batch(llava, lookup.family("llava"), [(1, 6)]), torch.tensor([[42]]), DynamicCache()

    def fail(module, args):
        raise RuntimeError("of mine")

    with foveate.pruning(llava, keep=0.3):
        llava(**inputs, **with_cache(llava, cache))
        hook = llava.lm_head.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="of mine"):
            llava(input_ids=token, **with_cache(llava, cache))
        hook.remove()
    with pytest.raises(InputError, match="keep the handle attached"):
        llava(input_ids=token, **with_cache(llava, cache))


@pytest.mark.parametrize("method", ["foveate", "fastv"])
def test_an_interrupted_call_leaves_nothing_behind(family, method):
    """torch runs no hook behind an interrupt."""
    model = deep_model(family)
    first, second = (make_batch(model, family, [(1, n)], seed=n) for n in (6, 9))

    def interrupt(module, args):
        raise KeyboardInterrupt

    with foveate.pruning(model, keep=0.3, method=method) as handle:
        expected, answer = model(**second).logits, model.generate(**second, max_new_tokens=3)
        hook = model.get_output_embeddings().register_forward_pre_hook(interrupt)
        for call in (lambda: model(**first), lambda: model.generate(**first, max_new_tokens=3)):
            with pytest.raises(KeyboardInterrupt):
                call()
        hook.remove()
        handle.last_report = None
        close(model(**second).logits, expected)
        assert handle.last_report is not None
        assert torch.equal(model.generate(**second, max_new_tokens=3), answer)


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "gemma3", "paligemma"])
def test_padding_behind_the_prompt_does_not_count_in_the_next_turn(model_type):
    """Answers that ended early, and turns padded on the left: as in the stock model."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs, settings = make_batch(model, family, ROWS), {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    tail = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 1, 1]])

    def talk():
        first = model.generate(**inputs, **settings, return_dict_in_generate=True)
        whole = torch.cat([first.sequences, torch.tensor([[31, 32, 33], [34, 35, 36]])], 1)
        mask = torch.cat([inputs["attention_mask"], tail], 1)
        return model.generate(
            input_ids=whole, attention_mask=mask, **with_cache(model, cache_of(first)), **settings,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip

    stock = talk()
    with foveate.pruning(model, keep=1.0):
        own = talk()
    assert torch.equal(own.sequences, stock.sequences)
    for one, other in zip(own.logits, stock.logits, strict=True):
        close(one, other)


def test_rows_of_a_cache_that_were_moved_by_hand_are_refused(llava):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 8), (1, 3)])
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 1).long()], 1)
    with foveate.pruning(llava, keep=0.4):
        cache = DynamicCache()
        llava(**inputs, **with_cache(llava, cache))
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys.repeat(2, 1, 1, 1), layer.values.repeat(2, 1, 1, 1)
        with pytest.raises(InputError, match="by its own methods"):
            llava(input_ids=torch.ones(4, 1).long(), attention_mask=mask.repeat(2, 1), **with_cache(llava, cache))


@pytest.mark.parametrize("model_type", ["florence2", "t5gemma2"])
def test_encoder_outputs_go_on_without_a_cache(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs, tokens = make_batch(model, family, [(1, 8), (1, 3)]), torch.tensor([[2, 11, 12], [2, 13, 14]])
    inputs.pop("decoder_input_ids", None)
    mask = {"attention_mask": inputs["attention_mask"]}
    with foveate.pruning(model, keep=0.3):
        out = model(**inputs, decoder_input_ids=tokens)
        states = out.encoder_last_hidden_state
        own = {"encoder_outputs": BaseModelOutput(last_hidden_state=states), "use_cache": False}
        close(model(decoder_input_ids=tokens, **own, **mask).logits, out.logits)
        copied = {**own, "encoder_outputs": BaseModelOutput(last_hidden_state=states.clone())}
        with pytest.raises(InputError, match="not a copy"):
            model(decoder_input_ids=tokens, **copied, **mask)


# -- the inputs that the stock model gets, value by value ----------------------------------------------------------


@pytest.fixture
def filled(llava):
    """A pruned prompt of two rows (the second padded), its record, and a function that fills a cache behind it."""
    family = lookup.family("llava")
    inputs = make_batch(llava, family, ROWS)
    short = foveate.prune_inputs(llava, inputs, keep=0.3)
    record = make_record(llava, family, inputs, short, is_compact=False)

    def fill(past):
        cache = DynamicCache(config=llava.config.get_text_config())
        states = torch.zeros(2, 2, short["input_ids"].shape[1] + past, 8)
        for layer in range(llava.config.get_text_config().num_hidden_layers):
            cache.update(states, states, layer)
        return cache

    return inputs, short, record, fill


def refuse_mask(ids):
    raise AssertionError("A mask of the whole conversation came with it, or only new tokens.")


@pytest.mark.parametrize("past", [0, 2])
@pytest.mark.parametrize("given", ["whole and mask", "whole", "new", "new and mask"])
def test_generate_gets_the_shorter_conversation(filled, past, given):
    inputs, short, record, fill = filled
    before = TURN[:, :past] + 20
    ids = torch.cat([inputs["input_ids"], before, TURN], 1)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, past + 4).long()], 1)
    call = {"input_ids": TURN if "new" in given else ids, "cache_position": torch.arange(3), "position_ids": mask}
    if "mask" in given:
        call["attention_mask"] = mask
    asked = []
    out = continue_generate(
        fill(past), record, call, (lambda ids: asked.append(ids) or mask) if given == "whole" else refuse_mask
    )
    assert set(out) == {"input_ids", "attention_mask", "position_ids"}
    assert [torch.equal(one, ids) for one in asked] == [True] * (given == "whole")
    real = short["attention_mask"].bool()
    joined = torch.cat([real.long(), torch.ones(2, past + 4).long()], 1)
    assert out["attention_mask"].long().tolist() == joined.tolist()
    following = short["position_ids"].masked_fill(~real, -1).amax(1, keepdim=True) + 1 + torch.arange(past + 4)
    assert torch.equal(out["position_ids"], torch.cat([short["position_ids"], following], 1))
    expected = TURN if "new" in given else torch.cat([short["input_ids"] * real, before, TURN], 1)
    assert torch.equal(out["input_ids"], expected)


@pytest.mark.parametrize("past", [0, 2])
def test_a_whole_conversation_without_a_new_token_is_refused(filled, past):
    inputs, _, record, fill = filled
    ids = torch.cat([inputs["input_ids"], TURN[:, :past]], 1)
    with pytest.raises(InputError, match="append the next turn"):
        continue_generate(fill(past), record, {"input_ids": ids}, refuse_mask)


def test_forward_gets_the_shorter_cache(filled):
    inputs, short, record, fill = filled
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 6).long()], 1)
    call = {"input_ids": TURN, "attention_mask": mask, "cache_position": torch.arange(4), "use_cache": True}
    out = continue_call(fill(2), record, call)
    assert set(out) == {"input_ids", "attention_mask", "position_ids", "use_cache"}
    last = short["position_ids"].masked_fill(short["attention_mask"] == 0, -1).amax(1, keepdim=True)
    assert torch.equal(out["position_ids"], last + 3 + torch.arange(4))
    positions = inputs["attention_mask"].sum(1, keepdim=True) + 2 + torch.arange(4)
    assert torch.equal(continue_call(fill(2), record, {**call, "position_ids": positions})["position_ids"], positions)
    with pytest.raises(InputError, match="inside the pruned prompt"):
        continue_call(fill(2), record, {**call, "position_ids": positions[:1] * 0})


def test_a_record_is_of_the_sequence_that_was_cut(llava, filled):
    inputs, short, record, _ = filled
    assert not record.is_counted  # of one axis
    assert record.shift.tolist() == [0, 0]
    family = lookup.family("llava")
    words = make_batch(llava, family, [(0, 4)])
    passed = foveate.prune_inputs(llava, words, keep=0.3)
    assert make_record(llava, family, words, passed, is_compact=False) is None
    lacking = type(short)({k: v for k, v in short.items() if k != "position_ids"}, short.report, short.layout)
    assert make_record(llava, family, inputs, lacking, is_compact=False) is None
    qwen = lookup.family("qwen2_5_vl")
    model = make_tiny_model(qwen)
    inputs = make_batch(model, qwen, ROWS)
    assert make_record(model, qwen, inputs, foveate.prune_inputs(model, inputs, keep=0.3), is_compact=False).is_counted


def test_what_new_tokens_see_across():
    """In a forward call the last columns of the mask are the new tokens'; in `generate` only the last one is new."""
    seen, other = torch.tensor([[[[1, 0]]]]), torch.tensor([[[[0, 1]]]])
    record = CachedStates({"cross_attention_mask": torch.tensor([[[[1]]]])}, seen)
    mixed = {"input_ids": TURN[:1, :2], "cross_attention_mask": torch.cat([other, seen], 1)}
    out = continue_generate(None, record, mixed, refuse_mask)
    assert out["cross_attention_mask"].tolist() == [[[[1]], [[1]]]]
    with pytest.raises(InputError, match="leave it out after the prompt"):
        continue_call(None, record, mixed)
    alike = {**mixed, "cross_attention_mask": torch.cat([other, seen, seen], 1)}
    assert continue_call(None, record, alike)["cross_attention_mask"].tolist() == [[[[1]], [[1]]]]
    embeds = {"inputs_embeds": torch.zeros(1, 3, 8), "input_ids": None}
    assert continue_call(None, record, embeds)["cross_attention_mask"].shape == (1, 3, 1, 1)
    unmasked = CachedStates(record.masks)
    assert continue_call(None, unmasked, {"input_ids": TURN[:1]})["cross_attention_mask"].shape == (1, 4, 1, 1)
    with pytest.raises(InputError, match="leave it out after the prompt"):
        continue_call(None, unmasked, alike)


def test_a_prompt_without_a_mask_of_tiles_goes_on():
    family = lookup.family("mllama")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 6)])
    del inputs["cross_attention_mask"]
    record = make_record(model, family, inputs, foveate.prune_inputs(model, inputs, keep=0.4), is_compact=False)
    assert record.seen is None
    assert record.masks["cross_attention_mask"].shape[:2] == (1, 1)


def test_masks_beside_encoder_outputs():
    states = BaseModelOutput(last_hidden_state=torch.zeros(2, 5, 8))
    for mask in (torch.ones(2, 5), None):
        call = {"encoder_outputs": states, "attention_mask": mask, "use_cache": True}
        assert fit_encoder_mask(None, call) == call
    with pytest.raises(InputError, match="attention_mask has 8 columns, encoder_outputs 5"):
        fit_encoder_mask(None, {"encoder_outputs": states, "attention_mask": torch.ones(2, 8)})
    record = CachedStates({"attention_mask": torch.ones(1, 5)})
    beams = fit_encoder_mask(record, {"encoder_outputs": states, "attention_mask": torch.ones(1, 9)})
    assert beams["attention_mask"].shape == (2, 5)


@pytest.mark.parametrize("given", ["mask", "positions", "neither"])
def test_how_much_smaller_positions_are_that_were_numbered_anew(llava, given):
    family = lookup.family("llava")
    inputs = make_batch(llava, family, ROWS if given != "neither" else [(1, 6), (1, 6)])
    mask = inputs["attention_mask"]
    expected = mask.sum(1)
    if given == "positions":
        inputs["position_ids"] = count_positions(mask) + torch.tensor([[5], [9]])
        expected = expected + torch.tensor([5, 9])
    if given == "neither":
        del inputs["attention_mask"]
    short = foveate.prune_inputs(llava, inputs, keep=0.3, positions="compact")
    record = make_record(llava, family, inputs, short, is_compact=True)
    kept = short["attention_mask"].bool().sum(1)
    assert record.shift.tolist() == (expected - kept).tolist()
    assert not record.is_counted


def test_how_much_smaller_positions_of_several_axes_are():
    family = lookup.family("qwen2_5_vl")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, ROWS)
    whole = family.positions(model, inputs, inputs["attention_mask"])[1:]
    for own in (None, whole + 7):
        call = inputs if own is None else {**inputs, "position_ids": own}
        short = foveate.prune_inputs(model, call, keep=0.3, positions="compact")
        record = make_record(model, family, call, short, is_compact=True)
        before = whole.amax((0, 2)) + (0 if own is None else 7)
        assert record.shift.tolist() == (before - short["position_ids"][1:].amax((0, 2))).tolist()
