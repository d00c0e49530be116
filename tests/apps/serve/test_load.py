"""A bounded load of everything at once, right and wrong, on a server process: its answers are those of a quiet one."""

from __future__ import annotations

import json
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from PIL import Image

from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from served import ENDED, body, bomb, content, data_url, packed, post, serving, wait_for

CLIENTS = 8
ROUNDS = 3
REQUESTS = 64  # a round
SCENES = [data_url(packed(draw_scene(sample_scene(0, n)))) for n in range(4)]
QUESTIONS = (
    "what color is the star?",
    "how many circles are there?",
    "is there a red square?",
    "what does the sign say?",
)


def good(n: int) -> dict:
    """One of the requests that have an answer."""
    pick = random.Random(n)
    shown = [pick.choice(SCENES) for _ in range(pick.choice((0, 1, 1, 1, 2)))]
    more = {"keep": pick.choice((0.05, 0.1, 58, 0.5)), "method": pick.choice(("foveate", "divprune", "cdpruner"))}
    return body("bundled", content(pick.choice(QUESTIONS), *shown), max_tokens=8, **more)


def wrong() -> dict[str, tuple[int, object]]:
    """What is refused, and with which status."""
    shown = content("what", SCENES[0])
    url = shown[0]["image_url"]["url"]
    return {
        "model": (404, body("gpt-5", shown)),
        "base64": (400, body("bundled", content("what", url[:-9] + "%%%"))),
        "mime": (400, body("bundled", content("what", url.replace("image/png", "text/html")))),
        "text": (400, body("bundled", content("what", data_url(b"hello")))),
        "cut": (400, body("bundled", content("what", data_url(packed(Image.effect_noise((200, 200), 50))[:9000])))),
        "bomb": (413, body("bundled", content("what", data_url(bomb(20_000, 20_000))))),
        "100 megapixels": (413, body("bundled", content("what", data_url(packed(Image.new("L", (10_000, 10_000))))))),
        "remote": (400, body("bundled", content("what", "http://127.0.0.1:9/a.png"))),
        "file": (400, body("bundled", content("what", "file:///etc/passwd"))),
        "keep": (400, body("bundled", shown, keep=7.5)),
        "empty": (400, {"model": "bundled", "messages": []}),
        "no json": (400, b'{"model": "bundled", "mess'),
        "too large": (413, b"x" * (20 * 2**20 + 1)),
    }


def leave(url: str, asked: dict, how: str) -> None:
    """Send half of a request, or all of it and go before the answer is there, or after a piece of it."""
    sent = json.dumps({**asked, "stream": how == "after a piece"}).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", "Host: a", "Content-Type: application/json")
    head = "\r\n".join((*lines, f"Content-Length: {len(sent)}", "", "")).encode()
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(head + (sent[: len(sent) // 2] if how == "half" else sent))
        if how == "after a piece":
            assert connection.recv(100).startswith(b"HTTP/1.1 200")


def one(url: str, n: int, quiet: dict[int, dict], refusals: dict) -> str:
    """The n-th request of a round; what it was."""
    kind = ("whole", "stream", "client", "whole", "wrong", "leave", "stream", "wrong")[n % 8]
    if kind == "wrong":
        status, asked = refusals[list(refusals)[n // 4 % len(refusals)]]
        answer = post(url, asked) if isinstance(asked, dict) else post(url, content=asked)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["message"].endswith(".")
        return kind
    asked = good(n)
    if kind == "leave":
        leave(url, asked, ("half", "before", "after a piece")[n // 8 % 3])
    elif kind == "whole":
        assert post(url, asked).json()["choices"] == quiet[n]["choices"]
    else:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="a", max_retries=0, timeout=120) as client:
            more = {name: asked.pop(name) for name in ("keep", "method")}
            found = client.chat.completions.create(**asked, extra_body=more, stream=kind == "stream")
            text = (
                "".join(piece.choices[0].delta.content or "" for piece in found)
                if kind == "stream"
                else found.choices[0].message.content
            )
        assert text == quiet[n]["choices"][0]["message"]["content"]
    return kind


@pytest.mark.heavy
def test_load():
    refusals = wrong()
    with serving() as (process, url, log):
        quiet = {n: post(url, good(n)).json() for n in range(REQUESTS) if n % 8 not in (4, 7)}
        memory = []
        for _ in range(ROUNDS):
            with ThreadPoolExecutor(CLIENTS) as pool:
                kinds = list(pool.map(lambda n: one(url, n, quiet, refusals), range(REQUESTS)))
            assert set(kinds) == {"whole", "stream", "client", "wrong", "leave"}
            figures = {}

            def still():
                text = httpx.get(f"{url}/metrics", trust_env=False).text
                lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
                figures.update({name: float(value) for name, value in lines})  # noqa: B023
                return figures["foveate_requests_running"] == figures["foveate_requests_waiting"] == 0  # noqa: B023

            wait_for(still, 30)
            memory.append(figures["process_resident_memory_bytes"])
        # The first round fills caches and pools; from then on the same requests take the same memory.
        assert memory[-1] - memory[0] < 30 * 2**20, memory
        assert figures['foveate_requests_total{status="200"}'] >= len(quiet) + ROUNDS * REQUESTS / 2
        assert 'foveate_requests_total{status="500"}' not in figures
        assert {n: post(url, good(n)).json()["choices"] for n in (0, 1, 2)} == {
            n: quiet[n]["choices"] for n in (0, 1, 2)
        }
        assert figures['foveate_requests_total{status="499"}'] > 0
        assert 'foveate_requests_total{status="415"}' not in figures
        assert "Traceback" not in log.read_text()
        process.terminate()
        assert process.wait(30) in ENDED
