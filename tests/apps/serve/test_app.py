"""The application as a client sees it, over real HTTP in this process."""

import gc
import json
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import torch
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

import foveate
from foveate.apps.serve import http
from foveate.apps.serve.app import make_app
from foveate.apps.serve.chat import Chat
from foveate.apps.serve.settings import Limits, Settings
from foveate.runtime.conversation import generate_answers, make_chat_inputs, make_inputs
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from served import blocked, body, content, data_url, packed, post, running, wait_for
from tiny import tiny_folder

PICTURE = draw_scene(sample_scene(0, 3))
QUESTION = "what color is the star?"
KEYS = {"id", "object", "created", "model", "choices", "usage", "foveate"}


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def figures(url):
    """Every sample of /metrics, by name and labels."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def refused(answer, status):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    return error


# -- the stock client ----------------------------------------------------------------------------------------------


def test_the_stock_client(client, bundled, scene):
    found = client.chat.completions.create(**body("bundled", content(QUESTION, scene)))
    inputs = make_inputs(bundled, [PICTURE], [QUESTION])
    with torch.no_grad():
        short = foveate.prune_inputs(bundled.model, inputs, keep=0.1)
        assert found.choices[0].message.content.strip() == generate_answers(bundled, short, 20)[0]
    assert found.choices[0].finish_reason == "stop"
    assert found.usage.prompt_tokens == short["input_ids"].shape[1] == inputs["input_ids"].shape[1] - 576 + 58
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert (found.foveate["kept"], found.foveate["total"]) == ([58], [576])
    assert [card.id for card in client.models.list()] == ["bundled"]
    assert client.models.retrieve("bundled").id == "bundled"


@pytest.mark.parametrize("usage", [False, True])
def test_streaming(client, scene, usage):
    asked = body("bundled", content("describe the picture", scene), max_completion_tokens=12)
    whole = client.chat.completions.create(**asked)
    options = {"stream_options": {"include_usage": True}} if usage else {}
    with client.chat.completions.create(**asked, stream=True, **options) as stream:
        pieces = list(stream)
    assert pieces[0].choices[0].delta.role == "assistant"
    told = [piece.choices[0] for piece in pieces if piece.choices]
    assert "".join(choice.delta.content or "" for choice in told) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in told][-1] == whole.choices[0].finish_reason
    assert len({piece.id for piece in pieces}) == 1
    usages = [piece.usage for piece in pieces if piece.usage]
    assert usages == ([whole.usage] if usage else [])


def test_pieces_come_while_the_model_writes(server, bundled, scene):
    """The first piece is here while the model is still held at the second token."""
    gate, calls = threading.Event(), []

    def hold(_module, _arguments):
        calls.append(1)
        if len(calls) == 3:
            gate.wait(20)

    hook = bundled.model.register_forward_pre_hook(hold)
    try:
        asked = body("bundled", content("describe the picture", scene), stream=True, max_tokens=8)
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=asked, timeout=30, trust_env=False) as got:
            lines = (line for line in got.iter_lines() if line.startswith("data: {"))
            first = [json.loads(next(lines)[6:])["choices"][0]["delta"] for _ in range(2)]
            assert first[1]["content"]
            assert not gate.is_set()
            gate.set()
            assert len(list(lines)) > 1
    finally:
        gate.set()
        hook.remove()


def test_a_request_may_carry_keep_and_method(client, server, bundled, scene):
    for keep, method in ((20, "divprune"), (0.5, "mmtok"), (1.0, "foveate"), (1, "grid")):
        more = {"keep": keep, "method": method, "positions": "compact"}
        found = client.chat.completions.create(**body("bundled", content(QUESTION, scene)), extra_body=more)
        inputs = make_inputs(bundled, [PICTURE], [QUESTION])
        with torch.no_grad():
            short = foveate.prune_inputs(bundled.model, inputs, **more)
            assert found.choices[0].message.content.strip() == generate_answers(bundled, short, 20)[0]
        assert found.foveate["kept"] == [len(short.report.kept[0])]
        assert found.foveate["method"] == method


def test_several_turns_and_pictures(client, bundled, scene):
    """Words, a picture, an answer as the client got it, another question: each turn chooses for itself."""
    talk = [{"role": "user", "content": content(QUESTION, scene)}]
    first = client.chat.completions.create(model="bundled", messages=talk, temperature=0)
    talk += [first.choices[0].message, {"role": "user", "content": "how many circles are there?"}]
    second = client.chat.completions.create(model="bundled", messages=talk, temperature=0)
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": [{"type": "text", "text": first.choices[0].message.content}]},
        {"role": "user", "content": [{"type": "text", "text": "how many circles are there?"}]},
    ]
    inputs = make_chat_inputs(bundled, turns, [PICTURE])
    with torch.no_grad():
        short = foveate.prune_inputs(bundled.model, inputs, keep=0.1)
        assert second.choices[0].message.content.strip() == generate_answers(bundled, short, 20)[0]
    assert second.usage.prompt_tokens == short["input_ids"].shape[1]
    assert second.foveate["kept"] == [58]


def test_words_without_a_picture_and_a_picture_without_words(client, scene):
    words = client.chat.completions.create(**body("bundled", "how many?", max_tokens=3))
    assert (words.foveate["kept"], words.foveate["total"]) == ([], [])
    assert words.foveate["notes"] == ["No picture: nothing was pruned."]
    mute = client.chat.completions.create(**body("bundled", content("", scene), max_tokens=3))
    assert mute.foveate["kept"] == [58]
    assert "has no question" in mute.foveate["notes"][0]


def test_notes(client, scene):
    shown = content(QUESTION, scene)
    shown[0]["image_url"]["detail"] = "low"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = client.chat.completions.create(**body("bundled", shown), extra_body={"keep": 9999})
    assert found.foveate["notes"] == [
        "detail='low' has no effect here: lower keep instead.",
        "keep=9999 keeps all: the image has only 576 visual tokens.",
    ]


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
def test_other_families(model_type, tmp_path, scene):
    """Pictures of two sizes in two turns, and the same again as a stream."""
    with quiet():
        loaded = load(str(tiny_folder(model_type, tmp_path)))
    other = Image.new("RGB", (90, 40), "red")
    talk = [
        {"role": "user", "content": content("what", scene)},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": content("how many", data_url(packed(other)))},
    ]
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many"}]},
    ]
    with torch.no_grad():
        inputs = make_chat_inputs(loaded, turns, [PICTURE, other])
        short = foveate.prune_inputs(loaded.model, inputs, keep=0.3, method="mmtok")
        want = generate_answers(loaded, short, 9)[0]
    asked = {"model": loaded.name, "messages": talk, "max_tokens": 9, "temperature": 0, "keep": 0.3, "method": "mmtok"}
    with running(make_app(loaded, Settings())) as server:
        found = post(server.url, asked).json()
        lines = post(server.url, {**asked, "stream": True}).text.split("\n\n")[:-2]
    assert found["choices"][0]["message"]["content"].strip() == want
    told = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") or "" for line in lines]
    assert "".join(told).strip() == want
    assert found["foveate"]["kept"] == [len(kept) for kept in short.report.kept]
    assert found["usage"]["prompt_tokens"] == short["input_ids"].shape[1]


# -- refusals ------------------------------------------------------------------------------------------------------


def test_refusals(server, scene):
    def ask(model="bundled", **more):
        return post(server.url, body(model, more.pop("turn", content(QUESTION, scene)), **more))

    assert refused(ask("gpt-5"), 404)["code"] == "model_not_found"
    assert "grid" in refused(ask(method="typo"), 400)["message"]
    assert "running model" in refused(ask(method="fastv"), 400)["message"]
    for keep in (0, -1, 0.0, 1.5, -0.1):
        assert "keep" in refused(ask(keep=keep), 400)["message"]
    assert refused(ask(max_tokens=2000), 400)["param"] == "max_tokens"
    assert "stands for an image" in refused(ask(turn="<image> what"), 400)["message"]
    assert refused(ask(turn=content(QUESTION, *[scene] * 17)), 400)["code"] == "too_many_images"
    assert refused(ask(turn=content(QUESTION, "file:///etc/passwd")), 400)["code"] == "remote_url"
    assert refused(ask(turn=content(QUESTION, "http://127.0.0.1:9/a.png")), 400)["code"] == "remote_url"
    assert refused(ask(turn=content(QUESTION, "/etc/passwd")), 400)["param"] == "messages"
    assert refused(ask(turn=content(QUESTION, scene.replace("image/png", "text/html"))), 400)["code"] == "invalid_image"
    cut = data_url(packed(Image.effect_noise((64, 64), 50))[:900])
    assert "damaged" in refused(ask(turn=content(QUESTION, cut)), 400)["message"]
    large = data_url(packed(Image.new("1", (10_000, 5_001))))
    assert refused(ask(turn=content(QUESTION, large)), 413)["code"] == "image_too_large"
    for words in ("word " * 3000, "word " * 300_000):
        assert refused(ask(turn=words), 400)["code"] == "context_length_exceeded"
    assert "JSON" in refused(post(server.url, content=b"{}", headers={"Content-Type": "text/plain"}), 415)["message"]
    assert refused(ask(turn=content(QUESTION, *[scene] * 8)), 400)["code"] == "context_length_exceeded"
    assert refused(ask(typo=1), 400)["param"] == "typo"
    assert refused(ask(stream_options={"include_usage": True}), 400)["param"] == "stream_options"
    for first, second in ((1, 9), (9, 1)):  # both hold
        both = ask(turn="how many?", max_tokens=first, max_completion_tokens=second).json()
        assert both["usage"]["completion_tokens"] == 1
    assert refused(post(server.url, content=b"{"), 400)["code"] == "invalid_json"
    assert ask().json()["choices"][0]["message"]["content"] == " yellow"  # and it goes on


def test_compact_positions_need_less_room(server, scene):
    """Eight pictures pass the model's last place; a tenth of each, numbered anew, does not."""
    turn = content(QUESTION, *[scene] * 8)
    assert post(server.url, body("bundled", turn, positions="compact")).status_code == 200


