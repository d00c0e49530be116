"""The OpenAPI description of the server, and what the server does with requests that are made from it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from foveate.apps.serve.app import make_app
from foveate.apps.serve.chat_request import CompletionRequest
from foveate.apps.serve.chat_response import ChatCompletion, ChatCompletionChunk, HealthStatus, ModelCard, ModelList
from foveate.apps.serve.description import REFUSALS
from foveate.apps.serve.errors import ErrorBody
from foveate.apps.serve.settings import ServeLimits, ServeSettings
from served import body, content, get, post, refusal, running_app

CONFIG = Path(__file__).with_name("schemathesis.toml")
CALL = "from schemathesis.cli import schemathesis; schemathesis()"


def check(kind, value):
    """The value has exactly the form that the description states."""
    TypeAdapter(kind).validate_python(value, strict=True)
    return value


def test_the_description_is_made_from_the_types(server):
    api = get(f"{server.url}/openapi.json").json()
    assert set(api["paths"]) == {"/health", "/metrics", "/v1/models", "/v1/models/{name}", "/v1/chat/completions"}
    schemas = api["components"]["schemas"]
    fields = schemas["CompletionRequest"]["properties"]
    assert set(fields) == set(CompletionRequest.model_fields)
    assert fields["model"]["enum"] == ["bundled"]
    assert schemas["CompletionRequest"]["required"] == ["model", "messages"]
    assert set(schemas["ChatCompletion"]["properties"]) == set(ChatCompletion.__annotations__)
    assert "422" not in json.dumps(api)
    chat = api["paths"]["/v1/chat/completions"]["post"]
    assert set(chat["responses"]) == {str(status) for status in (200, *REFUSALS)}
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "security" not in chat
    references = {part.split('"')[0] for part in json.dumps(api).split('"$ref": "#/components/schemas/')[1:]}
    assert references <= set(schemas)


def test_answers_have_the_described_form(server, scene):
    request = body("bundled", content("what color is the star?", scene))
    check(ChatCompletion, post(server.url, request).json())
    stream = post(server.url, {**request, "stream": True, "stream_options": {"include_usage": True}}).text
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line]
    assert events.pop() == "[DONE]"
    chunks = [check(ChatCompletionChunk, json.loads(event)) for event in events]
    assert [name for chunk in chunks for name in ("foveate", "usage") if name in chunk] == ["foveate", "usage"]
    check(ModelList, get(f"{server.url}/v1/models").json())
    check(ModelCard, get(f"{server.url}/v1/models/bundled").json())
    check(HealthStatus, get(f"{server.url}/health").json())
    check(ErrorBody, post(server.url, {**request, "keep": 7.5}).json())
    check(ErrorBody, get(f"{server.url}/nowhere").json())


def test_a_wrong_method_is_answered_with_the_right_ones(server):
    response = get(f"{server.url}/v1/chat/completions")
    refusal(response, 405)
    assert response.headers["allow"] == "POST"


def test_with_a_key_the_description_needs_it(bundled):
    with running_app(make_app(bundled, ServeSettings(api_key="secret"))) as server:
        refusal(get(f"{server.url}/openapi.json"), 401)
        api = get(f"{server.url}/openapi.json", headers={"Authorization": "Bearer secret"}).json()
    assert api["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert api["paths"]["/v1/models"]["get"]["security"] == [{"key": []}]
    assert "security" not in api["paths"]["/health"]["get"]


@pytest.mark.heavy
@pytest.mark.skipif(not importlib.util.find_spec("schemathesis"), reason="`make test-schema` sets schemathesis up")
def test_requests_made_from_the_description(bundled, tmp_path):
    """Every status, type and body of an answer is described, and what the schema forbids is refused."""
    options = ("--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--no-color")
    more = ("--generation-deterministic", "--continue-on-failure", "--request-timeout", "300")
    with running_app(make_app(bundled, ServeSettings(limits=ServeLimits(new=2)))) as server:
        command = [sys.executable, "-c", CALL, "--config-file", CONFIG, "run", f"{server.url}/openapi.json"]
        packages = Path(importlib.util.find_spec("schemathesis").origin).parents[1]  # PYTHONPATH is relative
        env = {**os.environ, "PYTHONPATH": str(packages)}
        result = subprocess.run([*command, *options, *more], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Tested: 5" in result.stdout
