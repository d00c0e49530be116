"""One attached model in many hands: threads, wrappers, other people's loops."""

import asyncio
import functools
import threading

import pytest
import torch
from transformers import MODEL_MAPPING

import foveate
from caches import with_cache
from decoder_reference import deep_model
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.registry import to_tiny_family
from foveate.errors import FoveateWarning, InputError
from foveate.models import lookup
from foveate.models.cache import cache_of

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.mark.parametrize("method", ["foveate", "divprune", "fastv"])
def test_threads_prune_each_for_its_own_question(family, method):
    model = deep_model(family)
    prompts = [make_batch(model, family, [(1, n)], seed=n) for n in (5, 6, 8, 9)]
    settings = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    results = {}
    # All threads are inside `generate` at once: each waits for the others at its third token.
    barrier = threading.Barrier(len(prompts), timeout=120)

    def answer(number, wait):
        def process(ids, scores):
            if wait and ids.shape[1] == prompts[number]["input_ids"].shape[1] + 3:
                barrier.wait()
            return scores

        with torch.no_grad():
            return model.generate(**prompts[number], logits_processor=[process], **settings)

    with foveate.pruning(model, keep=0.3, method=method):
        alone = [answer(number, wait=False) for number in range(len(prompts))]
        threads = [
            threading.Thread(target=lambda n=number: results.update({n: answer(n, wait=True)}))
            for number in range(len(prompts))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(results[number], one) for number, one in enumerate(alone))


@pytest.mark.parametrize("method", ["foveate", "fastv"])
def test_images_do_not_come_past_the_hooks(family, method):
    model = deep_model(family)
    inputs = make_batch(model, family, [(1, 5)])
    text = {"input_ids": inputs["input_ids"].clamp(max=200)}
    with foveate.pruning(model, keep=2, method=method):
        for past in (model.base_model, model.forward):
            with pytest.raises(InputError, match="was called past"):
                past(**inputs)
        model.base_model(**text)
        model.forward(**text)
    model.base_model(**inputs)


def test_the_first_look_of_a_method_is_not_a_call_past_the_hooks(llava):
    """It calls the base model itself."""
    inputs = make_batch(llava, lookup.family("llava"), [(1, 5)])
    with foveate.pruning(llava, keep=2, method="glance"):
        assert llava(**inputs).logits.shape[1] == inputs["input_ids"].shape[1] - 14
        assert llava.generate(**inputs, max_new_tokens=2, min_new_tokens=2).shape[1] == inputs["input_ids"].shape[1] + 2
        with pytest.raises(InputError, match="was called past"):
            llava.base_model(**inputs)


@pytest.mark.parametrize("method", ["foveate", "fastv"])
def test_a_generate_taken_before_attach_is_pruned(family, method):
    model = deep_model(family)
    inputs = make_batch(model, family, [(2, 6), (1, 3)])
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    before = functools.partial(model.generate, **settings)
    ways = [before, lambda **inputs: type(model).generate(model, **inputs, **settings)]
    whole = before(**inputs)
    with foveate.pruning(model, keep=2, method=method) as handle:
        expected = model.generate(**inputs, **settings)
        for way in ways:
            handle.last_report = None
            assert torch.equal(way(**inputs), expected)
            assert handle.last_report is not None
        beams = {"num_beams": 3, "num_return_sequences": 2}
        assert torch.equal(before(**inputs, **beams), model.generate(**inputs, **settings, **beams))
    assert torch.equal(before(**inputs), whole)


