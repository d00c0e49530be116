"""What the demo shows and answers, over real HTTP in this process."""

import base64
from io import BytesIO

import pytest
import torch
from PIL import Image

import foveate
from demo_client import FILE, QUESTION, make_body, running_demo
from foveate import viz
from foveate.apps.ask import ask
from foveate.apps.demo.events import AnswerCost, Savings
from foveate.apps.demo.gallery import make_gallery
from foveate.apps.demo.request import TURNS
from foveate.models import family_of
from foveate.runtime import image_cache
from foveate.runtime.conversation import generate_answers, make_chat_inputs, make_inputs
from foveate.runtime.files import decode_image
from foveate.runtime.load import load, quiet
from policies import make_policy
from served import data_url, to_file
from tiled import tiled_folder

# -- the kept tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "method"), [(0.1, "foveate"), (0.02, "zspaprune"), (0.3, "visionzip"), (0.1, "grid"), (1, "grid")]
)
def test_a_look_shows_what_prune_inputs_keeps(demo, bundled, keep, method):
    look = demo.post("/look", make_body(keep=keep, method=method)).json()
    image = decode_image(FILE)
    with torch.no_grad():
        inputs = make_inputs(bundled, [image], [QUESTION])
        report = foveate.prune_inputs(bundled.model, inputs, keep=float(keep), method=method, explain=True).report
    assert (look["kept"], look["total"], look["method"]) == (len(report.items[0].kept), 576, method)
    assert look["prompt_aware"] == (method in ("foveate", "zspaprune"))
    if keep < 1 and method != "grid":  # which scores no token
        assert look["core"] == int(report.items[0].core.sum())
        assert look["core"] + look["complement"] == look["kept"]
    else:
        assert look["core"] is look["complement"] is None
    expected = viz.draw(image, report, processor=bundled.processor, legend=False, original=False, step="kept")
    overlay = Image.open(BytesIO(base64.b64decode(look["overlay"].partition(",")[2])))
    assert overlay.tobytes() == expected.tobytes()
    assert (look["map"] is None) == (report.items[0].relevance is None)
    if look["map"]:
        expected = viz.draw(image, report, processor=bundled.processor, legend=False, original=False, step="map")
        assert decode_image(base64.b64decode(look["map"].partition(",")[2])).tobytes() == expected.tobytes()


def test_auto_shows_the_number_and_the_reason(bundled):
    policy = make_policy(bundled.model)
    with running_demo(bundled, policy=policy) as demo:
        look = demo.post("/look", make_body(keep="auto")).json()
        events = demo.ask(keep="auto")
        fixed = demo.post("/look", make_body(keep=0.25)).json()
    assert {**look, "reason": None} == fixed
    assert (look["kept"], look["total"]) == (144, 576)
    assert look["reason"].startswith("25 % of the tokens, at an estimated risk of")
    assert events[0] == look
    costs = {event["answer"]: event["cost"]["visual_tokens"] for event in events if event["type"] == "cost"}
    assert costs == {"pruned": 144, "unpruned": 576}


def test_a_first_look_is_shown(demo, bundled):
    look = demo.post("/look", make_body(keep=0.1, method="glance")).json()
    image = decode_image(FILE)
    with torch.no_grad():
        inputs = make_inputs(bundled, [image], [QUESTION])
        report = foveate.prune_inputs(bundled.model, inputs, keep=0.1, method="glance", explain=True).report
    assert look["looked"] == len(report.items[0].look) == 115
    expected = viz.draw(image, report, processor=bundled.processor, legend=False, original=False, step="look")
    overlay = Image.open(BytesIO(base64.b64decode(look["look"].partition(",")[2])))
    assert overlay.tobytes() == expected.tobytes()
    assert look["look"] != look["overlay"]
    plain = demo.post("/look", make_body(keep=0.1)).json()
    assert plain["look"] is plain["looked"] is None


def test_a_look_without_anything_special_has_no_notes(demo):
    assert demo.post("/look", make_body(method="grid")).json()["notes"] == []


