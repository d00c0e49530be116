"""A server with a policy, and requests with `keep: "auto"`, over real HTTP in this process."""

import json

import pytest
from pydantic import TypeAdapter

import foveate
from foveate.apps import cli
from foveate.apps.serve.app import make_app
from foveate.apps.serve.chat_response import ChatCompletion, ChatCompletionChunk
from foveate.apps.serve.settings import ServeSettings
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from policies import SAFE, make_policy, ship
from served import body, content, get, post, refusal, running_app

QUESTION = "what color is the star?"
REASON = "25 % of the tokens, at an estimated risk of"


@pytest.fixture(scope="module")
def policy(bundled):
    return make_policy(bundled.model)


@pytest.fixture(scope="module")
def strict(bundled, policy):
    """A server whose default is a policy."""
    with running_app(make_app(bundled, ServeSettings(keep=policy))) as server:
        yield server


def ask(server, scene, **more):
    return post(server.url, body("bundled", content(QUESTION, scene), **more))


def test_the_policy_chooses_for_every_request(strict, bundled, policy, scene):
    answer = ask(strict, scene).json()
    TypeAdapter(ChatCompletion).validate_python(answer, strict=True)
    inputs = make_inputs(bundled, [draw_scene(sample_scene(0, 3))], [QUESTION])
    short = foveate.prune_inputs(bundled.model, inputs, keep=policy)
    assert answer["foveate"]["kept"] == [144] == [len(short.report.items[0].kept)]
    assert answer["foveate"]["reasons"] == [short.report.items[0].reason]
    assert answer["choices"][0]["message"]["content"].strip() == generate_answers(bundled, short, 20)[0]
    assert answer["usage"]["prompt_tokens"] == short["input_ids"].shape[1]


def test_a_stream_ends_with_the_reason(strict, scene):
    lines = ask(strict, scene, stream=True).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    for chunk in chunks:
        TypeAdapter(ChatCompletionChunk).validate_python(chunk, strict=True)
    assert chunks[-1]["foveate"]["reasons"][0].startswith(REASON)


def test_a_request_may_have_a_number_of_its_own(strict, scene):
    answer = ask(strict, scene, keep=10).json()
    assert (answer["foveate"]["kept"], answer["foveate"]["reasons"]) == ([10], [])
    assert ask(strict, scene, keep=1.0, method="grid").json()["foveate"]["kept"] == [576]


@pytest.mark.parametrize(("name", "value"), [("method", "grid"), ("positions", "compact")])
def test_settings_that_the_policy_was_not_calibrated_with(strict, scene, name, value):
    message = refusal(ask(strict, scene, **{name: value}), 400)["message"]
    assert f"calibrated with {name}=" in message
    assert f"not {value!r}: use that, or calibrate again" in message


def test_several_images_and_none(strict, scene):
    answer = post(strict.url, body("bundled", content(QUESTION, scene, scene))).json()
    assert answer["foveate"]["kept"] == [144, 144]
    assert len(answer["foveate"]["reasons"]) == 2
    assert any("calibrated on one image a prompt" in note for note in answer["foveate"]["notes"])
    assert post(strict.url, body("bundled", "hello")).json()["foveate"]["reasons"] == []


def test_auto_in_a_request(server, bundled, scene, monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path, make_policy(bundled.model, price=SAFE))
    answer = ask(server, scene, keep="auto").json()
    assert answer["foveate"]["kept"] == [576]
    assert answer["foveate"]["reasons"][0].startswith("100 % of the tokens, at an estimated risk of 0 %")
    assert "calibrated with method='foveate'" in refusal(ask(server, scene, keep="auto", method="grid"), 400)["message"]


def test_auto_for_a_model_without_a_policy(server, scene, monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path)
    for turn in (content(QUESTION, scene), "hello"):
        message = refusal(post(server.url, body("bundled", turn, keep="auto")), 400)["message"]
        assert 'keep="auto" needs a policy for this model' in message


def test_the_description_has_auto(server):
    schemas = get(f"{server.url}/openapi.json").json()["components"]["schemas"]
    choices = schemas["CompletionRequest"]["properties"]["keep"]["anyOf"][0]["anyOf"]
    assert {"const": "auto", "type": "string"} in choices
    assert [choice["type"] for choice in choices] == ["integer", "number", "string", "null"]
    assert schemas["PruningDetails"]["properties"]["reasons"]["items"] == {"type": "string"}


@pytest.mark.parametrize("keep", ["auto", "mine.policy.json"])
def test_a_server_without_its_policy_does_not_start(tiny, bundled, capsys, monkeypatch, tmp_path, keep):
    (tmp_path / "shipped").mkdir()
    ship(monkeypatch, tmp_path / "shipped")
    make_policy(bundled.model).save(tmp_path / "mine.policy.json")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["serve", "--model", tiny.name, "--keep", keep, "--port", "0"])
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert "none comes with it" in captured.err or "calibrated on another model" in captured.err
