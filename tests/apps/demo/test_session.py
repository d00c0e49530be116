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
from foveate.apps.demo import session
from foveate.apps.demo.app import METHOD
from foveate.apps.demo.events import AnswerCost, Savings
from foveate.apps.demo.gallery import make_gallery
from foveate.apps.demo.request import make_request
from foveate.apps.demo.session import CACHED_IMAGES, DemoSession
from foveate.models import family_of
from foveate.runtime.conversation import make_inputs
from foveate.runtime.files import decode_image
from foveate.runtime.load import load, quiet
from policies import make_policy
from served import data_url, to_file
from tiled import tiled_folder

# -- the kept tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "method"), [(0.1, "foveate"), (0.02, "zspaprune"), (0.3, "visionzip"), (1, "grid")])
def test_a_look_shows_what_prune_inputs_keeps(demo, bundled, keep, method):
    look = demo.post("/look", make_body(keep=keep, method=method)).json()
    image = decode_image(FILE)
    with torch.no_grad():
        inputs = make_inputs(bundled, [image], [QUESTION])
        report = foveate.prune_inputs(bundled.model, inputs, keep=float(keep), method=method, explain=True).report
    assert (look["kept"], look["total"], look["method"]) == (len(report.items[0].kept), 576, method)
    if keep < 1:
        assert look["core"] == int(report.items[0].core.sum())
        assert look["core"] + look["complement"] == look["kept"]
    else:
        assert look["core"] is look["complement"] is None
    expected = viz.draw(image, report, processor=bundled.processor, legend=False)
    overlay = Image.open(BytesIO(base64.b64decode(look["overlay"].partition(",")[2])))
    assert overlay.tobytes() == expected.tobytes()


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
    expected = viz.draw(image, report, processor=bundled.processor, legend=False, step="look")
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
    expected = viz.draw(image, report, processor=loaded.processor, legend=False)
    overlay = Image.open(BytesIO(base64.b64decode(look["overlay"].partition(",")[2])))
    assert overlay.tobytes() == expected.tobytes()
    costs = {event["answer"]: event["cost"]["visual_tokens"] for event in events if event["type"] == "cost"}
    assert costs == {"pruned": look["kept"], "unpruned": look["total"]}


# -- the cache -----------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(bundled, monkeypatch):
    """A demo, and a function that sends requests to /look and counts the runs of the encoder."""
    runs, encode = [], session.encode
    with running_demo(bundled) as demo:
        demo.post("/look", make_body())  # after the warm-up
        monkeypatch.setattr(session, "encode", lambda *args, **more: runs.append(1) or encode(*args, **more))

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
    more = [make_body(image=data_url(scene.to_png())) for scene in make_gallery()[2 : 2 + CACHED_IMAGES]]
    assert count_runs(*more) == CACHED_IMAGES
    assert len(demo.session._images) == CACHED_IMAGES
    assert count_runs(make_body(image=other)) == 1


def test_an_encoding_depends_on_the_question_if_the_encoder_reads_it(bundled, monkeypatch):
    """A Q-Former attends to the image with the question."""
    demo = DemoSession(bundled)
    first, second = (make_request(FILE, text, 0.1, METHOD) for text in ("what color is it?", "how many?"))
    assert demo._encoding_key({}, first) == demo._encoding_key({}, second)
    monkeypatch.setattr(demo._family, "encoder_inputs", lambda *_: {"pixel_values": 0, "qformer_input_ids": 0})
    assert demo._encoding_key({}, first) != demo._encoding_key({}, second)


# -- answers -------------------------------------------------------------------------------------------------------


def answer_text(events, kind):
    return "".join(e["text"] for e in events if e["type"] == "piece" and e["answer"] == kind).strip()


def test_events_come_in_order(demo):
    kinds = [(event["type"], event.get("answer")) for event in demo.ask()]
    distinct = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    expected = [("look", None)]
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


def test_an_answer_without_end_is_limited(tiny_demo):
    events = tiny_demo.ask(question="what color is it")
    assert [event["reason"] for event in events if event["type"] == "cost"] == ["length"] * 2
    assert events[-1]["type"] == "saved"


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
