"""How requests arrive: how many questions there are about an image, and when each one is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foveate.errors import InputError
from foveate.integrations.vllm.settings import REUSE


@dataclass(frozen=True)
class LoadCase:
    """A way for requests to arrive.

    Args:
        questions: about each image.
        clients: of which each sends its next request when the last one is answered; 0 where `rate` is given.
        rate: requests a second that arrive at random (a Poisson process), whether earlier ones are answered or not.
        is_relative: whether `rate` counts in what the unpruned model answers in a second with the most clients.
    """

    questions: int = 1
    clients: int = 0
    rate: float = 0.0
    is_relative: bool = False

    def resolve(self, throughput: float) -> LoadCase:
        """With a rate in requests a second, from the unpruned model's `throughput`."""
        return replace(self, rate=self.rate * throughput, is_relative=False) if self.is_relative else self

    def describe(self) -> str:
        """For the head of a table."""
        sent = f"{self.clients} at a time" if self.clients else f"{self.rate:.3g} a second at random"
        return f"{sent}, {self.questions} question{'s' * (self.questions > 1)} about each image"


@dataclass(frozen=True)
class LatencyBound:
    """Within how many seconds the first token, and each further one, must come for an answer to count."""

    first: float
    per_token: float


def make_cases(
    concurrency: Sequence[int], questions: Sequence[int], rates: Sequence[tuple[float, bool]]
) -> list[LoadCase]:
    """All combinations; those with a rate come behind all others, some of which they count by."""
    closed = [LoadCase(count, clients=clients) for count in questions for clients in concurrency]
    return closed + [LoadCase(count, rate=rate, is_relative=by) for count in questions for rate, by in rates]


def parse_rates(text: str | None) -> list[tuple[float, bool]]:
    """`"0.5,0.8x"`: requests a second, and times (x) what the unpruned model answers, as (rate, is_relative)."""
    if text is None:
        return []
    rates = []
    for part in text.split(","):
        number = part.strip().removesuffix("x")
        try:
            rate = float(number)
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf"):
            raise InputError(f"--rate {part.strip()!r}: give requests a second, or times the unpruned ones, as 0.8x.")
        rates.append((rate, part.strip().endswith("x")))
    return rates


def parse_bound(text: str | None) -> LatencyBound | None:
    """`"1000,100"`: milliseconds to the first token and for each further one."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise InputError(f"--bound {text!r}: give milliseconds to the first and for each further token, as 1000,100.")
    return LatencyBound(int(parts[0]) / 1000, int(parts[1]) / 1000)


def parse_reuse(text: str) -> list[str]:
    """`"question,auto"`: ways to choose the tokens of an image about which there are several questions."""
    ways = [part.strip() for part in text.split(",")]
    for way in ways:
        if way not in REUSE or ways.count(way) > 1:
            raise InputError(f"--reuse {text!r}: give some of {', '.join(REUSE)}, each once.")
    return ways


def order_requests(count: int, case: LoadCase, seed: int) -> list[tuple[int, int]]:
    """At least `count` requests as (image, question), with all questions about the last image too.

    With clients, each client asks all questions about its image before the next one. At a rate, users are many: the
    questions about an image come at any time.
    """
    images = -(-count // case.questions)
    block = case.clients or images
    pairs = [
        (image, question)
        for start in range(0, images, block)
        for question in range(case.questions)
        for image in range(start, min(start + block, images))
    ]
    return pairs if case.clients else [pairs[n] for n in np.random.default_rng(seed).permutation(len(pairs))]


def draw_arrivals(count: int, rate: float, seed: int) -> list[float]:
    """Seconds at which requests of a Poisson process arrive, from its start."""
    times: list[float] = np.random.default_rng(seed).exponential(1 / rate, count).cumsum().tolist()
    return times
