"""The page's control of what is encoded, over real HTTP in this process."""

import base64
from io import BytesIO

import pytest
import torch
from PIL import Image

import foveate
from demo_client import make_body, running_demo
from foveate import viz
from foveate.apps.ask import ask
from foveate.apps.demo.app import STATIC
from foveate.apps.encoder import EncoderOptions
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import load, quiet
from policies import make_policy
from served import data_url, to_file
from tiled import tiled_folder
from viz.golden.write import make_scene

IMAGE, QUESTION = make_scene(90, 90), "what color is it"  # four tiles and an overview
WHOLE = "images of llava models whole: leave encode out."


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    with quiet():
        return load(str(tiled_folder("llava_next", tmp_path_factory.mktemp("tiles"))))


@pytest.fixture(scope="module")
def page(tiles):
    with running_demo(tiles, policy=make_policy(tiles.model)) as demo:
        yield demo


def make(**more):
    return make_body(image=data_url(to_file(IMAGE)), question=QUESTION, keep=0.3, method="foveate") | more


@torch.no_grad()
def test_a_look_shows_the_tiles_that_were_left_out(page, tiles):
    look = page.post("/look", make(encode=0.4)).json()
    inputs = make_inputs(tiles, [IMAGE], [QUESTION])
    report = foveate.prune_inputs(tiles.model, inputs, keep=0.3, encode=0.4, explain=True).report
    assert (look["tiles"], look["kept"]) == ([2, 5], len(report.items[0].kept))
    expected = viz.draw(IMAGE, report, processor=tiles.processor, legend=False, original=False, step="kept")
    overlay = Image.open(BytesIO(base64.b64decode(look["overlay"].partition(",")[2])))
    assert overlay.tobytes() == expected.tobytes()
    whole = page.post("/look", make()).json()
    assert whole == page.post("/look", make(encode=1.0)).json() == page.post("/look", make(encode=1)).json()
    assert whole["tiles"] is None
    assert whole["overlay"] != look["overlay"]


@torch.no_grad()
def test_as_many_tiles_as_the_question_needs(page, tiles):
    look = page.post("/look", make(encode="auto")).json()
    item = foveate.prune_inputs(
        tiles.model, make_inputs(tiles, [IMAGE], [QUESTION]), keep=0.3, encode="auto"
    ).report.items[0]
    assert look["tiles"] == ([sum(item.encoded), 5] if sum(item.encoded) < 5 else None)


def test_both_answers(page, tiles):
    events = page.ask(**make(encode=0.4))
    expected = ask(tiles, IMAGE, QUESTION, keep=0.3, encoder=EncoderOptions(0.4), max_new_tokens=256)
    texts = {kind: "".join(e["text"] for e in events if e["type"] == "piece" and e["answer"] == kind).strip()
             for kind in ("pruned", "unpruned")}  # fmt: skip
    assert (texts["pruned"], texts["unpruned"]) == (expected.answer, expected.answer_unpruned)
    costs = {event["answer"]: event["cost"] for event in events if event["type"] == "cost"}
    assert costs["unpruned"]["visual_tokens"] == 336 > costs["pruned"]["visual_tokens"] == events[0]["kept"]
    assert costs["pruned"]["encode"] != costs["unpruned"]["encode"]
    for cost in costs.values():
        assert cost["first_token"] == pytest.approx(cost["encode"] + cost["select"] + cost["prefill"])
    same = {event["cost"]["encode"] for event in page.ask(**make()) if event["type"] == "cost"}
    assert len(same) == 1


def test_a_whole_look_after_a_partial_one_is_whole(page):
    other = data_url(to_file(make_scene(90, 90, shift=9)))
    looks = [page.post("/look", make(image=other, encode=share)).json()["tiles"] for share in (0.4, 1.0, 0.6)]
    assert looks == [[2, 5], None, [3, 5]]


def test_the_page_knows_whether_there_are_tiles(page, tiny_demo, demo):
    assert [each.get("/about").json()["tiles"] for each in (page, tiny_demo, demo)] == [True, False, False]


@pytest.mark.parametrize("value", [0, -0.4, 1.5, "0.4", "most", True, [0.4]])
def test_values_that_are_no_share(page, value):
    for path in ("/look", "/ask"):
        response = page.post(path, make(encode=value))
        assert response.status_code == 400
        assert response.json()["error"] == 'encode: give a share of an image above 0 (0.4), 1 for all, or "auto".'


def test_what_cannot_leave_tiles_out(page, demo):
    for path in ("/look", "/ask"):
        response = demo.post(path, make_body(encode=0.4))
        assert (response.status_code, response.json()["error"].endswith(WHOLE)) == (400, True)
        response = page.post(path, make(keep="auto", encode=0.4))
        assert response.status_code == 400
        assert "encode=0.4 is not for a policy, which was calibrated on whole images" in response.json()["error"]


def test_the_control_is_hidden_until_the_server_says_that_there_are_tiles():
    html = (STATIC / "index.html").read_text()
    assert '<div class="field" id="encode-field" hidden>' in html
    assert '<label for="encode">' in html
