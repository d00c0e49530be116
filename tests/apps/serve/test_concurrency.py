"""Full queues, clients that disconnect, and failures inside, over real HTTP in this process."""

import gc
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from PIL import Image
from transformers import Cache

from foveate.apps.serve.app import make_app
from foveate.apps.serve.chat import ChatTask
from foveate.apps.serve.settings import ServeLimits, ServeSettings
from foveate.pipeline.report import PrunedInputs
from served import (
    PATIENCE,
    body,
    busy,
    content,
    data_url,
    get,
    open_request,
    paused_model,
    post,
    read_metrics,
    refusal,
    running_app,
    to_file,
    wait_for,
)  # fmt: skip

# -- a full queue --------------------------------------------------------------------------------------------------


def test_a_full_queue(bundled):
    app = make_app(bundled, ServeSettings(limits=ServeLimits(waiting=1)))
    with running_app(app) as server, ThreadPoolExecutor(4) as pool:
        request = body("bundled", "how many?")
        with busy(server, app.state.worker) as gate:
            waiting = pool.submit(post, server.url, request)
            wait_for(lambda: app.state.worker.count_jobs() == (1, 1))
            response = post(server.url, request)
            assert refusal(response, 503)["code"] == "busy"
            assert int(response.headers["Retry-After"]) >= 1
            assert get(f"{server.url}/health").status_code == 200  # while the model works
            metrics = read_metrics(server.url)
            assert (metrics["foveate_requests_running",], metrics["foveate_requests_waiting",]) == (1, 1)
            gate.set()
            assert waiting.result().status_code == 200


def test_the_stock_client_tries_again(bundled):
    """The model is free from the first refusal on."""
    app = make_app(bundled, ServeSettings(limits=ServeLimits(waiting=0)))
    with running_app(app) as server, busy(server, app.state.worker) as gate:
        statuses = []

        def release(response):
            statuses.append(response.status_code)
            gate.set()
            wait_for(lambda: app.state.worker.count_jobs() == (0, 0))

        with (
            httpx.Client(event_hooks={"response": [release]}, timeout=PATIENCE, trust_env=False) as transport,
            openai.OpenAI(
                base_url=f"{server.url}/v1", api_key="a", max_retries=3, timeout=PATIENCE, http_client=transport
            ) as client,
        ):
            assert client.chat.completions.create(**body("bundled", "how many?")).choices
        assert statuses == [503, 200]


# -- clients that disconnect ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_it_waits(bundled, stream):
    app = make_app(bundled, ServeSettings(limits=ServeLimits(waiting=1)))
    with running_app(app) as server:
        request = body("bundled", "how many?", stream=stream)
        with busy(server, app.state.worker) as gate:
            with open_request(server.url, request):
                wait_for(lambda: app.state.worker.count_jobs() == (1, 1))
            wait_for(lambda: app.state.worker.count_jobs() == (1, 0))  # its place in the queue is free
            gate.set()
        assert post(server.url, request).status_code == 200
        wait_for(lambda: read_metrics(server.url).get(("foveate_requests_total", "499")) == 1)


def test_requests_of_clients_that_left_are_freed(bundled):
    """While the model is busy, images of clients that left take no memory."""
    app = make_app(bundled, ServeSettings(limits=ServeLimits(waiting=1)))
    noise = data_url(to_file(Image.effect_noise((1000, 1000), 100)))
    with running_app(app) as server, busy(server, app.state.worker):
        for _ in range(5):
            with open_request(server.url, body("bundled", content("what", noise))):
                wait_for(lambda: app.state.worker.count_jobs() == (1, 1))
            wait_for(lambda: app.state.worker.count_jobs() == (1, 0))
        wait_for(lambda: gc.collect() >= 0 and not any(type(one) is ChatTask for one in gc.get_objects()))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_during_an_answer(tiny, stream):
    """The model, which would go on for 400 tokens, stops at the next one."""
    app = make_app(tiny, ServeSettings())
    request = body(tiny.name, "star", stream=stream, max_tokens=400)
    with paused_model(tiny.model, 5) as pause:
        with running_app(app) as server:
            with open_request(server.url, request) as connection:
                assert pause.reached.wait(PATIENCE)
                if stream:
                    assert connection.recv(100).startswith(b"HTTP/1.1 200")
            wait_for(lambda: app.state.worker.count_jobs() == (0, 0))
            wait_for(lambda: read_metrics(server.url).get(("foveate_requests_total", "499")) == 1)
            pause.release.set()
        assert len(pause.steps) == 5


