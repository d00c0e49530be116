"""The log has one line for each chat completion, answered or refused."""

import json
import logging
import re
from datetime import datetime

import pytest

from foveate.apps.serve.app import make_app
from foveate.apps.serve.request_log import JsonLines, write_line
from foveate.apps.serve.settings import ServeSettings
from served import body, content, post, running_app, serving, wait_for

QUESTION = "what color is the star?"


@pytest.fixture
def app(bundled, caplog):
    caplog.set_level(logging.INFO, "foveate.serve")
    with running_app(make_app(bundled, ServeSettings(keep=7))) as server:
        yield server


def read_lines(caplog, count):
    records = [record for record in caplog.records if record.name == "foveate.serve"]
    assert len(records) == count
    return records


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_one_line_with_the_numbers_of_the_answer(app, scene, caplog, stream):
    response = post(app.url, body("bundled", content(QUESTION, scene), stream=stream))
    if stream:
        chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        name, details = chunks[0]["id"], chunks[-1]["foveate"]
    else:
        answer = response.json()
        name, details = answer["id"], answer["foveate"]
    wait_for(lambda: caplog.records)
    (record,) = read_lines(caplog, 1)
    fields = record.fields
    assert (fields["id"], fields["status"]) == (name, 200)
    assert ([fields["kept"]], [fields["total"]]) == (details["kept"], details["total"]) == ([7], [576])
    for stage in ("encode", "select", "prefill"):
        assert fields["seconds"][stage] == pytest.approx(details["seconds"][stage], abs=1e-5)
    assert fields["seconds"]["all"] > fields["seconds"]["encode"] + fields["seconds"]["prefill"]
    if not stream:
        usage = answer["usage"]
        assert [fields[key] for key in ("prompt_tokens", "completion_tokens")] == [
            usage["prompt_tokens"], usage["completion_tokens"],
        ]  # fmt: skip
    assert re.fullmatch(
        rf"{name} 200 7 of 576 visual tokens, \d+ prompt tokens, \d+ new, encode \d+ ms, select \d+ ms, "
        r"prefill \d+ ms, \d+ ms in all",
        record.getMessage(),
    )


def test_a_refusal_is_one_line_with_its_reason(app, caplog):
    response = post(app.url, body("bundled", "hi", **{"a\nb": 1}))
    assert response.status_code == 400
    (record,) = read_lines(caplog, 1)
    assert record.fields["message"] == response.json()["error"]["message"]
    assert "kept" not in record.fields
    line = record.getMessage()
    assert line.startswith(f"{record.fields['id']} 400 ")
    assert "\n" not in line  # whatever the client sent
    assert line.endswith(r'"a\nb: it has no effect here, leave it out."')


def test_lines_are_ascii():
    line = write_line({"id": "x", "status": 400, "seconds": {"all": 0.5}, "message": "\u2028\x1b[31m\u202e"})
    assert line.isascii()
    assert line.isprintable()


def test_json_lines():
    record = logging.LogRecord("foveate.serve", logging.INFO, "", 0, "%s", ("text",), None)
    assert json.loads(JsonLines().format(record))["message"] == "text"
    record.fields = {"id": "x", "status": 200}
    shown = json.loads(JsonLines().format(record))
    assert {name: shown[name] for name in ("id", "status")} == {"id": "x", "status": 200}
    assert datetime.fromisoformat(shown["time"]).timestamp() == pytest.approx(record.created, abs=0.001)


@pytest.mark.parametrize("options", [(), ("--log-json",)])
def test_the_command_writes_them(options):
    with serving(*options) as (_, url, log):
        answer = post(url, body("bundled", "how many?")).json()
        wait_for(lambda: answer["id"] in log.read_text())
        (line,) = [line for line in log.read_text().splitlines() if answer["id"] in line]
        if options:
            assert json.loads(line)["prompt_tokens"] == answer["usage"]["prompt_tokens"]
        else:
            assert re.match(rf"\d{{4}}-\d\d-\d\d \S+ {answer['id']} 200 0 of 0 visual tokens", line)
