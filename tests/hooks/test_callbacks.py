"""What `generate` hands to the caller's code under pruning has the caller's prompt in it."""

import pytest
import torch
from transformers import LogitsProcessorList, MaxLengthCriteria, StoppingCriteria, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput
from transformers.generation.logits_process import (
    ExponentialDecayLengthPenalty,
    ForcedEOSTokenLogitsProcessor,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    TemperatureLogitsWarper,
)  # fmt: skip

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError
from foveate.hooks.callbacks import PromptRestorer
from foveate.models import lookup

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def inputs(model, family):
    model.generation_config.update(do_sample=False, eos_token_id=None, pad_token_id=0)
    return make_batch(model, family, [(1, 6), (1, 4)])


class StopAfter(StoppingCriteria):
    """Stops three tokens behind a prompt of the length that the caller knows."""

    def __init__(self, length):
        self.length, self.seen = length, []

    def __call__(self, ids, scores, **kwargs):
        self.seen.append(ids.clone())
        return torch.full((len(ids),), ids.shape[1] - self.length >= 3)


class Recorder:
    """A streamer, a logits processor and a prefix function that note what they get."""

    def __init__(self):
        self.seen, self.rows, self.put_values, self.ended = [], [], [], False

    def process(self, ids, scores):
        self.seen.append(ids.clone())
        return scores

    def allow(self, row, ids):
        self.rows.append((row, ids.clone()))
        return list(range(200))

    def put(self, value):
        self.put_values.append(value.clone())

    def end(self):
        self.ended = True


MODES = [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2},
         {"do_sample": True, "num_return_sequences": 2}]  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=["greedy", "beams", "several beams", "samples"])
def test_every_callback_gets_the_callers_prompt(model, inputs, mode):
    prompt, recorder = inputs["input_ids"], Recorder()
    length, stop = prompt.shape[1], StopAfter(prompt.shape[1])
    with foveate.pruning(model, keep=0.3):
        out = model.generate(
            **inputs, max_new_tokens=20, stopping_criteria=[stop], logits_processor=[recorder.process],
            prefix_allowed_tokens_fn=recorder.allow, **mode,
        )  # fmt: skip
    assert out.shape[1] == length + 3
    for ids in (*stop.seen, *recorder.seen, out):
        assert torch.equal(ids[:, :length], prompt.repeat_interleave(len(ids) // 2, 0))
    assert [ids.shape[1] for ids in recorder.seen] == [length, length + 1, length + 2]
    assert {row for row, _ in recorder.rows} == {0, 1}
    assert all(torch.equal(ids[:length], prompt[row]) for row, ids in recorder.rows)


def test_streamers_get_the_callers_prompt_first(model, family):
    inputs, recorder = make_batch(model, family, [(1, 6)]), Recorder()
    with foveate.pruning(model, keep=0.3):
        out = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, streamer=recorder)
    assert torch.equal(recorder.put_values[0], inputs["input_ids"])
    assert [value.tolist() for value in recorder.put_values[1:]] == [[token] for token in out[0, -3:].tolist()]
    assert recorder.ended


def test_transformers_own_criteria_and_processors_count_the_callers_prompt(model, inputs):
    length = inputs["input_ids"].shape[1]
    with foveate.pruning(model, keep=0.3):
        stopped = model.generate(
            **inputs, max_new_tokens=20, stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(length + 4)])
        )
        forced = model.generate(
            **inputs,
            max_new_tokens=4,
            logits_processor=LogitsProcessorList([ForcedEOSTokenLogitsProcessor(length + 3, 7)]),
        )
    assert stopped.shape[1] == length + 4
    assert forced[:, length + 2].tolist() == [7, 7]


def test_a_processor_of_transformers_replaces_the_one_that_generate_makes(model, inputs):
    """As in the stock `generate`, which compares classes."""
    settings = {
        "max_new_tokens": 6, "do_sample": True, "temperature": 5.0,
        "logits_processor": LogitsProcessorList([TemperatureLogitsWarper(1e-7)]),
    }  # fmt: skip
    with foveate.pruning(model, keep=0.3):
        greedy = model.generate(**inputs, max_new_tokens=6)
        assert torch.equal(model.generate(**inputs, **settings), greedy)


def test_prompts_with_pruned_audio_are_whole_for_callbacks():
    family = lookup.family("qwen2_5_omni_thinker")
    model, recorder = make_tiny_model(family), Recorder()
    inputs = make_batch(model, family, [(("image", "audio"), 6)])
    prompt = inputs["input_ids"]
    with foveate.pruning(model, keep=0.3, modalities=("image", "audio")):
        model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, logits_processor=[recorder.process])
    assert [ids.shape[1] - prompt.shape[1] for ids in recorder.seen] == [0, 1, 2]
    assert all(torch.equal(ids[:, : prompt.shape[1]], prompt) for ids in recorder.seen)