def test_encoded_images_are_pruned_too(model, family):
    inputs = make_batch(model, family, [(2, 6), (1, 3)])
    encoded = {"image": model.base_model.get_image_features(**family.encoder_inputs(model, inputs), return_dict=True)}
    ready = {name: value for name, value in inputs.items() if name != "pixel_values"} | {"mm_encoder_outputs": encoded}
    with foveate.pruning(model, keep=0.3):
        assert torch.equal(model(**ready).logits, model(**inputs).logits)
        answers = [model.generate(**own, max_new_tokens=4, do_sample=False) for own in (ready, inputs)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("method", ["foveate", "fastv"])
def test_calls_inside_a_callback_are_pruned(family, method):
    model = deep_model(family)
    inputs, other = (make_batch(model, family, [(1, n)], seed=n) for n in (6, 9))
    settings = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    seen = []

    def look_elsewhere(ids, scores):
        seen.append((model(**other).logits, model.generate(**other, **settings)))
        return scores

    with foveate.pruning(model, keep=0.3, method=method):
        expected = model(**other).logits, model.generate(**other, **settings)
        answer = model.generate(**inputs, **settings)
        assert torch.equal(model.generate(**inputs, logits_processor=[look_elsewhere], **settings), answer)
    assert len(seen) == 3
    for logits, tokens in seen:
        assert torch.equal(logits, expected[0])
        assert torch.equal(tokens, expected[1])


def test_a_forward_without_names_is_understood(llava):
    """As accelerate and others put it on a model."""
    inputs, stock = make_batch(llava, lookup.family("llava"), [(1, 5)]), llava.forward
    length = inputs["input_ids"].shape[1]
    llava.forward = lambda *args, **kwargs: stock(*args, **kwargs)
    with foveate.pruning(llava, keep=2):
        assert llava(**inputs).logits.shape[1] == length - 14
        assert llava(inputs["input_ids"], inputs["pixel_values"]).logits.shape[1] == length - 14
        assert llava.generate(**inputs, max_new_tokens=2, min_new_tokens=2).shape[1] == length + 2


def test_an_error_inside_forward_leaves_the_thread_clean(llava):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 5)])

    def fail(*args):
        raise RuntimeError("of mine")

    with foveate.pruning(llava, keep=2) as handle:
        broken = llava.lm_head.register_forward_pre_hook(fail)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="of mine"):
                llava(**inputs)
        broken.remove()
        first = llava.register_forward_pre_hook(fail, prepend=True)
        with pytest.raises(RuntimeError, match="of mine"):
            llava(**inputs)
        first.remove()
        handle.last_report = None
        assert llava(**inputs).logits.shape[1] == inputs["input_ids"].shape[1] - 14
        assert len(handle.report.items[0].kept) == 2


def has_axes(model_type):
    config = to_tiny_family(lookup.family(model_type)).make_config()
    return hasattr(MODEL_MAPPING.get(type(config), None), "get_rope_index")