def test_paths_and_methods_that_are_not(server):
    assert refused(httpx.get(f"{server.url}/", trust_env=False), 404)
    assert refused(httpx.get(f"{server.url}/v1/chat/completions", trust_env=False), 405)
    assert refused(httpx.get(f"{server.url}/v1/models/other", trust_env=False), 404)["code"] == "model_not_found"
    assert refused(httpx.get(f"{server.url}/docs", trust_env=False), 404)


def test_bodies_that_are_too_large(bundled, scene):
    app = make_app(bundled, Settings(limits=Limits(body=10_000)))
    with running(app) as server:
        assert refused(post(server.url, content=b"x" * 10_001), 413)["code"] == "body_too_large"
        parts = (b"x" * 1000 for _ in range(11))  # chunked: its length is not told
        assert refused(post(server.url, content=parts), 413)["code"] == "body_too_large"
        assert post(server.url, body("bundled", "how many?")).status_code == 200


def test_a_body_that_does_not_come(bundled, monkeypatch):
    monkeypatch.setattr(http, "READ_SECONDS", 0.2)

    def slow():
        yield b"{"
        threading.Event().wait(1)
        yield b"}"

    with running(make_app(bundled, Settings())) as server:
        assert "within 0.2 seconds" in refused(post(server.url, content=slow()), 408)["message"]


