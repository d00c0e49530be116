import pytest
import torch
from PIL import Image

import foveate
from foveate.apps.ask import ask
from foveate.apps.serve.answer import Cut, Sampling, answer, context, first_forward, last_position, prune
from foveate.errors import InputError, ModelError
from foveate.runtime.conversation import generate_answers, make_chat_inputs, make_inputs
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene

PICTURE = draw_scene(sample_scene(0, 3))


def said(loaded, inputs, **how):
    pieces = []
    with torch.no_grad():
        found = answer(loaded, inputs, pieces.append, **how)
    return "".join(pieces), found


# -- the same answers as elsewhere ---------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [5, 0.3, 1.0])
def test_the_answer_is_generate_s(tiny, keep):
    inputs = make_inputs(tiny, [PICTURE], ["what color is it"])
    with torch.no_grad():
        pruned = prune(tiny, inputs, keep=keep, method="foveate", positions="original")
        want = generate_answers(tiny, foveate.prune_inputs(tiny.model, inputs, keep=keep), 12)[0]
    text, found = said(tiny, pruned.inputs, new=12, sampling=Sampling(0.0))
    assert text.strip() == want
    assert (found.tokens, found.reason) == (12, "length")


def test_figures_are_those_of_ask(tiny):
    inputs = make_inputs(tiny, [PICTURE], ["what color is it"])
    with torch.no_grad():
        pruned = prune(tiny, inputs, keep=5, method="foveate", positions="original")
        want = ask(tiny, PICTURE, "what color is it", keep=5, max_new_tokens=2)
    _, found = said(tiny, pruned.inputs, new=3)
    assert found.kv_bytes == want.pruned.kv_bytes
    assert found.prefill > 0 < pruned.encode
    assert pruned.tokens == inputs["input_ids"].shape[1] - 11
    assert pruned.report.kept[0].tolist() == want.report.kept[0].tolist()


def test_words_alone(tiny):
    inputs = make_chat_inputs(tiny, [{"role": "user", "content": [{"type": "text", "text": "what shape"}]}], [])
    with torch.no_grad():
        pruned = prune(tiny, inputs, keep=5, method="visionzip", positions="original")
    assert pruned.report.kept == ()
    assert pruned.tokens == inputs["input_ids"].shape[1]
    text, _ = said(tiny, pruned.inputs, new=6)
    assert text.strip() == generate_answers(tiny, inputs, 6)[0]


def test_the_bundled_model_ends_by_itself(bundled):
    inputs = make_inputs(bundled, [PICTURE], ["what color is the star?"])
    _, found = said(bundled, inputs, new=50)
    assert found.reason == "stop"
    assert 1 < found.tokens < 50


# -- sampling, stopping --------------------------------------------------------------------------------------------


def test_sampling(tiny):
    inputs = make_inputs(tiny, [PICTURE], ["how many"])

    def drawn(**how):
        return said(tiny, inputs, new=8, sampling=Sampling(**how))[0]

    one = drawn(temperature=2.0, seed=1)
    assert one == drawn(temperature=2.0, seed=1)
    assert one != drawn(temperature=2.0, seed=2)
    before = torch.get_rng_state()
    drawn(temperature=2.0, seed=3)
    assert torch.equal(torch.get_rng_state(), before)  # a seed is the request's alone
    assert drawn(temperature=0.0) == drawn() == drawn(top_p=0.0001, temperature=1.0) == drawn(temperature=1e-40)


def test_stop_strings(tiny):
    inputs = make_inputs(tiny, [PICTURE], ["how many"])
    whole, _ = said(tiny, inputs, new=12)
    word = whole[5:8]
    text, found = said(tiny, inputs, new=12, stop=(word,))
    assert text == whole[: whole.index(word)]
    assert found.reason == "stop"
    assert found.tokens < 12


def test_cancelled(tiny):
    inputs, asked = make_inputs(tiny, [PICTURE], ["how many"]), []

    def cancelled():
        asked.append(1)
        return len(asked) == 4

    _, found = said(tiny, inputs, new=50, cancelled=cancelled)
    assert (found.tokens, found.reason) == (4, "cancelled")


def test_an_error_leaves_no_hook(tiny):
    inputs = make_inputs(tiny, [PICTURE], ["how many"])

    def broken(text):
        raise KeyError(text)

    with pytest.raises(KeyError):
        answer(tiny, inputs, broken, new=4)
    assert not tiny.model._forward_hooks
    assert not tiny.model._forward_pre_hooks


