"""Images that come again over HTTP: not encoded again, and answered as by a server that never saw them."""

import pytest
from pydantic import TypeAdapter

from foveate.apps.serve.app import make_app
from foveate.apps.serve.chat_response import ChatCompletion
from foveate.apps.serve.settings import ServeLimits, ServeSettings
from foveate.runtime.load import load
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from served import body, content, data_url, get, post, read_metrics, refusal, running_app, to_file

QUESTIONS = ("how many objects are there ?", "what color is the star ?", "what is the biggest thing ?")


@pytest.fixture(scope="module", params=["bundled", "bundled-qwen"])
def loaded(request):
    return load(request.param)


def scene(number, kind="PNG"):
    return data_url(to_file(draw_scene(sample_scene(4, number)), kind))


def serve(loaded, **limits):
    return running_app(make_app(loaded, ServeSettings(limits=ServeLimits(**limits))))


def ask(server, loaded, question, *urls, **more):
    response = post(server.url, body(loaded.name, content(question, *urls), **more))
    assert response.status_code == 200, response.text
    TypeAdapter(ChatCompletion).validate_python(response.json(), strict=True)
    return response.json()


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def test_further_questions_about_an_image(loaded):
    with serve(loaded) as server:
        answers = [ask(server, loaded, question, scene(0)) for question in QUESTIONS]
        assert [answer["foveate"]["reused"] for answer in answers] == [0, 1, 1]
        first, *later = (answer["foveate"]["seconds"]["encode"] for answer in answers)
        assert max(later) < first / 10
        metrics = read_metrics(server.url)
        assert metrics["foveate_reused_images_total",] == 2
        assert 0 < metrics["foveate_image_cache_bytes",] < 2**21
    for question, answer in zip(QUESTIONS, answers, strict=True):
        with serve(loaded) as fresh:
            again = ask(fresh, loaded, question, scene(0))
        assert text_of(again) == text_of(answer)
        assert again["foveate"]["kept"] == answer["foveate"]["kept"]


def test_turns_of_a_conversation(loaded):
    """The second turn brings another image; the third one asks about the first."""
    with serve(loaded) as server:
        messages, reused = [], []
        for question, *urls in ((QUESTIONS[0], scene(0)), (QUESTIONS[1], scene(1)), (QUESTIONS[2],)):
            messages.append({"role": "user", "content": content(question, *urls)})
            response = post(server.url, {"model": loaded.name, "temperature": 0, "messages": messages})
            assert response.status_code == 200, response.text
            reused.append(response.json()["foveate"]["reused"])
            messages.append({"role": "assistant", "content": text_of(response.json())})
        assert reused == [0, 1, 2]
    with serve(loaded) as fresh:
        request = {"model": loaded.name, "temperature": 0, "messages": messages[:-1]}
        assert text_of(post(fresh.url, request).json()) == messages[-1]["content"]


def test_another_file_is_another_image(loaded):
    with serve(loaded) as server:
        used = [ask(server, loaded, QUESTIONS[0], scene(0, kind))["foveate"]["reused"] for kind in ("PNG", "JPEG")]
        assert used == [0, 0]


def test_settings_of_a_request_choose_anew(loaded):
    with serve(loaded) as server:
        first = ask(server, loaded, QUESTIONS[0], scene(0), keep=20)
        second = ask(server, loaded, QUESTIONS[0], scene(0), keep=7, method="grid")
        assert (first["foveate"]["kept"], second["foveate"]["kept"], second["foveate"]["reused"]) == ([20], [7], 1)


def test_no_cache(loaded):
    with serve(loaded, cache=0) as server:
        assert [ask(server, loaded, QUESTIONS[0], scene(0))["foveate"]["reused"] for _ in range(2)] == [0, 0]
        assert read_metrics(server.url)["foveate_image_cache_bytes",] == 0


def test_many_images_stay_within_the_limit(loaded):
    with serve(loaded, cache=2**20) as server:
        for number in range(8):
            ask(server, loaded, QUESTIONS[0], scene(number), max_tokens=1)
            assert 0 < read_metrics(server.url)["foveate_image_cache_bytes",] <= 2**20


def test_limits_hold_for_known_images(loaded):
    """A prompt that is too long with its image is refused before and after the image is known."""
    with serve(loaded, prompt=200 if loaded.name == "bundled-qwen" else 600) as server:
        long = "how many " * 15 + "?"
        for question, status in ((long, 400), (QUESTIONS[0], 200), (long, 400), (QUESTIONS[0], 200)):
            response = post(server.url, body(loaded.name, content(question, scene(0))))
            assert response.status_code == status, response.text
        assert get(f"{server.url}/health").status_code == 200
        assert refusal(post(server.url, body(loaded.name, content(long, scene(0)))), 400)