def test_other_limits(bundled, scene):
    limits = Limits(pixels=100 * 100, images=1, prompt=600, new=2)
    with running(make_app(bundled, Settings(keep=1.0, limits=limits))) as server:
        small = data_url(packed(Image.new("RGB", (100, 100), "red")))
        fits = post(server.url, body("bundled", content("what", small))).json()
        assert fits["usage"]["completion_tokens"] <= 2
        assert refused(post(server.url, body("bundled", content("what", scene))), 413)
        assert refused(post(server.url, body("bundled", content("what", small, small))), 400)
        assert refused(post(server.url, body("bundled", content("what " * 100, small))), 400)["code"] == (
            "context_length_exceeded"
        )
        assert refused(post(server.url, body("bundled", "what", max_tokens=3)), 400)


def test_a_key(bundled):
    with running(make_app(bundled, Settings(api_key="secret"))) as server:
        asked = body("bundled", "how many?")
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "secret"},
            {"Authorization": "Bearer"},
        ):
            answer = post(server.url, asked, headers=headers)
            assert refused(answer, 401)["code"] == "invalid_api_key"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert httpx.get(f"{server.url}/v1/models", trust_env=False).status_code == 401
        assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret") as client:
            assert client.chat.completions.create(**asked).choices


# -- at once -------------------------------------------------------------------------------------------------------


def test_a_full_queue(bundled):
    app = make_app(bundled, Settings(limits=Limits(waiting=1)))
    with running(app) as server, ThreadPoolExecutor(4) as pool:
        asked = body("bundled", "how many?")
        with blocked(server, app.state.worker) as gate:
            waits = pool.submit(post, server.url, asked)
            wait_for(lambda: app.state.worker.load() == (1, 1))
            answer = post(server.url, asked)
            assert refused(answer, 503)["code"] == "busy"
            assert int(answer.headers["Retry-After"]) >= 1
            assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200  # while the model works
            found = figures(server.url)
            assert (found["foveate_requests_running",], found["foveate_requests_waiting",]) == (1, 1)
            gate.set()
            assert waits.result().status_code == 200


def test_the_stock_client_tries_again(bundled):
    app = make_app(bundled, Settings(limits=Limits(waiting=0)))
    with running(app) as server, blocked(server, app.state.worker) as gate:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="a", max_retries=3)
        threading.Timer(0.5, gate.set).start()
        with client:
            assert client.chat.completions.create(**body("bundled", "how many?")).choices


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_it_waits(bundled, stream):
    app = make_app(bundled, Settings(limits=Limits(waiting=1)))
    with running(app) as server:
        asked = body("bundled", "how many?", stream=stream)
        with blocked(server, app.state.worker) as gate:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{server.url}/v1/chat/completions", json=asked, timeout=0.5, trust_env=False)
            wait_for(lambda: app.state.worker.load() == (1, 0))  # its place in the queue is free
            gate.set()
        assert post(server.url, asked).status_code == 200
        wait_for(lambda: figures(server.url).get(("foveate_requests_total", "499")) == 1)