@pytest.mark.parametrize("model_type", [*filter(has_axes, lookup.available())])
def test_positions_of_the_caller_are_the_models_own(model_type):
    """Trainers compute M-RoPE positions before the call, with or without a row that counts tokens."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(2, 6), (1, 3)])
    counted = family.positions(model, inputs, inputs["attention_mask"])
    stock = foveate.prune_inputs(model, inputs, keep=0.4)
    for positions in (counted[1:], counted) if len(counted) == 4 else (counted[1:],):
        own = foveate.prune_inputs(model, {**inputs, "position_ids": positions}, keep=0.4)
        assert torch.equal(own["position_ids"], stock["position_ids"])
        assert (model(**own).logits - model(**stock).logits).abs().max() < 1e-5
    whole = foveate.prune_inputs(model, {**inputs, "position_ids": counted[1:]}, keep=1.0)
    untouched = model(**{**inputs, "position_ids": counted[1:]}).logits
    assert (model(**whole).logits - untouched)[inputs["attention_mask"].bool()].abs().max() < 1e-5


def test_other_peoples_generate_in_front_of_ours(llava):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 5)])
    settings = {"max_new_tokens": 3, "min_new_tokens": 3}
    first = foveate.attach(llava, keep=2)
    ours = llava.generate
    llava.generate = lambda **kwargs: ours(**kwargs)
    with pytest.warns(FoveateWarning, match="newest handle decides"):
        second = foveate.attach(llava, keep=5)
    llava.generate(**inputs, **settings)
    assert first.last_report is None
    assert len(second.report.items[0].kept) == 5
    cache = llava(**inputs, use_cache=True)
    llava(input_ids=torch.tensor([[42]]), **with_cache(llava, cache_of(cache)))
    first.remove()
    second.remove()
    assert not llava._forward_pre_hooks
    captured = functools.partial(ours, **settings)
    with foveate.pruning(llava, keep=3) as third:
        captured(**inputs)
        assert len(third.report.items[0].kept) == 3


@pytest.mark.parametrize("names", ["subclass", "patched class"])
def test_a_class_whose_forward_names_nothing(monkeypatch, names):
    """As patches of whole classes leave it."""
    family = lookup.family("llava")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 5)])
    stock, length = type(model).forward, inputs["input_ids"].shape[1]

    def forward(self, *args, **kwargs):
        return stock(self, *args, **kwargs)

    if names == "subclass":
        model.__class__ = type("Mine", (type(model),), {"forward": forward})
    else:
        monkeypatch.setattr(type(model), "forward", forward)
    with foveate.pruning(model, keep=2):
        assert model(**inputs).logits.shape[1] == length - 14
        assert model.generate(**inputs, max_new_tokens=2, min_new_tokens=2).shape[1] == length + 2
        if names == "subclass":
            assert model(inputs["input_ids"], inputs["pixel_values"]).logits.shape[1] == length - 14
        else:
            with pytest.raises(InputError, match="by name"):
                model(inputs["input_ids"], inputs["pixel_values"])


def test_blocks_of_several_threads_and_tasks(llava):
    """Each has its own budget; who has no block follows the newest one."""
    inputs = make_batch(llava, lookup.family("llava"), [(1, 5)])
    length = inputs["input_ids"].shape[1]
    both, results = threading.Barrier(2, timeout=60), {}

    def run(keep):
        with torch.no_grad(), foveate.pruning(llava, keep=keep):
            both.wait()
            results[keep] = [llava(**inputs).logits.shape[1] for _ in range(3)]
            both.wait()

    threads = [threading.Thread(target=run, args=(keep,)) for keep in (3, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {keep: [length - 16 + keep] * 3 for keep in (3, 6)}

    async def task(keep):
        with foveate.pruning(llava, keep=keep):
            await asyncio.sleep(0)
            results[keep] = llava(**inputs).logits.shape[1]
            await asyncio.sleep(0)

    async def tasks():
        await asyncio.gather(task(4), task(5))

    asyncio.run(tasks())
    assert results[4] == length - 12
    assert results[5] == length - 11
    with foveate.pruning(llava, keep=7):
        worker = threading.Thread(target=lambda: results.update(worker=llava(**inputs).logits.shape[1]))
        worker.start()
        worker.join()
    assert results["worker"] == length - 9
    assert not llava._forward_pre_hooks


def test_forward_sees_a_mask_of_ones(llava):
    """The twos in the mask of pruned inputs are for `generate`, which drops a mask of ones."""
    inputs, seen = make_batch(llava, lookup.family("llava"), [(1, 5)]), []
    assert foveate.prune_inputs(llava, inputs, keep=2)["attention_mask"].unique().tolist() == [2]
    llava.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    with foveate.pruning(llava, keep=2):
        llava(**inputs)
    assert [mask.unique().tolist() for mask in seen] == [[1]]


def test_a_threads_outer_block_decides_again_after_its_inner_one(family):
    """Another thread's handle is newer, and decides for threads without one alone."""
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 5)])
    attached, over = threading.Event(), threading.Event()

    def attach_elsewhere():
        with foveate.pruning(model, keep=3):
            attached.set()
            over.wait(timeout=60)

    other = threading.Thread(target=attach_elsewhere)
    with foveate.pruning(model, keep=5) as outer:
        with foveate.pruning(model, keep=4) as inner:
            other.start()
            attached.wait(timeout=60)
            model(**inputs)
        model(**inputs)
    over.set()
    other.join()
    assert [len(handle.report.items[0].kept) for handle in (outer, inner)] == [5, 4]
