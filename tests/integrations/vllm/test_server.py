"""`foveate serve --engine vllm` as a client sees it: the OpenAI protocol, on the bundled model."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from foveate.runtime.load import locate
from integrations.vllm.models import make_clip, save_model
from integrations.vllm.server_process import VllmProcess

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

SCENE = Path(__file__).parents[3] / "examples" / "scene.png"
QUESTION = "what color is the star?"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server at keep=0.1."""
    process = VllmProcess(tmp_path_factory.mktemp("server") / "log")
    try:
        yield process.url
    finally:
        process.stop()


def post(server: str, body: object, path: str = "/v1/chat/completions") -> tuple[int, dict, dict]:
    """Status, JSON and headers of the answer."""
    request = urllib.request.Request(server + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def ask(
    server: str,
    question: str = QUESTION,
    *,
    with_image: bool = True,
    url: str = "",
    body: object = (),
    **settings: object,
) -> tuple[int, str, int]:
    """Status, answer or error, and the number of tokens of the prompt."""
    url = url or f"data:image/png;base64,{base64.b64encode(SCENE.read_bytes()).decode()}"
    part = {"type": "image_url", "image_url": {"url": url}}
    content = [*([part] if with_image else []), {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    request = {"model": "bundled", "max_tokens": 8, "temperature": 0, "messages": messages, **dict(body)}
    if settings:
        request["mm_processor_kwargs"] = {"foveate": settings}
    status, answer, _ = post(server, request)
    if status != 200:
        return status, answer["error"]["message"], 0
    return status, answer["choices"][0]["message"]["content"].strip(), answer["usage"]["prompt_tokens"]


@pytest.mark.heavy
def test_answers(server):
    """58 of the image's 576 tokens by the server's setting; a request may set another number."""
    text_tokens = ask(server, with_image=False)[2]
    for settings, kept in (({}, 58), ({"keep": 1.0}, 576), ({"keep": 40, "method": "divprune"}, 40)):
        status, answer, prompt = ask(server, **settings)
        assert (status, answer) == (200, "red")
        assert prompt - text_tokens == kept


@pytest.mark.heavy
def test_refusals(server):
    for settings, sentence in (
        ({"method": "clever"}, "There is no method 'clever'. Available: "),
        ({"keep": 0}, "keep=0 keeps no token: "),
        ({"keep": 1000}, "keep=1000 is more than the 576 tokens of the largest image: "),
        ({"method": "visionzip"}, "visionzip reads cls_attention and keys from inside the model, which vLLM does not"),
    ):
        status, message, _ = ask(server, **settings)
        assert status == 400
        assert message.startswith(sentence)
    assert ask(server)[:2] == (200, "red")


@pytest.mark.heavy
def test_fields_mean_what_they_mean_on_transformers(server):
    text_tokens = ask(server, with_image=False)[2]
    for body, kept in (({"keep": 40, "method": "divprune"}, 40), ({"keep": 1.0}, 576), ({"keep": None}, 58)):
        status, answer, prompt = ask(server, body=body)
        assert (status, answer) == (200, "red")
        assert prompt - text_tokens == kept
    for body, words in (
        ({"keep": True}, "keep=True is a bool"), ({"keep": 7.5}, "keep=7.5"), ({"method": "clever"}, "'clever'"),
        ({"max_tokens": True}, "max_tokens: "), ({"n": True}, "n: "), ({"stream": 1}, "stream: "),
        ({"kep": 0.1}, "kep: it has no effect here"), ({"stream_options": {"typo": 1}, "stream": True}, "typo: "),
    ):  # fmt: skip
        status, message, _ = ask(server, with_image=False, body=body)
        assert status == 400
        assert words in message
    for url in ("file:///etc/passwd", "FILE:///etc/passwd"):
        status, message, _ = ask(server, url=url)
        assert status == 400
        assert "opens no file" in message


@pytest.mark.heavy
def test_notes_and_other_paths(server):
    url = f"data:image/png;base64,{base64.b64encode(SCENE.read_bytes()).decode()}"
    part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    body = {"model": "bundled", "max_tokens": 2, "messages": [{"role": "user", "content": [part]}]}
    assert "detail='low' has no effect" in post(server, body)[2]["foveate-notes"]
    for path in ("/v1/completions", "/tokenize"):
        status, answer, _ = post(server, {**body, "prompt": "a", "keep": 0.1}, path)
        assert status == 400
        assert "keep has an effect at /v1/chat/completions alone" in answer["error"]["message"]
        assert post(server, {"model": "bundled", "prompt": "a"}, path)[0] == 200


def read_choices(server: str) -> dict[str, float]:
    """What vLLM's metrics say of the images so far."""
    with urllib.request.urlopen(f"{server}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counts = dict.fromkeys(("question", "picture", "whole"), 0.0)
    for line in lines:
        if line.startswith("foveate_choices_total"):
            counts[line.split('by="')[1].split('"')[0]] += float(line.split()[-1])
    return counts


@pytest.mark.heavy
def test_questions_that_share_an_image(server):
    before = read_choices(server)
    for question, reuse in ((QUESTION, "auto"), ("is there a circle?", "auto"), (QUESTION, "picture")):
        status, answer, prompt = ask(server, question, body={"reuse": reuse})
        assert (status, prompt - ask(server, question, with_image=False)[2]) == (200, 58)
        assert answer == ("red" if question == QUESTION else answer)
    after = read_choices(server)
    assert {name: after[name] - before[name] for name in after} == {"question": 1, "picture": 2, "whole": 0}
    assert "reuse='always' is unknown: use question, picture, auto." in ask(server, body={"reuse": "always"})[1]


@pytest.mark.heavy
def test_at_once(server):
    """Concurrent clients get the answers that they get alone."""
    questions = [QUESTION, "is there a circle?", "how many squares are there?", "what color is the circle?"]
    pairs = [(q, keep) for q in questions for keep in (0.05, 0.3, 1.0)]
    alone = [ask(server, q, keep=keep) for q, keep in pairs]
    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(lambda one: ask(server, one[0], keep=one[1]), pairs))
    assert together == alone


@pytest.mark.heavy
def test_the_benchmark_client_of_vllm(server, tmp_path):
    """It replays the requests of `benchmarks/replay.py`, with several questions about each image."""
    root, requests = Path(__file__).parents[3], tmp_path / "requests.jsonl"
    command = [sys.executable, root / "benchmarks" / "replay.py", "--images", "2", "--questions", "3"]
    subprocess.run([*command, "--out", requests], check=True)
    load = ("--num-prompts", "6", "--max-concurrency", "2", "--request-rate", "20", "--custom-output-len", "4")
    data = ("--dataset-name", "custom_image", "--dataset-path", requests, "--disable-shuffle")
    report = ("--save-result", "--result-dir", tmp_path, "--result-filename", "out.json", "--goodput", "ttft:600000")
    where = ("--backend", "openai-chat", "--base-url", server, "--endpoint", "/v1/chat/completions")
    client = [Path(sys.executable).with_name("vllm"), "bench", "serve", *where, "--model", "bundled"]
    options = ("--tokenizer", locate("bundled"), "--metric-percentiles", "50,95,99", *load, *data, *report)
    done = subprocess.run([*client, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["completed"], result["failed"]) == (6, 0)
    assert 0 < result["p50_ttft_ms"] <= result["p99_ttft_ms"]
    assert result["request_goodput"] == pytest.approx(result["request_throughput"])


def write_video(path: Path, frames: int) -> str:
    """A moving picture as a data URL."""
    cv2 = pytest.importorskip("cv2", reason="vLLM reads videos with OpenCV")
    clip = make_clip(1, frames, 96, 64)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 4.0, (96, 64))
    for frame in clip:
        writer.write(frame)
    writer.release()
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.mark.heavy
def test_videos(tmp_path):
    """Of eight frames --max-frames shows four: two layers of tokens, of which a request keeps some."""
    model = save_model("qwen2_5_vl", tmp_path / "model")
    url = write_video(tmp_path / "clip.mp4", 8)
    options = ("--model", str(model), "--keep", "0.5", "--max-frames", "4")
    process = VllmProcess(tmp_path / "log", None, *options)
    address = process.url
    try:

        def count_tokens(*parts: dict, **settings: object) -> int:
            content = [*parts, {"type": "text", "text": "how many circles are there"}]
            body = {
                "model": str(model),
                "max_tokens": 2,
                "messages": [{"role": "user", "content": content}],
                **settings,
            }
            status, answer, _ = post(address, body)
            assert status == 200, answer
            return answer["usage"]["prompt_tokens"]

        video = {"type": "video_url", "video_url": {"url": url}}
        marks = 2  # around the video
        words = count_tokens() + marks
        whole = count_tokens(video, keep=1.0) - words
        assert whole == 2 * 2 * 3  # moments of 56 x 84 pixels
        assert count_tokens(video) - words == whole // 2
        assert count_tokens(video, keep=5, method="vidcom2") - words == 5
        assert count_tokens(video, keep=5, reuse="auto") - words == 5
        assert read_choices(address) == {"question": 2, "picture": 1, "whole": 1}
        content = [{**video, "video_url": {"url": "file:///etc/passwd"}}]
        status, answer, _ = post(address, {"model": str(model), "messages": [{"role": "user", "content": content}]})
        assert status == 400
        assert "opens no file that a request names: send it as data:video/mp4" in answer["error"]["message"]
    finally:
        process.stop()
