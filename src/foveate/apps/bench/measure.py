"""The measurement: every arm takes its turn, round by round."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from foveate.apps.bench.arms import Arm, Limit, Pruned, Whole
from foveate.apps.bench.memory import peak_of
from foveate.apps.bench.settings import Budget
from foveate.models import family_of
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import PrunedInputs, answers_apart, prune_inputs
from foveate.runtime.timing import StageTimer, prefill

REQUESTS = 3  # whole requests, for memory and decoding, after the timed rounds


@dataclass(frozen=True, eq=False)
class Case:
    """One batch and picture size, measured: `total` visual tokens a picture, `notes` on what could not be measured."""

    batch: int
    size: tuple[int, int]
    total: int
    whole: Whole
    pruned: Sequence[Pruned]
    limits: Mapping[int, Limit]
    """By their length."""
    notes: tuple[str, ...]

    @property
    def arms(self) -> list[Arm]:
        """All of them, each limit after the arms that it is the limit of."""
        found: list[Arm] = [self.whole]
        for i, arm in enumerate(self.pruned):
            found.append(arm)
            later = {other.length for other in self.pruned[i + 1 :]}
            if arm.length in self.limits and arm.length not in later:
                found.append(self.limits[arm.length])
        return found


@torch.no_grad()
def prepare(
    model: Any, inputs: Mapping[str, Any], budgets: Sequence[Budget], *,
    batch: int, size: tuple[int, int],
) -> Case:  # fmt: skip
    """The arms for these inputs: unpruned, (name, method, keep) of `budgets`, and the limit of every length.

    Raises a `FoveateError` if a method cannot be used on the model.
    """
    family, notes = family_of(model), []
    encoded = encode(model, inputs, methods=[method for _, method, _ in budgets])
    total = len(family.features(encoded.outputs["image"])[0])
    length = inputs["input_ids"].shape[1]
    pruned: list[Pruned] = []
    limits: dict[int, Limit] = {}
    if not family.in_sequence:
        notes.append(
            f"No limit: the language model of {family.model_type!r} does not read its pictures in the prompt's own "
            "sequence, so that there is no shorter prompt to compare with."
        )
    if answers_apart(model):
        notes.append("Selection includes the model's own encoder, which reads the words and the tokens that stay.")
    for name, method, keep in budgets:
        short = prune_inputs(model, family.words(inputs), keep=keep, method=method, encoded=encoded)
        kept = len(short.report.kept[0])
        cut = length - (total - kept) if family.in_sequence else length
        pruned.append(Pruned(model, f"{name} {keep}", kept, cut, inputs, method, keep))
        told = [*short.report.notes, *([f"{name} {keep} keeps all {total} visual tokens."] if kept == total else [])]
        notes += [note for note in told if note not in notes]
        if family.in_sequence and cut not in limits:
            limits[cut] = _limit(model, inputs, short, kept, cut)
    if any(limit.embeds is None for limit in limits.values()):
        notes.append("The limit is a prompt of as many words: this model takes no embeddings without their ids.")
    return Case(batch, size, total, Whole(model, "unpruned", total, length, inputs), pruned, limits, tuple(notes))


def _limit(model: Any, inputs: Mapping[str, Any], short: PrunedInputs, kept: int, length: int) -> Limit:
    """The limit of these shorter inputs."""
    family, ids = family_of(model), short["input_ids"]
    places = family.placeholders(model.config, short) & (short["attention_mask"] != 0)
    tokens = torch.cat(list(family.features(short["mm_encoder_outputs"]["image"])))
    words, words_only = model.get_input_embeddings()(ids), ids.masked_fill(places, int(ids[0, -1]))
    embeds = words.masked_scatter(places[..., None], tokens.to(words))
    found = Limit(model, f"limit, {kept} tokens", kept, length, inputs, words_only, embeds)
    try:
        prefill(model, found.prompt())
    except Exception:  # models refuse what they cannot be given with whatever they run into
        found.embeds = None
    return found


@torch.no_grad()
def measure(case: Case, *, rounds: int, new_tokens: int, tell: Callable[[], object] = lambda: None) -> None:
    """Fill the arms of a case: a warm-up, the timed rounds, then whole requests for memory and decoding.

    In every round each arm takes its turn, a different one first each time. `tell` is called after every turn.
    """
    arms = case.arms
    with _still():
        for number in range(-1, rounds):
            shift = max(0, number) % len(arms)
            for arm in arms[shift:] + arms[:shift]:
                gc.collect()
                found = arm.round()
                if number >= 0:
                    for stage, seconds in found.items():
                        arm.seconds.setdefault(stage, []).append(seconds)
                tell()
        for _ in range(REQUESTS):
            for arm in arms:
                peak = peak_of(partial(_answer, arm, new_tokens), arm.model.device)
                if peak is not None and (arm.peak is None or peak.above < arm.peak.above):
                    arm.peak = peak
                tell()


def turns(case: Case, rounds: int) -> int:
    """How often `measure` calls `tell`."""
    return len(case.arms) * (rounds + 1 + REQUESTS)


@contextmanager
def _still() -> Iterator[None]:
    """Garbage is collected when we say so, and what is there already is not looked through again each time."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _answer(arm: Arm, new_tokens: int) -> None:
    """A whole request; the time between one new token and the next is noted."""
    stamps: list[float] = []

    def stamp(ids: Tensor, *_: Any, **__: Any) -> Tensor:
        """Looks at the clock after every token, and never stops."""
        StageTimer(ids.device)  # waits for the accelerator
        stamps.append(time.perf_counter())
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    count = new_tokens + 1  # the first one is the prefill's
    settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "num_beams": 1}
    arm.model.generate(**arm.request(), **settings, stopping_criteria=[stamp])
    arm.decode += [after - before for before, after in pairwise(stamps)]
