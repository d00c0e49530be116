"""A server that leaves tiles out, and requests with `encode`, over real HTTP in this process."""

import json

import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

import foveate
from foveate.apps import cli
from foveate.apps.encoder import EncoderOptions
from foveate.apps.serve.app import make_app
from foveate.apps.serve.chat_response import ChatCompletion, ChatCompletionChunk
from foveate.apps.serve.settings import ServeSettings
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet
from policies import make_policy, save_policy, ship
from served import body, content, data_url, get, post, read_metrics, refusal, running_app, to_file
from tiled import tiled_folder
from viz.golden.write import make_scene

QUESTION = "what color is it?"
IMAGE = make_scene(90, 90)  # four tiles and an overview


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    with quiet():
        return load(str(tiled_folder("llava_next", tmp_path_factory.mktemp("tiles"))))


@pytest.fixture(scope="module")
def picture():
    return data_url(to_file(IMAGE))


@pytest.fixture(scope="module")
def whole(tiles):
    """A server with the default settings."""
    with running_app(make_app(tiles, ServeSettings(keep=0.3))) as server:
        yield server


@pytest.fixture(scope="module")
def partial(tiles):
    """A server that leaves tiles out by default."""
    with running_app(make_app(tiles, ServeSettings(keep=0.3, encoder=EncoderOptions(0.4)))) as server:
        yield server


def ask(server, loaded, image, **more):
    return post(server.url, body(loaded.name, content(QUESTION, image), max_tokens=4, **more))


@torch.no_grad()
def test_a_request_leaves_tiles_out(whole, tiles, picture):
    answer = ask(whole, tiles, picture, encode=0.4).json()
    TypeAdapter(ChatCompletion).validate_python(answer, strict=True)
    inputs = make_inputs(tiles, [IMAGE], [QUESTION])
    short = foveate.prune_inputs(tiles.model, inputs, keep=0.3, encode=0.4)
    details = answer["foveate"]
    assert (details["encoded"], details["kept"]) == ([0.4], [len(short.report.items[0].kept)])
    assert answer["choices"][0]["message"]["content"].strip() == generate_answers(tiles, short, 4)[0]
    assert answer["usage"]["prompt_tokens"] == short["input_ids"].shape[1]
    assert min(details["seconds"].values()) > 0
    assert ask(whole, tiles, picture).json()["foveate"]["encoded"] == [1.0]


def test_the_server_has_a_default_and_a_request_may_have_its_own(partial, tiles, picture):
    shares = [ask(partial, tiles, picture, **more).json()["foveate"]["encoded"]
              for more in ({}, {"encode": 0.6}, {"encode": 1.0}, {"encode": 1}, {"encode": None})]  # fmt: skip
    assert shares == [[0.4], [0.6], [1.0], [1.0], [0.4]]
    answer = post(partial.url, body(tiles.name, content(QUESTION, picture, picture), max_tokens=1)).json()
    assert answer["foveate"]["encoded"] == [0.4, 0.4]
    assert post(partial.url, body(tiles.name, "hello", max_tokens=1)).json()["foveate"]["encoded"] == []


def test_images_that_are_known_whole_are_encoded_in_part_again(tiles, picture):
    """And the other way round: which tiles are needed depends on the question."""
    with running_app(make_app(tiles, ServeSettings(keep=0.3))) as server:
        details = [ask(server, tiles, picture, encode=share).json()["foveate"] for share in (1.0, 1.0, 0.4, 0.4, 1.0)]
    assert [each["reused"] for each in details] == [0, 1, 0, 0, 1]
    assert [each["encoded"] for each in details] == [[1.0], [1.0], [0.4], [0.4], [1.0]]
    assert details[2]["kept"] == details[3]["kept"]


def test_a_stream_ends_with_the_share(partial, tiles, picture):
    lines = ask(partial, tiles, picture, stream=True).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    for chunk in chunks:
        TypeAdapter(ChatCompletionChunk).validate_python(chunk, strict=True)
    assert chunks[-1]["foveate"]["encoded"] == [0.4]
    (share,) = ask(partial, tiles, picture, encode="auto").json()["foveate"]["encoded"]
    inputs = make_inputs(tiles, [IMAGE], [QUESTION])
    assert share == foveate.prune_inputs(tiles.model, inputs, keep=0.3, encode="auto").report.items[0].encoded_share


def test_metrics_count_shares_of_images(tiles, picture):
    with running_app(make_app(tiles, ServeSettings(keep=0.3))) as server:
        for share in (0.4, 0.6, 1.0):
            assert ask(server, tiles, picture, encode=share).status_code == 200
        metrics = read_metrics(server.url)
        assert metrics["foveate_images_total",] == 3
        assert metrics["foveate_encoded_images_total",] == pytest.approx(2.0)
        assert metrics["foveate_encode_seconds_count",] == 3


