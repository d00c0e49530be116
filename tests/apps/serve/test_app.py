"""The application's answers as a client sees them, over real HTTP in this process."""

import json
import warnings

import httpx
import openai
import pytest
import torch
from PIL import Image

import foveate
from foveate.apps.serve.app import make_app
from foveate.apps.serve.settings import ServeSettings
from foveate.models import family_of
from foveate.runtime.conversation import generate_answers, make_chat_inputs, make_inputs
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from served import (
    PATIENCE,
    body,
    content,
    data_url,
    get,
    paused_model,
    post,
    read_metrics,
    refusal,
    running_app,
    to_file,
)
from tiled import tiled_folder
from tiny import tiny_folder

IMAGE = draw_scene(sample_scene(0, 3))
QUESTION = "what color is the star?"


def pruned_answer(loaded, inputs, max_new_tokens=20, **options):
    """`prune_inputs` itself, and the answer from its inputs."""
    with torch.no_grad():
        pruned = foveate.prune_inputs(loaded.model, inputs, **options)
        return pruned, generate_answers(loaded, pruned, max_new_tokens)[0]


# -- the stock client ----------------------------------------------------------------------------------------------


def test_stock_client_gets_the_library_s_answer_and_counts(client, bundled, scene):
    result = client.chat.completions.create(**body("bundled", content(QUESTION, scene)))
    inputs = make_inputs(bundled, [IMAGE], [QUESTION])
    pruned, answer = pruned_answer(bundled, inputs, keep=0.1)
    assert result.choices[0].message.content.strip() == answer
    assert result.choices[0].finish_reason == "stop"
    assert result.usage.prompt_tokens == pruned["input_ids"].shape[1] == inputs["input_ids"].shape[1] - 576 + 58
    assert result.usage.total_tokens == result.usage.prompt_tokens + result.usage.completion_tokens
    assert (result.foveate["kept"], result.foveate["total"]) == ([58], [576])


def test_stock_client_lists_the_model(client):
    assert [card.id for card in client.models.list()] == ["bundled"]
    assert client.models.retrieve("bundled").id == "bundled"


@pytest.mark.parametrize("usage", [False, True])
def test_streaming(client, scene, usage):
    request = body("bundled", content("describe the picture", scene), max_completion_tokens=12)
    whole = client.chat.completions.create(**request)
    options = {"stream_options": {"include_usage": True}} if usage else {}
    with client.chat.completions.create(**request, stream=True, **options) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in choices][-1] == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert usages == ([whole.usage] if usage else [])


def test_pieces_arrive_while_the_model_generates(server, bundled, scene):
    """The first piece arrives although the model is paused at the second token."""
    request = body("bundled", content("describe the picture", scene), stream=True, max_tokens=8)
    path = f"{server.url}/v1/chat/completions"
    with (
        paused_model(bundled.model, 3) as pause,
        httpx.stream("POST", path, json=request, timeout=PATIENCE, trust_env=False) as response,
    ):
        lines = (line for line in response.iter_lines() if line.startswith("data: {"))
        first = [json.loads(next(lines)[6:])["choices"][0]["delta"] for _ in range(2)]
        assert first[1]["content"]
        assert not pause.release.is_set()
        pause.release.set()
        assert len(list(lines)) > 1


@pytest.mark.parametrize(("keep", "method"), [(20, "divprune"), (0.5, "mmtok"), (1.0, "foveate"), (1, "grid")])
def test_a_request_may_set_keep_and_method(client, bundled, scene, keep, method):
    options = {"keep": keep, "method": method, "positions": "compact"}
    result = client.chat.completions.create(**body("bundled", content(QUESTION, scene)), extra_body=options)
    pruned, answer = pruned_answer(bundled, make_inputs(bundled, [IMAGE], [QUESTION]), **options)
    assert result.choices[0].message.content.strip() == answer
    assert result.foveate["kept"] == [len(pruned.report.items[0].kept)]
    assert result.foveate["method"] == method


