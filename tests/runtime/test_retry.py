"""A first token that is unsure: the answer is that of all tokens; a sure one: that of the policy's budget."""

from dataclasses import replace

import pytest
import torch
from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor
from transformers.generation.streamers import BaseStreamer

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError
from foveate.models import lookup
from foveate.models.generation import has_own_decoder
from foveate.policy.policy import Promise, Retry
from foveate.runtime.first_token import read_odds
from tests.policies import make_policy

GREEDY = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl", "mllama", "florence2"])
def case(request):
    family = lookup.family(request.param)
    model = make_tiny_model(family).eval()
    return model, make_batch(model, family, [(1, 6)])


def make_retrying(model, limit):
    """A policy that keeps a quarter, and answers again where the log-odds of the first token are below `limit`."""
    sure, price = -1.0, 100.0
    offset = -limit * sure - torch.log(torch.tensor(price - 1.0)).item()
    retry = Retry(offset, 0.0, sure, 0.0, price, Promise(0.01, 0.95, 1000, 0.0, 0.5))
    return make_policy(model, price=1e12, offsets=(-30.0, -60.0), weight=0.0, retry=retry)


def read_first_odds(model, short):
    out = model.generate(**short, **GREEDY, output_logits=True, return_dict_in_generate=True)
    return float(read_odds(out.logits[0])[0])


def take_new(model, inputs, output):
    return output if has_own_decoder(model) else output[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("is_unsure", [False, True])
@torch.no_grad()
def test_the_answer_is_that_of_the_try_that_was_sure(case, is_unsure):
    model, inputs = case
    short = foveate.prune_inputs(model, inputs, keep=0.25)
    limit = read_first_odds(model, short) + (0.01 if is_unsure else -0.01)
    result = foveate.generate_with_retry(model, inputs, keep=make_retrying(model, limit), **GREEDY)
    right = foveate.prune_inputs(model, inputs, keep=1.0) if is_unsure else short
    assert result.retried == is_unsure
    assert torch.equal(result.output, model.generate(**right, **GREEDY))
    assert result.inputs.report.kept_count == right.report.kept_count
    assert result.tokens == short.report.kept_count + (right.report.kept_count if is_unsure else 0)


@torch.no_grad()
def test_all_tokens_are_the_stock_answer(case):
    model, inputs = case
    result = foveate.generate_with_retry(model, inputs, keep=make_retrying(model, 20.0), **GREEDY)
    stock = model.generate(**inputs, **GREEDY)
    assert torch.equal(take_new(model, result.inputs, result.output), take_new(model, inputs, stock))


def find_module(model, *ends):
    return next(module for name, module in model.named_modules() if name.endswith(ends))


@pytest.mark.parametrize("is_unsure", [False, True])
@torch.no_grad()
def test_images_are_encoded_once_and_a_retry_costs_one_prefill(case, is_unsure):
    model, inputs = case
    prefills, encodings = [], []
    decoder = find_module(model, "language_model", "text_model")
    tower = find_module(model, "vision_tower", "visual", "vision_model")
    hooks = [
        decoder.register_forward_hook(lambda *_: prefills.append(1)),
        tower.register_forward_hook(lambda *_: encodings.append(1)),
    ]
    foveate.generate_with_retry(model, inputs, keep=make_retrying(model, 20.0 if is_unsure else -20.0), **GREEDY)
    for hook in hooks:
        hook.remove()
    assert len(encodings) == 1
    if not has_own_decoder(model):
        assert len(prefills) == 5 + is_unsure


class Recorder(BaseStreamer):
    def __init__(self):
        self.pieces, self.ended = [], 0

    def put(self, value):
        self.pieces.append(value.flatten().tolist())

    def end(self):
        self.ended += 1


@pytest.mark.parametrize("is_unsure", [False, True])
@torch.no_grad()
def test_a_streamer_gets_one_prompt_and_the_answer(case, is_unsure):
    model, inputs = case
    recorder = Recorder()
    policy = make_retrying(model, 20.0 if is_unsure else -20.0)
    result = foveate.generate_with_retry(model, inputs, keep=policy, streamer=recorder, **GREEDY)
    assert recorder.ended == 1
    assert [token for piece in recorder.pieces[1:] for token in piece] == result.output[0, -5:].tolist()


@torch.no_grad()
def test_own_processors_act_in_both_tries(case):
    model, inputs = case
    stop = int(model.generate(**foveate.prune_inputs(model, inputs, keep=1.0), **GREEDY)[0, -1])
    own = LogitsProcessorList([MinNewTokensLengthLogitsProcessor(0, 50, [stop], device=model.device)])
    for limit in (-20.0, 20.0):
        result = foveate.generate_with_retry(
            model, inputs, keep=make_retrying(model, limit), logits_processor=own, **GREEDY
        )
        assert stop not in result.output[0, -5:].tolist()


def test_several_prompts_are_refused(case):
    model, _ = case
    inputs = make_batch(model, lookup.family(model.config.model_type), [(1, 6), (1, 4)])
    with pytest.raises(InputError, match="one by one"):
        foveate.generate_with_retry(model, inputs, keep=make_retrying(model, 0.0))


def test_without_a_retry_it_is_refused(case):
    model, inputs = case
    with pytest.raises(InputError, match="has no retry"):
        foveate.generate_with_retry(model, inputs, keep=make_policy(model))
    with pytest.raises(InputError, match="is a budget"):
        foveate.generate_with_retry(model, inputs, keep=0.25)
    with pytest.raises(InputError, match="foveate calibrate"):
        foveate.generate_with_retry(model, inputs)


def test_a_policy_that_retries_is_not_attached(case):
    model, _ = case
    with pytest.raises(InputError, match="generate_with_retry"):
        foveate.attach(model, keep=make_retrying(model, 0.0).with_retry())


@pytest.mark.parametrize("name", ["assistant_model", "prompt_lookup_num_tokens"])
def test_guessed_tokens_are_refused(case, name):
    model, inputs = case
    with pytest.raises(InputError, match=f"{name} guesses"):
        foveate.generate_with_retry(model, inputs, keep=make_retrying(model, 0.0), **{name: 3})


def test_other_errors_pass_through(case):
    model, inputs = case
    policy = make_retrying(model, 0.0)
    other = replace(policy, model=replace(policy.model, size=1))
    with pytest.raises(InputError, match="another model"):
        foveate.generate_with_retry(model, inputs, keep=other)
