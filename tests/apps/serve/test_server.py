"""`foveate serve` as a process: its output, its refusals, and its shutdown."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from foveate.apps import cli
from foveate.apps.serve.command import parse_origin
from foveate.apps.serve.run import address, bind
from foveate.errors import InputError
from served import EXIT_CODES, PATIENCE, body, content, data_url, get, post, read_metrics, serving, wait_for
from tiny import tiny_folder

ROOT = Path(__file__).parents[3]
SCENE = data_url((ROOT / "examples" / "scene.png").read_bytes())


def test_from_the_readme():
    with serving("--keep", "0.1") as (process, url, log):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=PATIENCE) as client:
            answer = client.chat.completions.create(**body("bundled", content("what color is the star?", SCENE)))
        assert answer.choices[0].message.content.strip() == "red"
        assert answer.usage.prompt_tokens == 68
        process.terminate()
        assert process.wait(PATIENCE) in EXIT_CODES
        assert "Traceback" not in log.read_text()


def test_the_options_of_load():
    options = ("--dtype", "float32", "--device-map", '{"": "cpu"}', "--attention", "eager")
    with serving("--keep", "0.1", *options) as (_, url, log):
        answer = post(url, body("bundled", content("what color is the star?", SCENE))).json()
        assert answer["choices"][0]["message"]["content"].strip() == "red"
        assert "Traceback" not in log.read_text()


def test_the_example_of_the_documentation():
    page = (ROOT / "docs" / "serving.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    with serving("--model", "bundled", "--keep", "0.1") as (_, url, _):
        script = example.replace("http://127.0.0.1:8000", url)
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert result.stdout == " red 68\n", result.stderr
    assert "It prints ` red 68`" in page


def test_an_api_key_from_the_environment():
    with serving(FOVEATE_API_KEY="secret") as (_, url, log):
        request = body("bundled", "how many?")
        assert post(url, request).status_code == 401
        assert post(url, request, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert "secret" not in log.read_text()


# -- shutdown ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pause(tmp_path):
    """A file; while it exists every answer stops half-way."""
    return tmp_path / "pause"


@pytest.fixture
def model(tmp_path):
    """A random model that generates as many tokens as it may."""
    return str(tiny_folder("llava", tmp_path / "model"))


def test_sigterm_finishes_running_and_waiting_requests(model, pause):
    with (
        serving("--model", model, "--grace", str(PATIENCE), pause=pause) as (process, url, log),
        ThreadPoolExecutor(4) as pool,
    ):
        request = body(model, "star", max_tokens=200)
        quiet = post(url, request).json()["choices"]
        pause.touch()
        stream = {"url": f"{url}/v1/chat/completions", "json": {**request, "stream": True}}
        with httpx.stream("POST", **stream, timeout=PATIENCE, trust_env=False) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line)
            next(lines)
            waiting = [pool.submit(post, url, request) for _ in range(3)]
            wait_for(lambda: read_metrics(url)["foveate_requests_waiting",] == 3)
            process.terminate()
            wait_for(lambda: "Shutting down" in log.read_text())
            with pytest.raises(httpx.TransportError):
                post(url, request)
            pause.unlink()
            events = list(lines)
        assert events[-1] == "[DONE]"
        text = "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in events[:-1])
        assert text == quiet[0]["message"]["content"]
        assert [one.result().json()["choices"] for one in waiting] == [quiet] * 3
        assert process.wait(PATIENCE) in EXIT_CODES
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("grace", ["0", "1"])
def test_after_the_grace_period_open_requests_are_refused(model, pause, grace):
    """Whole answers by their status, streams by a last event, and a request that still sends its body.

    Neither the answers nor that body end by themselves before the server has.
    """
    pause.touch()
    with serving("--model", model, "--grace", grace, pause=pause) as (process, url, log), ThreadPoolExecutor(9) as pool:
        request = body(model, "star", max_tokens=200)
        waiting = [pool.submit(post, url, {**request, "stream": n % 2 == 0}) for n in range(8)]
        ended = threading.Event()

        def send_slowly():
            yield b"{"
            ended.wait(PATIENCE)
            yield b"}"

        slow = pool.submit(post, url, content=send_slowly())
        wait_for(lambda: read_metrics(url)["foveate_requests_waiting",] == 7)
        process.terminate()
        assert process.wait(PATIENCE) in EXIT_CODES
        ended.set()
        responses = [one.result() for one in waiting]
        for response in responses:
            assert response.status_code in (200, 503)
            if response.status_code == 503:
                assert response.json()["error"]["code"] == "stopping"
            else:
                assert '"code": "stopping"' in response.text, log.read_text()
        assert [response.status_code for response in responses].count(503) >= 4
        assert slow.result().status_code == 503
        assert "Traceback" not in log.read_text()


def test_idle_connections_block_no_request():
    with serving() as (_, url, _):
        host, port = url.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(200)]
        try:
            assert get(f"{url}/health").json()["status"] == "ok"
            assert httpx.head(f"{url}/health", timeout=PATIENCE, trust_env=False).status_code == 200
            assert post(url, body("bundled", "how many?")).status_code == 200
        finally:
            for connection in idle:
                connection.close()


# -- what cannot be served -----------------------------------------------------------------------------------------


@pytest.fixture
def refusal(capsys):
    """The one-line error of `foveate serve`."""

    def call(*options):
        with pytest.raises(SystemExit) as stop:
            cli.main(["serve", *options])
        assert stop.value.code == 2
        output = capsys.readouterr().err
        assert output.startswith("foveate: ")
        assert output.count("\n") == 1
        return output

    return call


def test_wrong_options(refusal):
    for options, words in (
        (("--keep", "2.0"), "keep"), (("--keep", "x"), "--keep"), (("--method", "typo"), "typo"),
        (("--method", "fastv"), "running model"), (("--typo", "1"), "No such option: --typo"),
        (("bundled",), "No such option: bundled"), (("--turn", "own"), "--turn is for --engine vllm"),
        (("--reuse", "auto"), "--reuse is for --engine vllm"),
        (("--engine", "vllm", "--print", "--reuse", "always"), "reuse='always' is unknown"),
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


def test_a_port_in_use(refusal):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be listened on" in refusal("--port", str(taken.getsockname()[1]))
    with bind("127.0.0.1", 0) as first:  # by another server that still loads its model
        assert "cannot be listened on" in refusal("--port", str(first.getsockname()[1]))


def test_without_the_extra(refusal, monkeypatch):
    monkeypatch.setattr("foveate.apps.serve.run.REQUIRED", ("no_such_package",))
    assert "pip install 'foveate[serve]'" in refusal()


def test_the_command_of_vllm_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["serve", "--engine", "vllm", "--print", "--keep", "0.2", "--port", "9", "--max-model-len", "77"])
    assert stop.value.code == 0
    line = capsys.readouterr().out
    assert line.startswith("vllm serve ")
    for part in ('"keep": 0.2', "--host 127.0.0.1", "--port 9", "--max-model-len 77", "--served-model-name bundled"):
        assert part in line


def test_what_is_kept_for_further_questions(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["serve", "--engine", "vllm", "--print", "--image-cache", "512", "--reuse", "auto"])
    line = capsys.readouterr().out
    assert stop.value.code == 0
    assert '"reuse": "auto"' in line
    assert '"feature_cache_gib": 0.5' in line


def test_a_key_is_not_printed_and_a_note_says_so(capsys):
    with pytest.raises(SystemExit):
        cli.main(["serve", "--engine", "vllm", "--print", "--api-key", "secret"])
    output = capsys.readouterr()
    assert "secret" not in output.out + output.err
    assert "set VLLM_API_KEY" in output.err


def test_origins():
    assert parse_origin("https://Example.com") == "https://example.com"
    assert parse_origin("http://127.0.0.1:9000/") == "http://127.0.0.1:9000"
    assert parse_origin("http://[::1]:80") == "http://[::1]:80"
    for text in ("example.com", "https://", "https://a:b", "https://u@a", "https://a/b", "http://[::1", "file:///a"):
        with pytest.raises(InputError, match="not an origin"):
            parse_origin(text)


def test_the_address_of_a_socket():
    with bind("127.0.0.1", 0) as listens:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address(listens))