def test_the_overlay_of_a_large_image_is_small(demo):
    """It is sent at every step of the slider."""
    large = to_file(Image.effect_noise((3000, 2000), 80).convert("RGB"), "JPEG")
    look = demo.post("/look", make_body(image=data_url(large, "image/jpeg"))).json()
    data = base64.b64decode(look["overlay"].partition(",")[2])
    assert max(decode_image(data).size) <= 1024
    assert len(data) < 4_000_000


def test_an_image_of_several_tiles_counts_as_one(tmp_path):
    with quiet():
        loaded = load(str(tiled_folder("smolvlm", tmp_path)))
    image = Image.effect_noise((96, 64), 90).convert("RGB")
    inputs = make_inputs(loaded, [image], ["what color is it"])
    with running_demo(loaded) as demo:
        events = demo.ask(image=data_url(to_file(image)), question="what color is it", keep=0.3, method="foveate")
    look = events[0]
    assert look["total"] == family_of(loaded.model).placeholders(loaded.model.config, inputs).sum()
    report = foveate.prune_inputs(loaded.model, inputs, keep=0.3, explain=True).report
    assert (look["kept"], look["core"]) == (len(report.items[0].kept), int(report.items[0].core.sum()))
    expected = viz.draw(image, report, processor=loaded.processor, legend=False, original=False, step="kept")
    overlay = Image.open(BytesIO(base64.b64decode(look["overlay"].partition(",")[2])))
    assert overlay.tobytes() == expected.tobytes()
    costs = {event["answer"]: event["cost"]["visual_tokens"] for event in events if event["type"] == "cost"}
    assert costs == {"pruned": look["kept"], "unpruned": look["total"]}


# -- the cache -----------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(bundled, monkeypatch):
    """A demo, and a function that sends requests to /look and counts the runs of the encoder."""
    runs, encode = [], image_cache.encode
    with running_demo(bundled) as demo:
        demo.post("/look", make_body())  # after the warm-up
        monkeypatch.setattr(image_cache, "encode", lambda *args, **more: runs.append(1) or encode(*args, **more))

        def count_runs(*requests):
            runs.clear()
            for request in requests:
                assert demo.post("/look", request).status_code == 200
            return len(runs)

        yield demo, count_runs


def test_the_encoder_runs_once_per_image_and_extras(counted):
    _, count_runs = counted
    other = data_url(make_gallery()[1].to_png())
    assert count_runs(*(make_body(image=other, **more) for more in ({}, {"keep": 0.5}, {"question": "a star?"}))) == 1
    assert count_runs(make_body(image=other, method="divprune")) == 0
    assert count_runs(*[make_body(image=other, method="vispruner")] * 2) == 1
    assert count_runs(make_body(image=other), make_body(image=other, method="vispruner")) == 0


def test_old_images_are_dropped_from_the_cache(counted):
    demo, count_runs = counted
    other = data_url(make_gallery()[1].to_png())
    assert count_runs(make_body(image=other)) == 1
    cache = demo.session._cache._cache
    cache.max_bytes = cache.bytes
    assert count_runs(make_body(image=data_url(make_gallery()[2].to_png()))) == 1
    assert cache.bytes <= cache.max_bytes
    first = make_body()
    assert count_runs(first, make_body(image=other)) >= 1


# -- answers -------------------------------------------------------------------------------------------------------


def answer_text(events, kind):
    return "".join(e["text"] for e in events if e["type"] == "piece" and e["answer"] == kind).strip()


def test_events_come_in_order(demo):
    kinds = [(event["type"], event.get("answer")) for event in demo.ask()]
    distinct = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    expected = [("look", "pruned")]
    expected += [(kind, which) for which in ("pruned", "unpruned") for kind in ("piece", "cost")]
    assert distinct == [*expected, ("saved", None)]
    assert kinds.count(("cost", "pruned")) == kinds.count(("cost", "unpruned")) == kinds.count(("saved", None)) == 1


