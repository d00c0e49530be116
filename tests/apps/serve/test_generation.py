import pytest
import torch
from PIL import Image

import foveate
from foveate.apps.ask import ask
from foveate.apps.serve.generation import (
    SamplingOptions,
    StopFilter,
    context_length,
    generate_answer,
    last_position,
    prune_prompt,
    time_prefill,
)  # fmt: skip
from foveate.errors import InputError, ModelError
from foveate.runtime.conversation import generate_answers, make_chat_inputs, make_inputs
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene

IMAGE = draw_scene(sample_scene(0, 3))


def generate(loaded, inputs, **options):
    """The whole text, and the result."""
    pieces = []
    with torch.no_grad():
        result = generate_answer(loaded, inputs, pieces.append, **options)
    return "".join(pieces), result


# -- the same answers as elsewhere ---------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [5, 0.3, 1.0])
def test_the_answer_is_that_of_generate(tiny, keep):
    inputs = make_inputs(tiny, [IMAGE], ["what color is it"])
    with torch.no_grad():
        prompt = prune_prompt(tiny, inputs, keep=keep, method="foveate", positions="original")
        expected = generate_answers(tiny, foveate.prune_inputs(tiny.model, inputs, keep=keep), 12)[0]
    text, result = generate(tiny, prompt.inputs, max_new_tokens=12, sampling=SamplingOptions(0.0))
    assert text.strip() == expected
    assert (result.tokens, result.finish_reason) == (12, "length")


def test_measurements_are_those_of_ask(tiny):
    inputs = make_inputs(tiny, [IMAGE], ["what color is it"])
    with torch.no_grad():
        prompt = prune_prompt(tiny, inputs, keep=5, method="foveate", positions="original")
        expected = ask(tiny, IMAGE, "what color is it", keep=5, max_new_tokens=2)
    _, result = generate(tiny, prompt.inputs, max_new_tokens=3)
    assert result.kv_bytes == expected.pruned.kv_bytes
    assert result.prefill_seconds > 0 < prompt.encode_seconds
    assert prompt.tokens == inputs["input_ids"].shape[1] - 11
    assert prompt.report.items[0].kept.tolist() == expected.report.items[0].kept.tolist()


def test_text_alone(tiny):
    inputs = make_chat_inputs(tiny, [{"role": "user", "content": [{"type": "text", "text": "what shape"}]}], [])
    with torch.no_grad():
        prompt = prune_prompt(tiny, inputs, keep=5, method="visionzip", positions="original")
    assert prompt.report.items == ()
    assert prompt.tokens == inputs["input_ids"].shape[1]
    text, _ = generate(tiny, prompt.inputs, max_new_tokens=6)
    assert text.strip() == generate_answers(tiny, inputs, 6)[0]


def test_the_bundled_model_stops_by_itself(bundled):
    inputs = make_inputs(bundled, [IMAGE], ["what color is the star?"])
    _, result = generate(bundled, inputs, max_new_tokens=50)
    assert result.finish_reason == "stop"
    assert 1 < result.tokens < 50


# -- sampling, stopping --------------------------------------------------------------------------------------------


def test_sampling(tiny):
    inputs = make_inputs(tiny, [IMAGE], ["how many"])

    def sample(**options):
        return generate(tiny, inputs, max_new_tokens=8, sampling=SamplingOptions(**options))[0]

    one = sample(temperature=2.0, seed=1)
    assert one == sample(temperature=2.0, seed=1)
    assert one != sample(temperature=2.0, seed=2)
    before = torch.get_rng_state()
    sample(temperature=2.0, seed=3)
    assert torch.equal(torch.get_rng_state(), before)  # a seed is the request's alone
    assert sample(temperature=0.0) == sample() == sample(top_p=0.0001, temperature=1.0) == sample(temperature=1e-40)


def test_every_token_may_be_drawn(tiny, monkeypatch):
    """Not the likeliest 50 alone, unless the checkpoint says so."""
    inputs, drawn = make_inputs(tiny, [IMAGE], ["how many"]), []

    def count(logits, *_, **__):
        drawn.append(int((logits > 0).sum()))
        return sample(logits, *_, **__)

    sample = torch.multinomial
    monkeypatch.setattr(torch, "multinomial", count)
    generate(tiny, inputs, max_new_tokens=2, sampling=SamplingOptions(2.0))
    assert min(drawn) > 50
    drawn.clear()
    monkeypatch.setattr(tiny.model.generation_config, "top_k", 7)
    generate(tiny, inputs, max_new_tokens=2, sampling=SamplingOptions(top_p=1.0))
    assert drawn == [7, 7]


def test_stop_strings(tiny):
    inputs = make_inputs(tiny, [IMAGE], ["how many"])
    whole, _ = generate(tiny, inputs, max_new_tokens=12)
    word = whole[5:8]
    text, result = generate(tiny, inputs, max_new_tokens=12, stop=(word,))
    assert text == whole[: whole.index(word)]
    assert result.finish_reason == "stop"
    assert result.tokens < 12