def test_a_later_turn_selects_for_its_own_question(client, bundled, scene):
    """Text, an image, an answer as the client received it, and another question."""
    messages = [{"role": "user", "content": content(QUESTION, scene)}]
    first = client.chat.completions.create(model="bundled", messages=messages, temperature=0)
    messages += [first.choices[0].message, {"role": "user", "content": "how many circles are there?"}]
    second = client.chat.completions.create(model="bundled", messages=messages, temperature=0)
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": [{"type": "text", "text": first.choices[0].message.content}]},
        {"role": "user", "content": [{"type": "text", "text": "how many circles are there?"}]},
    ]
    pruned, answer = pruned_answer(bundled, make_chat_inputs(bundled, turns, [IMAGE]), keep=0.1)
    assert second.choices[0].message.content.strip() == answer
    assert second.usage.prompt_tokens == pruned["input_ids"].shape[1]
    assert second.foveate["kept"] == [58]


def test_text_without_an_image(client):
    result = client.chat.completions.create(**body("bundled", "how many?", max_tokens=3))
    assert (result.foveate["kept"], result.foveate["total"]) == ([], [])
    assert result.foveate["notes"] == ["No image: nothing was pruned."]


def test_an_image_without_text(client, scene):
    result = client.chat.completions.create(**body("bundled", content("", scene), max_tokens=3))
    assert result.foveate["kept"] == [58]
    assert "has no question" in result.foveate["notes"][0]


def test_notes_are_in_the_answer_and_not_warned_of(client, scene):
    turn = content(QUESTION, scene)
    turn[0]["image_url"]["detail"] = "low"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = client.chat.completions.create(**body("bundled", turn), extra_body={"keep": 9999})
    assert result.foveate["notes"] == [
        "detail='low' has no effect here: lower keep instead.",
        "keep=9999 keeps all: the image has only 576 visual tokens.",
    ]


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
def test_other_families_in_one_piece_and_as_a_stream(model_type, tmp_path, scene):
    """Images of two sizes in two turns."""
    with quiet():
        loaded = load(str(tiny_folder(model_type, tmp_path)))
    other = Image.new("RGB", (90, 40), "red")
    messages = [
        {"role": "user", "content": content("what", scene)},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": content("how many", data_url(to_file(other)))},
    ]
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many"}]},
    ]
    options = {"keep": 0.3, "method": "mmtok"}
    with torch.no_grad():
        inputs = make_chat_inputs(loaded, turns, [IMAGE, other])
    pruned, answer = pruned_answer(loaded, inputs, 9, **options)
    request = {"model": loaded.name, "messages": messages, "max_tokens": 9, "temperature": 0, **options}
    with running_app(make_app(loaded, ServeSettings())) as server:
        result = post(server.url, request).json()
        lines = post(server.url, {**request, "stream": True}).text.split("\n\n")[:-2]
    assert result["choices"][0]["message"]["content"].strip() == answer
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") or "" for line in lines]
    assert "".join(deltas).strip() == answer
    assert result["foveate"]["kept"] == [len(item.kept) for item in pruned.report.items]
    assert result["usage"]["prompt_tokens"] == pruned["input_ids"].shape[1]


@pytest.mark.parametrize("name", ["llava_next", "smolvlm"])
def test_an_image_of_several_tiles_counts_as_one(name, tmp_path):
    """A number of tokens is that of the whole image, and the counts are those of images."""
    with quiet():
        loaded = load(str(tiled_folder(name, tmp_path)))
    images = [Image.effect_noise(size, 90).convert("RGB") for size in ((96, 64), (30, 30))]
    turn = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "what color is it"}]
    inputs = make_chat_inputs(loaded, [{"role": "user", "content": turn}], images)
    pruned, answer = pruned_answer(loaded, inputs, 5, keep=9)
    request = body(loaded.name, content("what color is it", *(data_url(to_file(image)) for image in images)))
    with running_app(make_app(loaded, ServeSettings(keep=9))) as server:
        result = post(server.url, {**request, "max_tokens": 5}).json()
        metrics = read_metrics(server.url)
    assert result["choices"][0]["message"]["content"].strip() == answer
    kept, total = result["foveate"]["kept"], result["foveate"]["total"]
    assert kept == [len(item.kept) for item in pruned.report.items]
    assert len(kept) == 2
    assert sum(total) == family_of(loaded.model).placeholders(loaded.model.config, inputs).sum()
    assert result["usage"]["prompt_tokens_details"]["image_tokens"] == sum(kept)
    assert metrics["foveate_kept_visual_tokens_total",] == sum(kept)
    assert metrics["foveate_visual_tokens_total",] == sum(total)


