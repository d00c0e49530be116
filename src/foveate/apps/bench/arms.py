"""The arms of a case: the unpruned model, the pruned model and the limit, each a way to run the same request."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from foveate.apps.bench.memory import MemoryPeak
from foveate.apps.encoder import EncoderOptions, prune_timed
from foveate.method import Method
from foveate.models.cache import cache_of
from foveate.pipeline.encode import Encoded, encode
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import PrunedInputs
from foveate.runtime.timing import StageTimer, kv_bytes, prefill

STAGES = ("encoder", "glance", "selection", "prefill")


@dataclass(eq=False)
class BenchArm(ABC):
    """One way to run a request.

    `kept` is the number of visual tokens of a prompt that the language model reads, `length` the tokens of the prompt,
    `methods` what the encoder has to serve.
    Measured: `seconds` of every stage and of `first_token`, one value a round; `decode`, seconds of every new token
    after the first; `kv_bytes` after the prefill, None where the model returns no cache; `peak`, the smallest of all
    requests, because memory that an allocator keeps for later only adds to it.
    """

    kind: ClassVar[str]
    model: Any
    name: str
    kept: int
    length: int
    inputs: Mapping[str, Any]
    methods: Sequence[Method] = field(default=(), init=False)
    seconds: dict[str, list[float]] = field(default_factory=dict, init=False)
    decode: list[float] = field(default_factory=list, init=False)
    kv_bytes: int | None = field(default=None, init=False)
    peak: MemoryPeak | None = field(default=None, init=False)

    @abstractmethod
    def make_prompt(self, encoded: Encoded) -> Mapping[str, Any]:
        """The inputs of the prefill."""

    @abstractmethod
    def make_request(self) -> Mapping[str, Any]:
        """The inputs of `generate`; what is computed here is part of the request."""

    def prepare(self) -> tuple[Mapping[str, Any], dict[str, float]]:
        """The inputs of the prefill, and the seconds of the encoder and of the selection."""
        timer = StageTimer(self.model.device)
        encoded = encode(self.model, self.inputs, methods=self.methods)
        timer.lap("encoder")
        inputs = self.make_prompt(encoded)
        timer.lap("selection")
        return inputs, timer.laps

    def run_round(self) -> dict[str, float]:
        """Seconds of every stage, and of all of them up to the first token's logits."""
        inputs, before = self.prepare()
        timer = StageTimer(self.model.device)
        out = prefill(self.model, inputs)
        timer.lap("prefill")
        cache = cache_of(out) or cache_of(out.get("language_model_outputs") or {})
        self.kv_bytes = None if cache is None else kv_bytes(cache)
        laps = {**before, **timer.laps}
        if isinstance(inputs, PrunedInputs) and inputs.report.glance_seconds:
            laps["glance"] = inputs.report.glance_seconds
            laps["selection"] -= laps["glance"]
        if not self.methods:
            del laps["selection"]
        return {**laps, "first_token": sum(laps.values())}


@dataclass(eq=False)
class UnprunedBenchArm(BenchArm):
    """The stock model. Its time to first token is that of one stock call, from pixels to logits."""

    kind = "whole"

    def make_prompt(self, encoded: Encoded) -> Mapping[str, Any]:
        """All of the encoder's output."""
        return prune_inputs(self.model, self.inputs, keep=1.0, encoded=encoded)

    def make_request(self) -> Mapping[str, Any]:
        """The processor's output."""
        return self.inputs

    def run_round(self) -> dict[str, float]:
        """The stages, then all of it in one stock call."""
        laps = super().run_round()
        timer = StageTimer(self.model.device)
        prefill(self.model, self.inputs)
        timer.lap("first_token")
        return {**laps, **timer.laps}


@dataclass(eq=False)
class PrunedBenchArm(BenchArm):
    """The encoder, the selection, and the prefill of the tokens that are left."""

    kind = "pruned"
    method: Method
    keep: int | float
    encoder_peak: MemoryPeak | None = field(default=None, init=False)
    """Of the encoder with the selection alone, where arms differ in what they encode."""

    def __post_init__(self) -> None:
        self.methods = (self.method,)

    def make_prompt(self, encoded: Encoded | None = None) -> Mapping[str, Any]:
        """The shorter inputs."""
        return prune_inputs(self.model, self.inputs, keep=self.keep, method=self.method, encoded=encoded)

    def make_request(self) -> Mapping[str, Any]:
        """The shorter inputs."""
        return self.make_prompt()


@dataclass(eq=False)
class EncodedBenchArm(PrunedBenchArm):
    """The same where the encoder sees some of the tiles: `tiles` says how many of how many.

    `beside` is the arm of the same budget that encodes all.
    """

    kind = "encoded"
    encoder: EncoderOptions
    tiles: tuple[int, int]
    beside: PrunedBenchArm

    def prepare(self) -> tuple[Mapping[str, Any], dict[str, float]]:
        """The encoder runs within the selection, which counts its own seconds."""
        settings: dict[str, Any] = {"keep": self.keep, "method": self.method, **vars(self.encoder)}
        short, encoding, selection = prune_timed(self.model, self.inputs, **settings)
        return short, {"encoder": encoding, "selection": selection}

    def make_prompt(self, encoded: Encoded | None = None) -> Mapping[str, Any]:  # noqa: ARG002
        """The shorter inputs, of some tiles."""
        return prune_inputs(self.model, self.inputs, keep=self.keep, method=self.method, **vars(self.encoder))


@dataclass(eq=False)
class LimitBenchArm(BenchArm):
    """The encoder, then the stock model on a prompt of as many tokens, without mask and position ids.

    `ids` (b, length) is the prompt with a word in place of every visual token. `embeds` (b, length, d) has the kept
    visual tokens in their places; it is None for a model that takes no embeddings without their ids. The encoder runs
    first as in every arm, so that the processor's caches are in the same state.
    """

    kind = "limit"
    ids: Tensor
    embeds: Tensor | None

    def make_prompt(self, encoded: Encoded | None = None) -> Mapping[str, Any]:  # noqa: ARG002
        """The inputs of the stock model."""
        return {"input_ids": self.ids} if self.embeds is None else {"inputs_embeds": self.embeds}

    def make_request(self) -> Mapping[str, Any]:
        """Words, from which every model can generate."""
        return {"input_ids": self.ids}