def test_penalties_know_the_prompt_of_pruned_audio():
    """`generate` itself sees the ids beside the embeddings."""
    family = lookup.family("qwen2_5_omni_thinker")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("image", "audio"), 6)])
    with foveate.pruning(model, keep=0.3, modalities=("image", "audio")):
        out = model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False, repetition_penalty=1e6)
    new = out[0, -5:].tolist()
    assert len(set(new)) == 5
    assert not set(new) & set(inputs["input_ids"][0].tolist())


def test_loops_of_the_callers_own_are_refused(model, inputs):
    with foveate.pruning(model, keep=0.3), pytest.raises(InputError, match="custom_generate"):
        model.generate(**inputs, custom_generate=lambda model, **kwargs: None)


def test_rows_are_restored():
    restorer = PromptRestorer(torch.tensor([[1, 2, 3], [4, 5, 6]]), 2)
    assert restorer.count_dropped() == 1
    assert restorer.restore(torch.tensor([[9, 9, 7], [9, 9, 8]])).tolist() == [[1, 2, 3, 7], [4, 5, 6, 8]]
    assert restorer.restore(torch.tensor([[9, 9, 7]] * 4)).tolist() == [[1, 2, 3, 7]] * 2 + [[4, 5, 6, 7]] * 2
    assert restorer.restore_row(1, torch.tensor([9, 9, 8])).tolist() == [4, 5, 6, 8]
    out = GenerateDecoderOnlyOutput(sequences=torch.tensor([[9, 9, 7], [9, 9, 8]]))
    assert restorer.restore_output(out) is out
    assert out.sequences.tolist() == [[1, 2, 3, 7], [4, 5, 6, 8]]


def test_callbacks_get_all_arguments_and_processors_of_transformers_stay_as_they_are():
    restorer = PromptRestorer(torch.tensor([[1, 2, 3]]), 2)
    calls, warper = [], TemperatureLogitsWarper(0.5)

    def note(ids, scores, **kwargs):
        calls.append((ids.tolist(), scores, kwargs))

    processors = [note, warper, ForcedEOSTokenLogitsProcessor(9, 7), MinLengthLogitsProcessor(0, 7)]
    first, second, third, fourth = restorer.wrap_callbacks({"logits_processor": processors})["logits_processor"]
    assert (third.max_length, type(third)) == (8, ForcedEOSTokenLogitsProcessor)
    assert fourth.min_length == 0  # none, as before
    first(torch.tensor([[9, 9, 7]]), "scores", more=1)
    assert calls == [([[1, 2, 3, 7]], "scores", {"more": 1})]
    assert (second.temperature, type(second)) == (0.5, TemperatureLogitsWarper)


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_counting_criteria_and_processors_act_as_in_the_stock_model(llava, keep):
    """Beside the option that would make the same one, which they replace."""
    inputs = make_batch(llava, lookup.family("llava"), [(1, 6)])
    length = inputs["input_ids"].shape[1]
    llava.generation_config.update(do_sample=False, eos_token_id=7, pad_token_id=0)
    forced = {"max_new_tokens": 9, "forced_eos_token_id": 7}
    own = [
        {"max_new_tokens": 4, "stopping_criteria": StoppingCriteriaList([MaxLengthCriteria(length + 7)])},
        {**forced, "logits_processor": LogitsProcessorList([ForcedEOSTokenLogitsProcessor(length + 3, 7)])},
        {"max_new_tokens": 9, "min_new_tokens": 9, "logits_processor": LogitsProcessorList([
            MinNewTokensLengthLogitsProcessor(length, 2, 7), ForcedEOSTokenLogitsProcessor(length + 4, 7)])},
        {"max_new_tokens": 9, "min_length": length + 9, "logits_processor": LogitsProcessorList([
            MinLengthLogitsProcessor(length + 2, 7), ForcedEOSTokenLogitsProcessor(length + 4, 7)])},
        {"max_new_tokens": 5, "begin_suppress_tokens": [7], "logits_processor": LogitsProcessorList([
            SuppressTokensAtBeginLogitsProcessor(list(range(8, 320)), length)])},
        {"max_new_tokens": 5, "exponential_decay_length_penalty": (1, 9.0), "logits_processor": LogitsProcessorList([
            ExponentialDecayLengthPenalty((3, 1e9), 7, length)])},
        {"max_new_tokens": 3, "prefix_allowed_tokens_fn": lambda row, ids: [11],
         "logits_processor": LogitsProcessorList([
            PrefixConstrainedLogitsProcessor(lambda row, ids: [len(ids)], 1)])},
    ]  # fmt: skip
    expected = [3 + 4, 3, 4, 4, None, None, None]
    for settings, count in zip(own, expected, strict=True):
        stock = llava.generate(**inputs, **settings)
        with foveate.pruning(llava, keep=keep):
            out = llava.generate(**inputs, **settings)
        assert out.shape == stock.shape
        if count is not None:
            assert out.shape[1] == length + count
        if keep == 1.0 or "prefix_allowed_tokens_fn" in settings:
            assert torch.equal(out, stock)