@pytest.mark.parametrize("method", ["foveate", "prumerge"])
@pytest.mark.parametrize("number", [0, 3, 4])
def test_the_answers_are_those_of_ask(demo, bundled, number, method):
    scene = make_gallery()[number]
    question = scene.questions[0].text
    events = demo.ask(image=data_url(scene.to_png()), question=question, keep=0.2, method=method)
    expected = ask(bundled, decode_image(scene.to_png()), question, keep=0.2, method=method)
    assert answer_text(events, "pruned") == expected.answer
    assert answer_text(events, "unpruned") == expected.answer_unpruned
    costs = {event["answer"]: event["cost"] for event in events if event["type"] == "cost"}
    assert costs["pruned"]["kv_bytes"] == expected.pruned.kv_bytes
    assert costs["unpruned"]["kv_bytes"] == expected.unpruned.kv_bytes


@pytest.mark.parametrize("other", [{"keep": 0.3, "method": "foveate"}, {"keep": 0.1, "method": "vispruner"}])
def test_another_budget_or_method_is_answered_beside(demo, other):
    """As by itself, after the first one; the unpruned answer comes once."""
    both, alone = demo.ask(compare=other), demo.ask(**other)
    kinds = [(event["type"], event.get("answer")) for event in both if event["type"] != "piece"]
    names = ("pruned", "compared", "unpruned")
    expected = [*[("look", name) for name in names[:2]], *[("cost", name) for name in names], ("saved", None)]
    assert kinds == expected
    assert both[0] == demo.post("/look", make_body()).json()
    assert {**both[1], "answer": "pruned"} == alone[0]
    assert answer_text(both, "compared") == answer_text(alone, "pruned")
    costs = {event["answer"]: event["cost"] for event in both if event["type"] == "cost"}
    (cost,) = [event["cost"] for event in alone if event.get("answer") == "pruned" and event["type"] == "cost"]
    fixed = ("visual_tokens", "tokens", "kv_bytes", "new")
    assert [costs["compared"][name] for name in fixed] == [cost[name] for name in fixed]
    assert costs["compared"]["encode"] == pytest.approx(cost["encode"])
    assert both[-1]["saved"]["tokens"] == costs["unpruned"]["tokens"] / costs["pruned"]["tokens"]


def test_an_answer_without_end_is_limited(tiny_demo):
    events = tiny_demo.ask(question="what color is it")
    assert [event["reason"] for event in events if event["type"] == "cost"] == ["length"] * 2
    assert events[-1]["type"] == "saved"


# -- conversations -------------------------------------------------------------------------------------------------

TALK = [{"question": "how many objects are there?", "answer": "3"}, {"question": "is it red?", "answer": "no"}]


def make_talk(question, turns):
    """The messages of a conversation about one image, by hand."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": turns[0]["question"]}]}]
    for n, turn in enumerate(turns):
        after = turns[n + 1]["question"] if n + 1 < len(turns) else question
        messages.append({"role": "assistant", "content": [{"type": "text", "text": turn["answer"]}]})
        messages.append({"role": "user", "content": [{"type": "text", "text": after}]})
    return messages


@pytest.mark.parametrize("turns", [TALK[:1], TALK])
@pytest.mark.parametrize("keep", [0.1, 1])
def test_a_further_question_is_answered_as_the_whole_conversation(demo, bundled, turns, keep):
    events = demo.ask(turns=turns, keep=keep)
    inputs = make_chat_inputs(bundled, make_talk(QUESTION, turns), [decode_image(FILE)])
    with torch.no_grad():
        for kind, share in (("pruned", float(keep)), ("unpruned", 1.0)):
            short = foveate.prune_inputs(bundled.model, inputs, keep=share)
            assert answer_text(events, kind) == generate_answers(bundled, short, 256)[0]
            (cost,) = [e["cost"] for e in events if e["type"] == "cost" and e["answer"] == kind]
            assert (cost["tokens"], cost["visual_tokens"]) == (short["input_ids"].shape[1], short.report.kept_count)


def test_a_session_keeps_the_same_tokens(demo, bundled):
    """The answer before is the model's own there; the page sends it back."""
    with foveate.Session(bundled.model, bundled.processor, keep=0.1) as talk:
        talk.see(decode_image(FILE))
        answer = str(talk.ask("how many objects are there?", do_sample=False))
        report = talk.ask(QUESTION, do_sample=False).report
    look = demo.post("/look", make_body(turns=[{**TALK[0], "answer": answer}])).json()
    overlay = Image.open(BytesIO(base64.b64decode(look["overlay"].partition(",")[2])))
    assert look["kept"] == report.kept_count
    inputs = make_chat_inputs(bundled, make_talk(QUESTION, [{**TALK[0], "answer": answer}]), [decode_image(FILE)])
    with torch.no_grad():
        explained = foveate.prune_inputs(bundled.model, inputs, keep=0.1, explain=True).report
    assert torch.equal(explained.items[0].kept, report.items[0].kept)
    expected = viz.draw(
        decode_image(FILE), explained, processor=bundled.processor, legend=False, original=False, step="kept"
    )
    assert overlay.tobytes() == expected.tobytes()