@pytest.mark.parametrize("value", [0, 0.0, -0.4, 1.5, 2, "0.4", "most", True, [0.4], {"share": 0.4}])
def test_values_that_are_no_share(whole, tiles, picture, value):
    error = refusal(ask(whole, tiles, picture, encode=value), 400)
    assert error["param"] == "encode"
    assert error["message"] == 'encode: give a share of an image above 0 (0.4), 1 for all, or "auto".'


def test_numbers_that_json_does_not_have(whole, tiles, picture):
    for text in ("NaN", "Infinity", "1e999", "-Infinity"):
        request = json.dumps(body(tiles.name, content(QUESTION, picture), encode=0.125)).replace("0.125", text)
        assert refusal(post(whole.url, content=request), 400)["param"] == "encode"


def test_models_that_see_images_whole(server, scene):
    for turn in (content(QUESTION, scene), "hello"):
        error = refusal(post(server.url, body("bundled", turn, encode=0.4)), 400)
        assert "encode=0.4 encodes a part of an image" in error["message"]
        assert "images of llava models whole: leave encode out." in error["message"]
    answer = post(server.url, body("bundled", content(QUESTION, scene), encode=1.0, max_tokens=1)).json()
    assert answer["foveate"]["encoded"] == [1.0]


def test_a_policy_is_for_whole_images(whole, partial, tiles, picture, monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path, make_policy(tiles.model))
    message = refusal(ask(whole, tiles, picture, keep="auto", encode=0.4), 400)["message"]
    assert message.startswith("encode=0.4 is not for a policy")
    assert "This server" not in message
    message = refusal(ask(partial, tiles, picture, keep="auto"), 400)["message"]  # the share is the server's
    assert message.endswith('This server encodes parts by default: "encode": 1.0 encodes all.')
    assert ask(partial, tiles, picture, keep="auto", encode=1.0).json()["foveate"]["encoded"] == [1.0]
    for more in ({"method": "clever"}, {"positions": "compact", "keep": "auto", "encode": 1.0}):
        assert "This server encodes" not in refusal(ask(partial, tiles, picture, **more), 400)["message"]


def test_a_server_with_a_policy(tiles, picture):
    with running_app(make_app(tiles, ServeSettings(keep=make_policy(tiles.model)))) as server:
        assert "not for a policy" in refusal(ask(server, tiles, picture, encode=0.4), 400)["message"]
        assert ask(server, tiles, picture, encode=0.4, keep=0.3).json()["foveate"]["encoded"] == [0.4]


def test_the_description_has_it(whole):
    schemas = get(f"{whole.url}/openapi.json").json()["components"]["schemas"]
    share, auto, empty = schemas["CompletionRequest"]["properties"]["encode"]["anyOf"][0]["anyOf"]
    assert (share["type"], share["exclusiveMinimum"], share["maximum"], empty["type"]) == ("number", 0, 1, "null")
    assert auto["const"] == "auto"
    assert schemas["PruningDetails"]["properties"]["encoded"]["items"] == {"type": "number"}


@pytest.mark.parametrize("keep", ["0.1", "policy"])
def test_a_server_that_cannot_leave_tiles_out_does_not_start(tiny, capsys, tmp_path, keep):
    keep = str(save_policy(tiny.model, tmp_path)) if keep == "policy" else keep
    with pytest.raises(SystemExit) as stop:
        cli.main(["serve", "--model", tiny.name, "--keep", keep, "--encode", "0.4", "--port", "0"])
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert "leave encode out" in captured.err


def test_blank_parts_by_request_and_by_default():
    with quiet():
        qwen = load("bundled-qwen")
    page = Image.new("RGB", (160, 160), "white")
    page.paste(make_scene(48, 48), (16, 16))
    url = data_url(to_file(page))
    with running_app(make_app(qwen, ServeSettings(keep=0.3))) as server:
        shares = [ask(server, qwen, url, **more).json()["foveate"]["encoded"] for more in ({}, {"skip": "blank"})]
        for value in (-0.1, 1, "white", True, ["blank"]):
            assert refusal(ask(server, qwen, url, skip=value), 400)["param"] == "skip"
        assert "leave one of them out" in refusal(ask(server, qwen, url, skip=0, encode=0.5), 400)["message"]
    assert shares[0] == [1.0]
    assert 0 < shares[1][0] < 0.5
    with running_app(make_app(qwen, ServeSettings(keep=0.3, encoder=EncoderOptions(skip="blank")))) as server:
        for more, expected in (({}, shares[1]), ({"encode": 1.0}, [1.0]), ({"skip": "blank"}, shares[1])):
            assert ask(server, qwen, url, **more).json()["foveate"]["encoded"] == expected
        message = refusal(ask(server, qwen, url, keep="auto"), 400)["message"]
        assert message.endswith('This server encodes parts by default: "encode": 1.0 encodes all.')
