"""Prometheus metrics of a server."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from foveate.apps.serve.generation import GenerationResult, PrunedPrompt
from foveate.apps.serve.worker import ModelWorker
from foveate.runtime.image_cache import ImageCache

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STAGES = {
    "encode": "Seconds of the vision encoder per request.",
    "selection": "Seconds to select tokens and rewrite the prompt, per request.",
    "prefill": "Seconds of the language model's first forward pass per request.",
}


class ServeMetrics:
    """Metrics of one server, in their own registry."""

    def __init__(self, worker: ModelWorker, cache: ImageCache) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"foveate_{name}", text, labels, registry=registry)

        self._requests = counter("requests", "Chat completions by HTTP status (499: client disconnected).", "status")
        self._kept = counter("kept_visual_tokens", "Visual tokens kept.")
        self._total = counter("visual_tokens", "Visual tokens before pruning.")
        self._reused = counter("reused_images", "Images that were not encoded, since they were known.")
        self._images = counter("images", "Images.")
        self._encoded = counter("encoded_images", "Images, each counted as the encoded share of its tiles.")
        self._prompt = counter("prompt_tokens", "Tokens that the model read, after pruning.")
        self._new = counter("completion_tokens", "Tokens that the model generated.")
        self._seconds = {
            stage: Histogram(f"foveate_{stage}_seconds", text, buckets=SECONDS, registry=registry)
            for stage, text in STAGES.items()
        }
        for index, name, text in ((0, "running", "Requests that run."), (1, "waiting", "Requests in the queue.")):
            gauge = Gauge(f"foveate_requests_{name}", text, registry=registry)
            gauge.set_function(partial(_count_jobs, worker, index))
        size = Gauge("foveate_image_cache_bytes", "Bytes of the encoded images that are kept.", registry=registry)
        size.set_function(lambda: cache.bytes)

    def add_request(self, status: int) -> None:
        """Count a finished request."""
        self._requests.labels(str(status)).inc()

    def add_prompt(self, prompt: PrunedPrompt) -> None:
        """Count the tokens and seconds of a pruned prompt."""
        report = prompt.report
        self._kept.inc(report.kept_count)
        self._total.inc(report.total_count)
        self._reused.inc(prompt.reused)
        self._images.inc(len(report.items))
        self._encoded.inc(sum(item.encoded_share for item in report.items))
        self._prompt.inc(prompt.tokens)
        if report.items:
            self._seconds["encode"].observe(prompt.encode_seconds)
            self._seconds["selection"].observe(report.seconds)

    def add_answer(self, result: GenerationResult) -> None:
        """Count the tokens and seconds of a complete or cancelled answer."""
        self._new.inc(result.tokens)
        self._seconds["prefill"].observe(result.prefill_seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _count_jobs(worker: ModelWorker, index: int) -> float:
    return worker.count_jobs()[index]