def test_the_image_is_not_encoded_again_for_a_further_question(counted):
    demo, count_runs = counted
    other = data_url(make_gallery()[3].to_png())
    assert count_runs(make_body(image=other), make_body(image=other, turns=TALK)) == 1
    costs = [event["cost"] for event in demo.ask(image=other, turns=TALK) if event["type"] == "cost"]
    assert [cost["encode"] for cost in costs] == [0, 0]


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([TALK[0]] * (TURNS + 1), f"at most {TURNS} earlier questions"), ("how many?", "turns"), ([{}], "question"),
        ([{"question": "a star?"}], "answer"), ([{**TALK[0], "image": "x"}], "image"),
        ([{**TALK[0], "answer": "a" * 8001}], "answer"), ([{**TALK[0], "answer": "<image>"}], "stands for an image"),
        ([{**TALK[0], "answer": "star " * 1500}], "The prompt ends at position"),
    ],
)  # fmt: skip
def test_wrong_turns_are_refused(demo, turns, message):
    response = demo.post("/ask", make_body(turns=turns))
    assert response.status_code == 400
    assert message in response.json()["error"]


# -- costs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def costs(demo):
    """The look, both costs and the ratios of one question."""
    events = demo.ask()
    return events[0], *(event["cost"] for event in events if event["type"] == "cost"), events[-1]["saved"]


def test_seconds_add_up(costs):
    _, pruned, unpruned, _ = costs
    for cost in (pruned, unpruned):
        assert cost["first_token"] == pytest.approx(cost["encode"] + cost["select"] + cost["prefill"])
        assert cost["seconds"] > cost["first_token"]
        assert cost["encode"] > 0
    assert pruned["encode"] == unpruned["encode"]  # one run, counted for both
    assert pruned["select"] > 0 == unpruned["select"]


def test_tokens_add_up(costs):
    look, pruned, unpruned, _ = costs
    assert (pruned["visual_tokens"], unpruned["visual_tokens"]) == (look["kept"], look["total"])
    assert pruned["tokens"] == look["tokens"]
    assert unpruned["tokens"] - pruned["tokens"] == look["total"] - look["kept"]


def test_savings_are_ratios_of_the_costs(costs):
    _, pruned, unpruned, ratios = costs
    assert ratios["visual_tokens"] == pytest.approx(576 / 58)
    assert ratios["first_token"] == pytest.approx(unpruned["first_token"] / pruned["first_token"])


def test_a_cost_of_zero_has_no_ratio():
    small = AnswerCost(1, 2, 0.0, 1.0, 2.0, 3.0, 4.0, 5, 6)
    large = AnswerCost(2, 3, 0.0, 0.0, 4.0, 4.0, 6.0, 10, 6)
    assert Savings.between(small, large).saved == {
        "visual_tokens": 2.0, "tokens": 1.5, "prefill": 2.0, "first_token": 4 / 3, "seconds": 1.5, "kv_bytes": 2.0,
    }  # fmt: skip
