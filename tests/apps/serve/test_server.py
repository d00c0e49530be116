"""`foveate serve` as a process: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from foveate.apps import cli
from foveate.apps.serve.command import origin
from foveate.apps.serve.run import address, bind
from foveate.errors import InputError
from served import ENDED, body, content, data_url, post, serving, wait_for
from tiny import tiny_folder

ROOT = Path(__file__).parents[3]
SCENE = data_url((ROOT / "examples" / "scene.png").read_bytes())


def test_from_the_readme():
    with serving("--keep", "0.1") as (process, url, log):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
            found = client.chat.completions.create(**body("bundled", content("what color is the star?", SCENE)))
        assert found.choices[0].message.content.strip() == "red"
        assert found.usage.prompt_tokens == 68
        process.terminate()
        assert process.wait(20) in ENDED
        assert "Traceback" not in log.read_text()


def test_the_example_of_the_page_on_serving():
    page = (ROOT / "docs" / "serving.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    with serving("--model", "bundled", "--keep", "0.1") as (_, url, _):
        script = example.replace("http://127.0.0.1:8000", url)
        found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.stdout == " red 68 [58]\n", found.stderr
    assert "It prints ` red 68 [58]`" in page


def test_an_api_key_from_the_environment():
    with serving(FOVEATE_API_KEY="secret") as (_, url, log):
        asked = body("bundled", "how many?")
        assert post(url, asked).status_code == 401
        assert post(url, asked, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert "secret" not in log.read_text()


def slow_folder(folder: Path) -> str:
    """A model that has room for a thousand tokens, a second or two."""
    path = tiny_folder("llava", folder) / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["max_position_embeddings"] = 2048
    path.write_text(json.dumps(config))
    return str(folder)


def test_sigterm_finishes_what_runs_and_what_waits(tmp_path):
    model = slow_folder(tmp_path)
    with serving("--model", model) as (process, url, log), ThreadPoolExecutor(4) as pool:
        asked = body(model, "star", max_tokens=1000)
        quiet = post(url, asked).json()["choices"]
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json={**asked, "stream": True}, timeout=60, trust_env=False
        ) as got:
            lines = (line.removeprefix("data: ") for line in got.iter_lines() if line)
            next(lines)
            waiting = [pool.submit(post, url, asked) for _ in range(3)]
            wait_for(lambda: "foveate_requests_waiting 3" in httpx.get(f"{url}/metrics", trust_env=False).text)
            process.terminate()
            wait_for(lambda: "Shutting down" in log.read_text())
            with pytest.raises(httpx.TransportError):
                post(url, asked)
            told = list(lines)
        assert told[-1] == "[DONE]"
        text = "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in told[:-1])
        assert text == quiet[0]["message"]["content"]
        assert [one.result().json()["choices"] for one in waiting] == [quiet] * 3
        assert process.wait(20) in ENDED
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("grace", ["0", "1"])
def test_after_the_grace_all_that_wait_are_told_so(tmp_path, grace):
    """Whole answers by their status, streams by a last event, and one that still sends its body as well."""
    model = slow_folder(tmp_path)
    with serving("--model", model, "--grace", grace) as (process, url, log), ThreadPoolExecutor(9) as pool:
        asked = body(model, "star", max_tokens=1000)
        waiting = [pool.submit(post, url, {**asked, "stream": n % 2 == 0}) for n in range(8)]
        gate = threading.Event()

        def sends_slowly():
            yield b"{"
            gate.wait(20)
            yield b"}"

        slow = pool.submit(post, url, content=sends_slowly())
        wait_for(lambda: "foveate_requests_waiting 7" in httpx.get(f"{url}/metrics", trust_env=False).text)
        began = time.monotonic()
        process.terminate()
        assert process.wait(20) in ENDED
        gate.set()
        assert time.monotonic() - began < 8
        answers = [one.result() for one in waiting]
        for answer in answers:
            assert answer.status_code in (200, 503)
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "stopping"
            elif "[DONE]" not in answer.text and "choices" not in answer.text:
                assert '"code": "stopping"' in answer.text
        assert [answer.status_code for answer in answers].count(503) >= 4
        assert slow.result().status_code == 503
        assert "Traceback" not in log.read_text()


def test_idle_connections_keep_nobody_out():
    with serving() as (_, url, _):
        host, port = url.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(200)]
        try:
            assert httpx.get(f"{url}/health", trust_env=False).json()["status"] == "ok"
            assert httpx.head(f"{url}/health", trust_env=False).status_code == 200
            assert post(url, body("bundled", "how many?")).status_code == 200
        finally:
            for connection in idle:
                connection.close()


# -- what cannot be served -----------------------------------------------------------------------------------------


@pytest.fixture
def refusal(capsys):
    """What `foveate serve` says instead, in one line."""

    def call(*options):
        with pytest.raises(SystemExit) as stop:
            cli.main(["serve", *options])
        assert stop.value.code == 2
        found = capsys.readouterr()
        assert found.err.startswith("foveate: ")
        assert found.err.count("\n") == 1
        return found.err

    return call


def test_options_that_cannot_be(refusal):
    for options, words in (
        (("--keep", "2.0"), "keep"), (("--keep", "x"), "--keep"), (("--method", "typo"), "typo"),
        (("--method", "fastv"), "running model"), (("--typo", "1"), "No such option: --typo"),
        (("bundled",), "No such option: bundled"), (("--turn", "own"), "--turn is for --engine vllm"),
        (("--print",), "--print is for --engine vllm"), (("--max-pixels", "100"), "max-pixels"),
        (("--fetch-from", "ftp://a"), "--fetch-from"), (("--fetch-from", "https://a/b"), "--fetch-from"),
        (("--api-key", ""), "--api-key"),
        (("--engine", "vllm", "--print", "--api-key", ""), "--api-key"),
        (("--host", "999.1.1.1", "--port", "0"), "--host"),
        (("--model", "no/such/folder"), "no/such/folder"), (("--port", "70000"), "port"),
        (("--grace", "inf"), "--grace"), (("--host", "\u00fc" * 70, "--port", "0"), "--host"),
        (("--engine", "vllm", "--max-images", "2"), "--max-images is not for --engine vllm"),
        (("--engine", "vllm", "--fetch-from", "https://a"), "--fetch-from is not for --engine vllm"),
        (("--engine", "vllm", "bundled"), "--model"),
    ):  # fmt: skip
        assert words in refusal(*options), options


def test_a_port_that_is_taken(refusal):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be listened on" in refusal("--port", str(taken.getsockname()[1]))
    with bind("127.0.0.1", 0) as first:  # by another server that still reads its model
        assert "cannot be listened on" in refusal("--port", str(first.getsockname()[1]))


def test_without_the_extra(refusal, monkeypatch):
    monkeypatch.setattr("foveate.apps.serve.run.NEEDED", ("no_such_package",))
    assert "pip install 'foveate[serve]'" in refusal()


def test_vllm_s_line_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["serve", "--engine", "vllm", "--print", "--keep", "0.2", "--port", "9", "--max-model-len", "77"])
    assert stop.value.code == 0
    line = capsys.readouterr().out
    assert line.startswith("vllm serve ")
    for part in ('"keep": 0.2', "--host 127.0.0.1", "--port 9", "--max-model-len 77", "--served-model-name bundled"):
        assert part in line


def test_a_key_is_not_printed_and_it_is_said(capsys):
    with pytest.raises(SystemExit):
        cli.main(["serve", "--engine", "vllm", "--print", "--api-key", "secret"])
    told = capsys.readouterr()
    assert "secret" not in told.out + told.err
    assert "set VLLM_API_KEY" in told.err


def test_places():
    assert origin("https://Example.com") == "https://example.com"
    assert origin("http://127.0.0.1:9000/") == "http://127.0.0.1:9000"
    assert origin("http://[::1]:80") == "http://[::1]:80"
    for text in ("example.com", "https://", "https://a:b", "https://u@a", "https://a/b", "http://[::1", "file:///a"):
        with pytest.raises(InputError, match="no place"):
            origin(text)


def test_addresses():
    with bind("127.0.0.1", 0) as listens:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address(listens))