def test_compact_positions_need_less_room(server, scene):
    """Eight images go beyond the model's last position; a tenth of each, numbered anew, fits."""
    turn = content(QUESTION, *[scene] * 8)
    assert post(server.url, body("bundled", turn, positions="compact")).status_code == 200


@pytest.mark.parametrize(("max_tokens", "max_completion_tokens"), [(1, 9), (9, 1)])
def test_both_limits_on_an_answer_hold(server, max_tokens, max_completion_tokens):
    limits = {"max_tokens": max_tokens, "max_completion_tokens": max_completion_tokens}
    assert post(server.url, body("bundled", "how many?", **limits)).json()["usage"]["completion_tokens"] == 1


# -- access --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(bundled):
    """The bundled model behind a key."""
    with running_app(make_app(bundled, ServeSettings(api_key="secret"))) as server:
        yield server


@pytest.mark.parametrize("header", [None, "Bearer wrong", "secret", "Bearer"])
def test_a_wrong_key_is_refused(locked, header):
    headers = {} if header is None else {"Authorization": header}
    response = post(locked.url, body("bundled", "how many?"), headers=headers)
    assert refusal(response, 401)["code"] == "invalid_api_key"
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_protects_the_models_but_not_the_health_check(locked):
    assert get(f"{locked.url}/v1/models").status_code == 401
    assert get(f"{locked.url}/health").status_code == 200


def test_the_right_key_is_accepted(locked):
    with openai.OpenAI(base_url=f"{locked.url}/v1", api_key="secret", timeout=PATIENCE) as client:
        assert client.chat.completions.create(**body("bundled", "how many?")).choices


# -- metrics -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(bundled, scene):
    """Four answers (two with an image, the last one streamed) and the metrics after them and two refused requests."""
    with running_app(make_app(bundled, ServeSettings())) as server:
        answers = [post(server.url, body("bundled", content(QUESTION, scene), keep=keep)).json() for keep in (10, 0.5)]
        answers.append(post(server.url, body("bundled", "how many?")).json())
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        lines = post(server.url, body("bundled", "how many?", **stream)).text.split("\n\n")
        answers.append(json.loads(lines[-3].removeprefix("data: ")))
        post(server.url, body("other", "how many?"))
        assert post(server.url, body("bundled", "how many? " * 1500)).status_code == 400  # the model does not read it
        return answers, read_metrics(server.url)


def test_metrics_count_requests_by_status(measured):
    _, metrics = measured
    assert metrics["foveate_requests_total", "200"] == 4
    assert ("foveate_requests_total", "499") not in metrics
    assert metrics["foveate_requests_total", "404"] == 1
    assert metrics["foveate_requests_total", "400"] == 1


def test_metrics_count_tokens(measured):
    answers, metrics = measured
    assert metrics["foveate_visual_tokens_total",] == 2 * 576
    assert metrics["foveate_kept_visual_tokens_total",] == 10 + 288
    for name in ("prompt_tokens", "completion_tokens"):
        assert metrics[f"foveate_{name}_total",] == sum(answer["usage"][name] for answer in answers)


@pytest.mark.parametrize(
    ("stage", "name", "count"), [("select", "selection", 2), ("encode", "encode", 2), ("prefill", "prefill", 4)]
)
def test_metrics_add_up_seconds(measured, stage, name, count):
    answers, metrics = measured
    assert metrics[f"foveate_{name}_seconds_count",] == count
    seconds = [answer["foveate"]["seconds"][stage] for answer in answers[:3]][:count]
    assert metrics[f"foveate_{name}_seconds_sum",] >= sum(seconds) * (1 - 1e-6)


def test_metrics_include_the_process(measured):
    assert measured[1]["process_resident_memory_bytes",] > 0