def test_what_clients_that_left_sent_is_not_kept(bundled):
    """While the model is busy, pictures of clients that gave up take no memory."""
    app = make_app(bundled, Settings(limits=Limits(waiting=1)))
    noise = data_url(packed(Image.effect_noise((1000, 1000), 100)))
    with running(app) as server, blocked(server, app.state.worker):

        def leave():
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{server.url}/v1/chat/completions", json=body("bundled", content("what", noise)), timeout=0.3,
                    trust_env=False,
                )  # fmt: skip
            wait_for(lambda: app.state.worker.load() == (1, 0))

        for _ in range(5):
            leave()
        wait_for(lambda: gc.collect() >= 0 and not any(type(one) is Chat for one in gc.get_objects()))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_on_the_way(tiny, stream):
    """The model, which would go on for 400 tokens, stops at the next one."""
    app, steps = make_app(tiny, Settings()), []

    def slow(_module, _arguments):
        steps.append(1)
        time.sleep(0.01)

    hook = tiny.model.register_forward_pre_hook(slow)
    try:
        with running(app) as server:
            asked = body(tiny.name, "star", stream=stream, max_tokens=400)
            where = {"url": f"{server.url}/v1/chat/completions", "json": asked, "timeout": 1, "trust_env": False}
            if stream:
                with httpx.stream("POST", **where) as answer:
                    assert next(answer.iter_raw()).startswith(b"data: ")
            else:
                with pytest.raises(httpx.ReadTimeout):
                    httpx.post(**where)
            wait_for(lambda: app.state.worker.load() == (0, 0))
            wait_for(lambda: figures(server.url).get(("foveate_requests_total", "499")) == 1)
        assert 0 < len(steps) < 300
    finally:
        hook.remove()


def test_a_failure_inside_is_told_without_its_details(bundled, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("secret path /root/model")

    with running(make_app(bundled, Settings())) as server:
        monkeypatch.setattr(bundled.model, "generate", broken)
        answer = post(server.url, body("bundled", "how many?"))
        assert refused(answer, 500)["code"] == "internal_error"
        assert "secret" not in answer.text
        stream = post(server.url, body("bundled", "how many?", stream=True))
        last = json.loads(stream.text.strip().splitlines()[-1].removeprefix("data: "))
        assert last["error"]["code"] == "internal_error"
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="a", max_retries=0)
        with client, pytest.raises(openai.APIError, match="its log says why"):
            list(client.chat.completions.create(**body("bundled", "how many?", stream=True)))
        assert figures(server.url)["foveate_requests_total", "500"] == 3
        monkeypatch.undo()
        assert post(server.url, body("bundled", "how many?")).status_code == 200


# -- figures -------------------------------------------------------------------------------------------------------


def test_metrics(bundled, scene):
    with running(make_app(bundled, Settings())) as server:
        found = [post(server.url, body("bundled", content(QUESTION, scene), keep=keep)).json() for keep in (10, 0.5)]
        found.append(post(server.url, body("bundled", "how many?")).json())
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        lines = post(server.url, body("bundled", "how many?", **stream)).text.split("\n\n")
        found.append(json.loads(lines[-3].removeprefix("data: ")))
        post(server.url, body("other", "how many?"))
        assert post(server.url, body("bundled", "how many? " * 1500)).status_code == 400  # is not read
        read = figures(server.url)
    assert read["foveate_requests_total", "200"] == 4
    assert ("foveate_requests_total", "499") not in read
    assert read["foveate_requests_total", "404"] == 1
    assert read["foveate_requests_total", "400"] == 1
    assert read["foveate_visual_tokens_total",] == 2 * 576
    assert read["foveate_kept_visual_tokens_total",] == 10 + 288
    assert read["foveate_prompt_tokens_total",] == sum(one["usage"]["prompt_tokens"] for one in found)
    assert read["foveate_completion_tokens_total",] == sum(one["usage"]["completion_tokens"] for one in found)
    for stage, name, count in (("select", "selection", 2), ("encode", "encode", 2), ("prefill", "prefill", 4)):
        assert read[f"foveate_{name}_seconds_count",] == count
        own = [one["foveate"]["seconds"][stage] for one in found[:3]][:count]
        assert read[f"foveate_{name}_seconds_sum",] >= sum(own) * (1 - 1e-6)
    assert read["process_resident_memory_bytes",] > 0