@pytest.mark.parametrize(
    "stop", [("lo w",), ("o", "lo"), ("ld!",), ("hello world!",), ("x", "wor"), ("!h",), ("",)[1:]]
)
def test_cutting_text_is_cutting_the_whole(stop):
    whole = "hello world!"
    ends = [whole.find(word) for word in stop if word in whole]
    want = whole[: min(ends)] if ends else whole
    for size in (1, 2, 5, 12):
        pieces = []
        cut = Cut(pieces.append, stop)
        for start in range(0, len(whole), size):
            cut.add(whole[start : start + size])
        cut.add("", end=True)
        cut.add("more", end=True) if cut.done else None
        assert "".join(pieces) == want
        assert cut.done == bool(ends)


def test_text_that_cannot_be_a_stop_string_is_not_held_back():
    pieces = []
    cut = Cut(pieces.append, ("###",))
    for piece in ("a#", "b", "##", "c"):
        cut.add(piece)
    assert pieces == ["a", "#b", "##c"]


# -- how much room there is ----------------------------------------------------------------------------------------


def test_places(tiny):
    inputs = make_inputs(tiny, [PICTURE], ["how many"])
    length = inputs["input_ids"].shape[1]
    assert last_position(inputs) == length - 1
    for positions, want in (("original", length - 1), ("compact", length - 12)):
        with torch.no_grad():
            short = foveate.prune_inputs(tiny.model, inputs, keep=5, positions=positions)
        assert last_position(short) == want
    assert context(tiny.model) == tiny.model.config.get_text_config().max_position_embeddings


def test_only_the_first_pass_is_watched(tiny):
    inputs = make_inputs(tiny, [PICTURE], ["how many"])
    with torch.no_grad(), first_forward(tiny.model) as seen:
        tiny.model.generate(**inputs, max_new_tokens=1, min_new_tokens=1)
        first = (seen.seconds, seen.kv_bytes)
        tiny.model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
    assert (seen.seconds, seen.kv_bytes) == first


# -- conversations -------------------------------------------------------------------------------------------------


def turn(role, *parts):
    return {"role": role, "content": [{"type": "image"} if p is None else {"type": "text", "text": p} for p in parts]}


def test_each_turn_chooses_for_its_own_question(bundled):
    """The last question decides, and the choice is the one that it would make in a conversation of its own."""
    first = turn("user", None, "what color is the star?")
    talk = [first, turn("assistant", "red"), turn("user", "how many circles are there?")]
    kept = []
    with torch.no_grad():
        for turns in ([first], talk, [turn("user", None, "how many circles are there?")]):
            inputs = make_chat_inputs(bundled, turns, [PICTURE])
            kept.append(foveate.prune_inputs(bundled.model, inputs, keep=0.1).report.kept[0].tolist())
    assert kept[1] == kept[2] != kept[0]


def test_several_pictures_in_several_turns(tiny):
    other = Image.new("RGB", (50, 70), "red")
    talk = [turn("user", None, "what"), turn("assistant", "a"), turn("user", None, "and", None)]
    inputs = make_chat_inputs(tiny, talk, [PICTURE, other, PICTURE])
    with torch.no_grad():
        report = foveate.prune_inputs(tiny.model, inputs, keep=5).report
    assert [len(kept) for kept in report.kept] == [5, 5, 5]


def test_words_that_stand_for_a_picture(tiny):
    for place in (0, 1):
        talk = [turn("system", "be brief"), turn("user", None, "what")]
        talk[place]["content"][-1]["text"] = "look: <image>"
        with pytest.raises(InputError, match="stands for an image"):
            make_chat_inputs(tiny, talk, [PICTURE])


def test_templates_that_know_words_alone_or_refuse(tiny, monkeypatch):
    plain = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    monkeypatch.setattr(tiny.processor, "chat_template", plain)
    words = make_chat_inputs(tiny, [turn("user", "what ", "shape")], [])
    assert "user: what shape" in tiny.processor.decode(words["input_ids"][0])
    with pytest.raises(ModelError, match="does not support images"):
        make_chat_inputs(tiny, [turn("user", None, "what")], [PICTURE])
    monkeypatch.setattr(tiny.processor, "chat_template", "{{ raise_exception('no system turns') }}")
    with pytest.raises(ModelError, match="no system turns"):
        make_chat_inputs(tiny, [turn("system", "a")], [])
