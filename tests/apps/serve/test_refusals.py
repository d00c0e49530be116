"""What the application refuses, with which status and code, over real HTTP in this process."""

import httpx
import pytest
from PIL import Image

from foveate.apps.serve import transport
from foveate.apps.serve.app import make_app
from foveate.apps.serve.settings import ServeLimits, ServeSettings
from served import body, content, data_url, get, open_request, post, refusal, running_app, to_file

QUESTION = "what color is the star?"


@pytest.fixture(scope="module", autouse=True)
def still_answers(server, scene):
    """After all refusals the server answers as before."""
    yield
    answer = post(server.url, body("bundled", content(QUESTION, scene))).json()
    assert answer["choices"][0]["message"]["content"] == " yellow"


def ask(server, turn, model="bundled", **more):
    return post(server.url, body(model, turn, **more))


def test_another_model(server, scene):
    assert refusal(ask(server, content(QUESTION, scene), model="gpt-5"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize(("method", "words"), [("typo", "grid"), ("fastv", "running model")])
def test_a_method_that_cannot_be_used(server, scene, method, words):
    assert words in refusal(ask(server, content(QUESTION, scene), method=method), 400)["message"]


@pytest.mark.parametrize("keep", [0, -1, 0.0, 1.5, -0.1])
def test_a_keep_out_of_range(server, scene, keep):
    assert "keep" in refusal(ask(server, content(QUESTION, scene), keep=keep), 400)["message"]


@pytest.mark.parametrize(
    ("param", "value"), [("max_tokens", 2000), ("typo", 1), ("stream_options", {"include_usage": True})]
)
def test_a_field_is_named(server, scene, param, value):
    assert refusal(ask(server, content(QUESTION, scene), **{param: value}), 400)["param"] == param


def test_a_placeholder_in_a_question(server):
    assert "stands for an image" in refusal(ask(server, "<image> what"), 400)["message"]


def test_too_many_images(server, scene):
    assert refusal(ask(server, content(QUESTION, *[scene] * 17)), 400)["code"] == "too_many_images"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1:9/a.png"])
def test_no_file_and_no_address_is_opened(server, url):
    assert refusal(ask(server, content(QUESTION, url)), 400)["code"] == "remote_url"


def test_a_path_is_no_url(server):
    assert refusal(ask(server, content(QUESTION, "/etc/passwd")), 400)["param"] == "messages"


def test_data_of_another_type(server, scene):
    url = scene.replace("image/png", "text/html")
    assert refusal(ask(server, content(QUESTION, url)), 400)["code"] == "invalid_image"


def test_a_damaged_image(server):
    cut = data_url(to_file(Image.effect_noise((64, 64), 50))[:900])
    assert "damaged" in refusal(ask(server, content(QUESTION, cut)), 400)["message"]


def test_too_many_pixels(server):
    large = data_url(to_file(Image.new("1", (10_000, 5_001))))
    assert refusal(ask(server, content(QUESTION, large)), 413)["code"] == "image_too_large"


@pytest.mark.parametrize("count", [3000, 300_000])
def test_too_much_text(server, count):
    assert refusal(ask(server, "word " * count), 400)["code"] == "context_length_exceeded"


def test_too_many_tokens_of_images(server, scene):
    assert refusal(ask(server, content(QUESTION, *[scene] * 8)), 400)["code"] == "context_length_exceeded"


def test_a_body_of_another_type(server):
    response = post(server.url, content=b"{}", headers={"Content-Type": "text/plain"})
    assert "JSON" in refusal(response, 415)["message"]


def test_a_body_that_is_not_json(server):
    assert refusal(post(server.url, content=b"{"), 400)["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("path", "status"), [("/", 404), ("/v1/chat/completions", 405), ("/v1/models/other", 404), ("/docs", 404)]
)
def test_unknown_paths_and_methods(server, path, status):
    error = refusal(get(f"{server.url}{path}"), status)
    assert path != "/v1/models/other" or error["code"] == "model_not_found"


# -- limits --------------------------------------------------------------------------------------------------------


def test_bodies_that_are_too_large(bundled):
    app = make_app(bundled, ServeSettings(limits=ServeLimits(body=10_000)))
    with running_app(app) as server:
        assert refusal(post(server.url, content=b"x" * 10_001), 413)["code"] == "body_too_large"
        parts = (b"x" * 1000 for _ in range(11))  # chunked, without a Content-Length
        assert refusal(post(server.url, content=parts), 413)["code"] == "body_too_large"
        assert post(server.url, body("bundled", "how many?")).status_code == 200


def test_a_body_that_does_not_arrive(bundled, monkeypatch):
    """Half a body, then nothing: the response comes although the client waits for it with the rest."""
    monkeypatch.setattr(transport, "READ_SECONDS", 0.2)
    with (
        running_app(make_app(bundled, ServeSettings())) as server,
        open_request(server.url, body("bundled", "how many?"), part=0.5) as connection,
        connection.makefile("rb") as lines,
    ):
        assert b" 408 " in lines.readline()
        length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length"))
        assert next(line for line in lines if not line.strip())  # the end of the headers
        response = httpx.Response(408, content=lines.read(length))
    assert "within 0.2 seconds" in refusal(response, 408)["message"]


@pytest.fixture(scope="module")
def limited(bundled):
    """The bundled model with low limits, and nothing pruned."""
    limits = ServeLimits(pixels=100 * 100, images=1, prompt=600, new=2)
    with running_app(make_app(bundled, ServeSettings(keep=1.0, limits=limits))) as server:
        yield server


SMALL = data_url(to_file(Image.new("RGB", (100, 100), "red")))


def test_the_limit_of_new_tokens(limited):
    answer = post(limited.url, body("bundled", content("what", SMALL))).json()
    assert answer["usage"]["completion_tokens"] <= 2
    assert refusal(post(limited.url, body("bundled", "what", max_tokens=3)), 400)


def test_the_limit_of_pixels(limited, scene):
    assert refusal(post(limited.url, body("bundled", content("what", scene))), 413)


def test_the_limit_of_images(limited):
    assert refusal(post(limited.url, body("bundled", content("what", SMALL, SMALL))), 400)


def test_the_limit_of_prompt_tokens(limited):
    error = refusal(post(limited.url, body("bundled", content("what " * 100, SMALL))), 400)
    assert error["code"] == "context_length_exceeded"
