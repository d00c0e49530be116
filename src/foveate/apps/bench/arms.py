"""The arms: the unpruned model, the pruned one and the limit, each a way to run the same request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from foveate.apps.bench.memory import Peak
from foveate.method import Method
from foveate.models import family_of
from foveate.models.cache import cache_of
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import prune_inputs
from foveate.runtime.timing import StageTimer, kv_bytes, prefill

STAGES = ("encoder", "selection", "prefill")


@dataclass(eq=False)
class Arm(ABC):
    """One way to run a request.

    `kept` are the visual tokens of each picture that the language model sees, `length` the tokens of a prompt.
    What was measured: `seconds` of every stage and of `first_token`, a figure a round; `decode`, seconds of every new
    token after the first; `kv_bytes` after the prefill, None where the model hands no cache out; `peak`, the smallest
    of all requests, as what an allocator keeps for later only adds to it.
    """

    model: Any
    name: str
    kept: int
    length: int
    seconds: dict[str, list[float]] = field(default_factory=dict, init=False)
    decode: list[float] = field(default_factory=list, init=False)
    kv_bytes: int | None = field(default=None, init=False)
    peak: Peak | None = field(default=None, init=False)

    @abstractmethod
    def ready(self) -> tuple[Mapping[str, Any], dict[str, float]]:
        """What the prefill is given, and the seconds of the stages before it."""

    @abstractmethod
    def request(self) -> Mapping[str, Any]:
        """What `generate` is given; what comes before it is part of the request."""

    def round(self) -> dict[str, float]:
        """Seconds of every stage, and of all of them up to the first token's logits."""
        inputs, laps = self.ready()
        clock = StageTimer(self.model.device)
        out = prefill(self.model, inputs)
        clock.lap("prefill")
        cache = cache_of(out) or cache_of(out.get("language_model_outputs") or {})
        self.kv_bytes = None if cache is None else kv_bytes(cache)
        laps |= clock.laps
        return {**laps, "first_token": sum(laps.values())}


@dataclass(eq=False)
class Whole(Arm):
    """The stock model. Its time to first token is that of one stock call, from pixels to logits."""

    inputs: Mapping[str, Any]

    def ready(self) -> tuple[Mapping[str, Any], dict[str, float]]:
        """The encoder's output, handed on whole."""
        clock = StageTimer(self.model.device)
        encoded = encode(self.model, self.inputs)
        clock.lap("encoder")
        words = family_of(self.model).words(self.inputs)
        return prune_inputs(self.model, words, keep=1.0, encoded=encoded), clock.laps

    def request(self) -> Mapping[str, Any]:
        """As the processor gave it."""
        return self.inputs

    def round(self) -> dict[str, float]:
        """The stages, then all of it in one stock call."""
        laps = super().round()
        clock = StageTimer(self.model.device)
        prefill(self.model, self.inputs)
        clock.lap("first_token")
        return {**laps, **clock.laps}


@dataclass(eq=False)
class Pruned(Arm):
    """The encoder, the choice, the prefill of what is left."""

    inputs: Mapping[str, Any]
    method: Method
    keep: int | float

    def ready(self) -> tuple[Mapping[str, Any], dict[str, float]]:
        """The shorter inputs."""
        clock = StageTimer(self.model.device)
        encoded = encode(self.model, self.inputs, methods=[self.method])
        clock.lap("encoder")
        words = family_of(self.model).words(self.inputs)
        short = prune_inputs(self.model, words, keep=self.keep, method=self.method, encoded=encoded)
        clock.lap("selection")
        return short, clock.laps

    def request(self) -> Mapping[str, Any]:
        """The shorter inputs."""
        return prune_inputs(self.model, self.inputs, keep=self.keep, method=self.method)


@dataclass(eq=False)
class Limit(Arm):
    """The encoder, then the stock model on as many tokens outright, with no mask and no position ids.

    `ids` (b, length) are the prompt's, with a word in place of every visual token; `embeds` (b, length, d) the words
    and the visual tokens that stay, None for a model that takes no embeddings without their ids.
    """

    inputs: Mapping[str, Any]
    ids: Tensor
    embeds: Tensor | None

    def ready(self) -> tuple[Mapping[str, Any], dict[str, float]]:
        """Nothing is chosen; that the encoder has just run is the same for all arms, and caches remember it."""
        clock = StageTimer(self.model.device)
        encode(self.model, self.inputs)
        clock.lap("encoder")
        return self.prompt(), clock.laps

    def prompt(self) -> Mapping[str, Any]:
        """What the stock model is given."""
        return {"input_ids": self.ids} if self.embeds is None else {"inputs_embeds": self.embeds}

    def request(self) -> Mapping[str, Any]:
        """Words, from which every model can generate."""
        return {"input_ids": self.ids}
