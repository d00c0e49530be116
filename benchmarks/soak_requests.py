"""The requests of `soak.py`: those with an answer, those that are refused, and large ones."""

from __future__ import annotations

import base64
import json
import random
from io import BytesIO
from typing import Any

from PIL import Image

from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene

MODEL = "bundled"
QUESTIONS = (
    "what color is the star?",
    "how many circles are there?",
    "is there a red square?",
    "what does the sign say?",
    "what is left of the triangle?",
)
KEEPS = (0.05, 0.1, 58, 0.5, 1.0)
METHODS = ("foveate", "divprune", "cdpruner", "mmtok", "grid")
LARGE = 19 * 2**20  # characters, just below the server's limit for a body
JSON = "application/json"


def to_url(image: Image.Image, kind: str) -> str:
    """The image as a data URL."""
    out = BytesIO()
    image.save(out, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


SCENES = [draw_scene(sample_scene(0, n)) for n in range(6)]
URLS = [to_url(scene, ("PNG", "JPEG", "WEBP")[n % 3]) for n, scene in enumerate(SCENES)]


def make_turn(question: str, *urls: str) -> dict[str, Any]:
    """A turn of the user: images, then text."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*images, {"type": "text", "text": question}]}


def make_request(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chat completion, greedy unless `more` says otherwise."""
    return {"model": MODEL, "messages": list(turns), "temperature": 0, "max_tokens": 8, **more}


def good_requests(count: int, seed: int) -> list[dict[str, Any]]:
    """Requests with an answer: no, one and several images, one and several turns, different settings."""
    pick = random.Random(seed)
    requests = []
    for n in range(count):
        images = (1, 2, 1, 0, 1, 3)[n % 6]
        turns = [make_turn(pick.choice(QUESTIONS), *pick.sample(URLS, images))]
        if n % 3 == 1:  # a second turn, sometimes with a further image
            turns.append({"role": "assistant", "content": pick.choice((" red", " 2", " yes"))})
            turns.append(make_turn(pick.choice(QUESTIONS), *pick.sample(URLS, n % 2)))
        if n % 5 == 2:
            turns.insert(0, {"role": "developer", "content": "answer with one word"})
        more: dict[str, Any] = {"keep": pick.choice(KEEPS), "method": pick.choice(METHODS)}
        if n % 4 == 3:
            more["positions"] = "compact"
        if n % 7 == 6:  # sampled, but the seed makes the answer the same again
            more |= {"temperature": 0.8, "top_p": 0.9, "seed": n}
        requests.append(make_request(*turns, **more))
    return requests


def wrong_requests() -> dict[str, tuple[bytes, str]]:
    """Bodies that are refused, and their content type, by name."""
    url, turn = URLS[0], make_turn(QUESTIONS[0], URLS[0])
    thin = to_url(Image.new("1", (8000, 1)), "PNG")
    huge = to_url(Image.new("1", (10_000, 10_000)), "PNG")
    one = {"role": "user", "content": "a"}
    bodies: dict[str, object] = {
        "another model": {**make_request(turn), "model": "gpt-5"},
        "broken base64": make_request(make_turn("what", url[:-9] + "%%%")),
        "no image": make_request(make_turn("what", "data:image/png;base64,aGVsbG8=")),
        "cut image": make_request(make_turn("what", url[: len(url) // 8 * 4 + 22])),
        "thin image": make_request(make_turn("what", thin)),
        "100 megapixels": make_request(make_turn("what", huge)),
        "an address": make_request(make_turn("what", "http://127.0.0.1:9/a.png")),
        "a file": make_request(make_turn("what", "file:///etc/passwd")),
        "too many images": make_request(make_turn("what", *URLS * 4)),
        "keep out of range": make_request(turn, keep=7.5),
        "keep of a bool": make_request(turn, keep=True),
        "an unknown method": make_request(turn, method="clever"),
        "an unknown field": make_request(turn, kep=0.1),
        "a tool": make_request(turn, tools=[{"type": "function", "function": {"name": "f"}}]),
        "no messages": make_request(),
        "many messages": make_request(*[one] * 65_000),
        "many parts": make_request({"role": "user", "content": [{"type": "text", "text": "a"}] * 60_000}),
        "a long answer": make_request(turn, max_tokens=10**6),
        "five stops": make_request(turn, stop=list("abcde")),
    }
    raw = {
        "no JSON": b'{"model": "bundled", "mess',
        "a list": b"[]",
        "nothing": b"",
        "deep": b"[" * 100_000,
        "not a number": b'{"model":"bundled","messages":[{"role":"user","content":"a"}],"temperature":NaN}',
        "half a surrogate pair": b'{"model":"\\ud83d"}',
        "many values": b'{"messages":[' + b"0," * 300_000 + b"0]}",
    }
    written = {name: (json.dumps(body).encode(), JSON) for name, body in bodies.items()}
    return {**written, **{name: (body, JSON) for name, body in raw.items()}, "no type": (b"{}", "text/plain")}


def large_requests() -> dict[str, tuple[bytes, str]]:
    """Bodies near the limit of 20 MiB that are refused: for their text, their image, their form, their size."""
    bulk = "a" * LARGE
    text = json.dumps(make_request(make_turn(bulk))).encode()
    image = json.dumps(make_request(make_turn("what", f"data:image/png;base64,{bulk}"))).encode()
    return {
        "large text": (text, JSON),
        "large image": (image, JSON),
        "large and cut": (text[:-9], JSON),
        "too large": (b"x" * (20 * 2**20 + 1), JSON),
    }