def test_cancelled(tiny):
    inputs, calls = make_inputs(tiny, [IMAGE], ["how many"]), []

    def cancelled():
        calls.append(1)
        return len(calls) == 4

    _, result = generate(tiny, inputs, max_new_tokens=50, is_cancelled=cancelled)
    assert (result.tokens, result.finish_reason) == (4, "cancelled")


def test_an_error_leaves_no_hook(tiny):
    inputs = make_inputs(tiny, [IMAGE], ["how many"])

    def broken(text):
        raise KeyError(text)

    with pytest.raises(KeyError):
        generate_answer(tiny, inputs, broken, max_new_tokens=4)
    assert not tiny.model._forward_hooks
    assert not tiny.model._forward_pre_hooks


@pytest.mark.parametrize(
    "stop", [("lo w",), ("o", "lo"), ("ld!",), ("hello world!",), ("x", "wor"), ("!h",), ("",)[1:]]
)
def test_stopping_in_pieces_is_stopping_in_the_whole(stop):
    whole = "hello world!"
    ends = [whole.find(word) for word in stop if word in whole]
    expected = whole[: min(ends)] if ends else whole
    for size in (1, 2, 5, 12):
        pieces = []
        stop_filter = StopFilter(pieces.append, stop)
        for start in range(0, len(whole), size):
            stop_filter.add(whole[start : start + size])
        stop_filter.add("", end=True)
        stop_filter.add("more", end=True) if stop_filter.done else None
        assert "".join(pieces) == expected
        assert stop_filter.done == bool(ends)


def test_text_that_cannot_begin_a_stop_string_is_forwarded_at_once():
    pieces = []
    stop_filter = StopFilter(pieces.append, ("###",))
    for piece in ("a#", "b", "##", "c"):
        stop_filter.add(piece)
    assert pieces == ["a", "#b", "##c"]


# -- positions -----------------------------------------------------------------------------------------------------


def test_positions(tiny):
    inputs = make_inputs(tiny, [IMAGE], ["how many"])
    length = inputs["input_ids"].shape[1]
    assert last_position(inputs) == length - 1
    for positions, expected in (("original", length - 1), ("compact", length - 12)):
        with torch.no_grad():
            short = foveate.prune_inputs(tiny.model, inputs, keep=5, positions=positions)
        assert last_position(short) == expected
    assert context_length(tiny.model) == tiny.model.config.get_text_config().max_position_embeddings


def test_only_the_first_pass_is_timed(tiny):
    inputs = make_inputs(tiny, [IMAGE], ["how many"])
    with torch.no_grad(), time_prefill(tiny.model) as timing:
        tiny.model.generate(**inputs, max_new_tokens=1, min_new_tokens=1)
        first = (timing.seconds, timing.kv_bytes)
        tiny.model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
    assert (timing.seconds, timing.kv_bytes) == first


# -- conversations -------------------------------------------------------------------------------------------------


def turn(role, *parts):
    return {"role": role, "content": [{"type": "image"} if p is None else {"type": "text", "text": p} for p in parts]}


def test_the_last_question_decides(bundled):
    """The selection is the same as in a conversation of the last question alone."""
    first = turn("user", None, "what color is the star?")
    later = [first, turn("assistant", "red"), turn("user", "how many circles are there?")]
    kept = []
    with torch.no_grad():
        for turns in ([first], later, [turn("user", None, "how many circles are there?")]):
            inputs = make_chat_inputs(bundled, turns, [IMAGE])
            kept.append(foveate.prune_inputs(bundled.model, inputs, keep=0.1).report.items[0].kept.tolist())
    assert kept[1] == kept[2] != kept[0]


def test_several_images_in_several_turns(tiny):
    other = Image.new("RGB", (50, 70), "red")
    turns = [turn("user", None, "what"), turn("assistant", "a"), turn("user", None, "and", None)]
    inputs = make_chat_inputs(tiny, turns, [IMAGE, other, IMAGE])
    with torch.no_grad():
        report = foveate.prune_inputs(tiny.model, inputs, keep=5).report
    assert [len(item.kept) for item in report.items] == [5, 5, 5]


def test_text_that_contains_a_placeholder(tiny):
    for place in (0, 1):
        turns = [turn("system", "be brief"), turn("user", None, "what")]
        turns[place]["content"][-1]["text"] = "look: <image>"
        with pytest.raises(InputError, match="stands for an image"):
            make_chat_inputs(tiny, turns, [IMAGE])


def test_templates_that_take_text_alone_or_refuse(tiny, monkeypatch):
    plain = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    monkeypatch.setattr(tiny.processor, "chat_template", plain)
    words = make_chat_inputs(tiny, [turn("user", "what ", "shape")], [])
    assert "user: what shape" in tiny.processor.decode(words["input_ids"][0])
    with pytest.raises(ModelError, match="does not support images"):
        make_chat_inputs(tiny, [turn("user", None, "what")], [IMAGE])
    monkeypatch.setattr(tiny.processor, "chat_template", "{{ raise_exception('no system turns') }}")
    with pytest.raises(ModelError, match="no system turns"):
        make_chat_inputs(tiny, [turn("system", "a")], [])
