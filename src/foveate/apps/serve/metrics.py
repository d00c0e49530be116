"""What a server tells Prometheus."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from foveate.apps.serve.answer import Answered, Pruned
from foveate.apps.serve.worker import Worker

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self, worker: Worker) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "foveate_requests",
            "Chat completions, by HTTP status (499: the client left).",
            ["status"],
            registry=registry,
        )
        self._kept = Counter("foveate_kept_visual_tokens", "Visual tokens that were kept.", registry=registry)
        self._total = Counter("foveate_visual_tokens", "Visual tokens before pruning.", registry=registry)
        self._prompt = Counter(
            "foveate_prompt_tokens", "Tokens that the model read, kept ones alone.", registry=registry
        )
        self._new = Counter("foveate_completion_tokens", "Tokens that the model wrote.", registry=registry)
        stages = {
            "encode": "Seconds of the vision encoder, a request.",
            "selection": "Seconds to choose the tokens and to rewrite the prompt, a request.",
            "prefill": "Seconds of the language model's first forward pass, a request.",
        }
        self._seconds = {
            stage: Histogram(f"foveate_{stage}_seconds", text, buckets=SECONDS, registry=registry)
            for stage, text in stages.items()
        }
        for name, text, place in (("running", "Requests at the model.", 0), ("waiting", "Requests in the queue.", 1)):
            gauge = Gauge(f"foveate_requests_{name}", text, registry=registry)
            gauge.set_function(partial(_load, worker, place))

    def count(self, status: int) -> None:
        """A request has ended."""
        self._requests.labels(str(status)).inc()

    def pruned(self, pruned: Pruned) -> None:
        """A prompt is ready for the language model."""
        report = pruned.report
        self._kept.inc(sum(len(kept) for kept in report.kept))
        self._total.inc(sum(report.total))
        self._prompt.inc(pruned.tokens)
        if report.kept:
            self._seconds["encode"].observe(pruned.encode)
            self._seconds["selection"].observe(report.seconds)

    def answered(self, answered: Answered) -> None:
        """An answer is complete, or was broken off."""
        self._new.inc(answered.tokens)
        self._seconds["prefill"].observe(answered.prefill)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)


def _load(worker: Worker, place: int) -> float:
    return worker.load()[place]
