"""One line in the log for each chat completion: its id and status, what was kept, and how long it took."""

import json
import logging
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from foveate.apps.serve.chat_response import make_id
from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.generation import GenerationResult, PrunedPrompt
from foveate.apps.serve.metrics import ServeMetrics

LOGGER = logging.getLogger("foveate.serve")
STAGES = ("encode", "select", "prefill")


@dataclass
class RequestRecord:
    """What is known of one request, for the metrics and for its line in the log. It holds numbers alone."""

    metrics: ServeMetrics
    id: str = field(default_factory=make_id)
    started: float = field(default_factory=time.perf_counter)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add_prompt(self, prompt: PrunedPrompt) -> None:
        """Note the tokens and seconds of a pruned prompt."""
        self.metrics.add_prompt(prompt)
        report = prompt.report
        self.counts |= {"kept": report.kept_count, "total": report.total_count, "prompt_tokens": prompt.tokens}
        self.seconds |= {"encode": prompt.encode_seconds, "select": report.seconds}

    def add_answer(self, result: GenerationResult) -> None:
        """Note the tokens and seconds of a complete or cancelled answer."""
        self.metrics.add_answer(result)
        self.counts["completion_tokens"] = result.tokens
        self.seconds["prefill"] = result.prefill_seconds

    def finish(self, status: int, error: RequestError | None = None) -> None:
        """Count the request and write its line."""
        self.metrics.add_request(status)
        self.seconds["all"] = time.perf_counter() - self.started
        refusal = {} if error is None else {"code": error.code, "message": error.message}
        seconds = {name: round(value, 6) for name, value in self.seconds.items()}
        fields = {"id": self.id, "status": status, **self.counts, "seconds": seconds, **refusal}
        LOGGER.info("%s", write_line(fields), extra={"fields": fields})


def write_line(fields: dict[str, Any]) -> str:
    """The fields for people, in one line of ASCII: clients choose some of the text."""
    parts = []
    if "total" in fields:
        parts.append("{kept} of {total} visual tokens, {prompt_tokens} prompt tokens".format(**fields))
    if "completion_tokens" in fields:
        parts.append(f"{fields['completion_tokens']} new")
    seconds = fields["seconds"]
    parts += [f"{stage} {1000 * seconds[stage]:.0f} ms" for stage in STAGES if stage in seconds]
    parts.append(f"{1000 * seconds['all']:.0f} ms in all")
    if "message" in fields:
        parts.append(json.dumps(fields["message"]))
    return f"{fields['id']} {fields['status']} {', '.join(parts)}"


class JsonLines(logging.Formatter):
    """Each line as a JSON object with its time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """The fields of a request; of any other line its text."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = getattr(record, "fields", {"message": record.getMessage()})
        return json.dumps({"time": at, **fields})


def start_log(*, as_json: bool) -> None:
    """Write the lines to standard output, as text or as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(message)s"))
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(handler)
    LOGGER.propagate = False