def test_a_client_that_leaves_a_conversation_frees_it(tiny):
    """Its prompt, its KV cache and its place: what stays are the encoded images, which the next request uses."""
    urls = [data_url(to_file(Image.effect_noise((64, 64), 50 + number))) for number in range(2)]
    turns = [("user", content("star", urls[0])), ("assistant", "red"), ("user", content("circle", urls[1]))]
    messages = [{"role": role, "content": text} for role, text in turns]
    request = {"model": tiny.name, "messages": messages}
    with running_app(make_app(tiny, ServeSettings())) as stayed:
        assert post(stayed.url, {**request, "max_tokens": 2}).status_code == 200
        expected = read_metrics(stayed.url)["foveate_image_cache_bytes",]
    app = make_app(tiny, ServeSettings())
    with paused_model(tiny.model, 5) as pause, running_app(app) as server:
        with open_request(server.url, {**request, "stream": True, "max_tokens": 400}) as connection:
            assert pause.reached.wait(PATIENCE)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            assert any(issubclass(type(one), Cache) for one in gc.get_objects())
        pause.release.set()
        wait_for(lambda: read_metrics(server.url).get(("foveate_requests_total", "499")) == 1)
        wait_for(lambda: app.state.worker.count_jobs() == (0, 0))
        held = (ChatTask, PrunedInputs, Cache)
        wait_for(lambda: gc.collect() >= 0 and not any(issubclass(type(one), held) for one in gc.get_objects()))
        assert read_metrics(server.url)["foveate_image_cache_bytes",] == expected
        answer = post(server.url, {**request, "max_tokens": 2}).json()
        assert answer["foveate"]["reused"] == 2


# -- failures inside -----------------------------------------------------------------------------------------------


@pytest.fixture
def broken(bundled, monkeypatch):
    """A server whose model fails."""

    def fail(*_, **__):
        raise RuntimeError("secret path /root/model")

    with running_app(make_app(bundled, ServeSettings())) as server:
        monkeypatch.setattr(bundled.model, "generate", fail)
        yield server


def test_a_failure_is_reported_without_details(broken):
    response = post(broken.url, body("bundled", "how many?"))
    assert refusal(response, 500)["code"] == "internal_error"
    assert "secret" not in response.text


def test_a_failure_of_the_encoder_is_not_the_client_s(bundled, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("secret path /root/model")

    with running_app(make_app(bundled, ServeSettings())) as server:
        monkeypatch.setattr(bundled.model.model.vision_tower, "forward", fail)
        image = data_url(to_file(Image.new("RGB", (32, 32))))
        response = post(server.url, body("bundled", content("how many?", image)))
    assert refusal(response, 500)["code"] == "internal_error"
    assert "secret" not in response.text


def test_a_failure_is_the_last_event_of_a_stream(broken):
    stream = post(broken.url, body("bundled", "how many?", stream=True))
    last = json.loads(stream.text.strip().splitlines()[-1].removeprefix("data: "))
    assert last["error"]["code"] == "internal_error"


def test_the_stock_client_raises_a_failure_of_a_stream(broken):
    client = openai.OpenAI(base_url=f"{broken.url}/v1", api_key="a", max_retries=0, timeout=PATIENCE)
    with client, pytest.raises(openai.APIError, match="its log says why"):
        list(client.chat.completions.create(**body("bundled", "how many?", stream=True)))


def test_failures_are_counted_and_the_server_goes_on(broken, monkeypatch):
    for stream in (False, True, True):
        post(broken.url, body("bundled", "how many?", stream=stream))
    assert read_metrics(broken.url)["foveate_requests_total", "500"] == 3
    monkeypatch.undo()
    assert post(broken.url, body("bundled", "how many?")).status_code == 200
