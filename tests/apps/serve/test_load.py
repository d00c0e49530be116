"""A bounded load of good and wrong requests at once on a server process: its answers are those of an idle one."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from PIL import Image

from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from served import (
    EXIT_CODES,
    PATIENCE,
    body,
    bomb,
    content,
    data_url,
    open_request,
    post,
    read_metrics,
    serving,
    to_file,
    wait_for,
)  # fmt: skip

CLIENTS = 8
ROUNDS = 3
REQUESTS = 64  # a round
SCENES = [data_url(to_file(draw_scene(sample_scene(0, n)))) for n in range(4)]
QUESTIONS = (
    "what color is the star?",
    "how many circles are there?",
    "is there a red square?",
    "what does the sign say?",
)


def good_request(n: int) -> dict:
    """The n-th of the requests that have an answer."""
    pick = random.Random(n)
    urls = [pick.choice(SCENES) for _ in range(pick.choice((0, 1, 1, 1, 2)))]
    more = {"keep": pick.choice((0.05, 0.1, 58, 0.5)), "method": pick.choice(("foveate", "divprune", "cdpruner"))}
    return body("bundled", content(pick.choice(QUESTIONS), *urls), max_tokens=8, **more)


def wrong_requests() -> dict[str, tuple[int, object]]:
    """Requests that are refused, with their status."""
    url = SCENES[0]
    turn = content("what", url)
    return {
        "model": (404, body("gpt-5", turn)),
        "base64": (400, body("bundled", content("what", url[:-9] + "%%%"))),
        "mime": (400, body("bundled", content("what", url.replace("image/png", "text/html")))),
        "text": (400, body("bundled", content("what", data_url(b"hello")))),
        "cut": (400, body("bundled", content("what", data_url(to_file(Image.effect_noise((200, 200), 50))[:9000])))),
        "bomb": (413, body("bundled", content("what", data_url(bomb(20_000, 20_000))))),
        "100 megapixels": (413, body("bundled", content("what", data_url(to_file(Image.new("L", (10_000, 10_000))))))),
        "remote": (400, body("bundled", content("what", "http://127.0.0.1:9/a.png"))),
        "file": (400, body("bundled", content("what", "file:///etc/passwd"))),
        "keep": (400, body("bundled", turn, keep=7.5)),
        "empty": (400, {"model": "bundled", "messages": []}),
        "no json": (400, b'{"model": "bundled", "mess'),
        "too large": (413, b"x" * (20 * 2**20 + 1)),
    }


def leave(url: str, request: dict, how: str) -> None:
    """Send half of a request, or all of it and disconnect before the answer, or after a piece of it."""
    stream = how == "after a piece"
    with open_request(url, {**request, "stream": stream}, part=0.5 if how == "half" else 1.0) as connection:
        if stream:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


def send(url: str, n: int, quiet: dict[int, dict], refusals: dict) -> str:
    """Send the n-th request of a round and check its answer; returns the kind of the request."""
    kind = ("whole", "stream", "client", "whole", "wrong", "leave", "stream", "wrong")[n % 8]
    if kind == "wrong":
        status, request = refusals[list(refusals)[n // 4 % len(refusals)]]
        response = post(url, request) if isinstance(request, dict) else post(url, content=request)
        assert response.status_code == status, response.text
        assert response.json()["error"]["message"].endswith(".")
        return kind
    request = good_request(n)
    if kind == "leave":
        leave(url, request, ("half", "before", "after a piece")[n // 8 % 3])
    elif kind == "whole":
        assert post(url, request).json()["choices"] == quiet[n]["choices"]
    else:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="a", max_retries=0, timeout=PATIENCE) as client:
            more = {name: request.pop(name) for name in ("keep", "method")}
            answer = client.chat.completions.create(**request, extra_body=more, stream=kind == "stream")
            text = (
                "".join(piece.choices[0].delta.content or "" for piece in answer)
                if kind == "stream"
                else answer.choices[0].message.content
            )
        assert text == quiet[n]["choices"][0]["message"]["content"]
    return kind


def is_idle(metrics: dict[tuple[str, ...], float]) -> bool:
    return metrics["foveate_requests_running",] == metrics["foveate_requests_waiting",] == 0


@pytest.mark.heavy
def test_load():
    refusals = wrong_requests()
    with serving() as (process, url, log):
        quiet = {n: post(url, good_request(n)).json() for n in range(REQUESTS) if n % 8 not in (4, 7)}
        memory = []
        for _ in range(ROUNDS):
            with ThreadPoolExecutor(CLIENTS) as pool:
                kinds = list(pool.map(lambda n: send(url, n, quiet, refusals), range(REQUESTS)))
            assert set(kinds) == {"whole", "stream", "client", "wrong", "leave"}
            wait_for(lambda: is_idle(read_metrics(url)))
            metrics = read_metrics(url)
            memory.append(metrics["process_resident_memory_bytes",])
        # The first round fills caches and pools; from then on the same requests take the same memory.
        assert memory[-1] - memory[0] < 30 * 2**20, memory
        assert metrics["foveate_requests_total", "200"] >= len(quiet) + ROUNDS * REQUESTS / 2
        assert ("foveate_requests_total", "500") not in metrics
        assert {n: post(url, good_request(n)).json()["choices"] for n in (0, 1, 2)} == {
            n: quiet[n]["choices"] for n in (0, 1, 2)
        }
        assert metrics["foveate_requests_total", "499"] > 0
        assert ("foveate_requests_total", "415") not in metrics
        assert "Traceback" not in log.read_text()
        process.terminate()
        assert process.wait(PATIENCE) in EXIT_CODES
