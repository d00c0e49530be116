"""The measurement: the arms take turns, round by round."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor

from foveate.apps.bench.arms import BenchArm, EncodedBenchArm, LimitBenchArm, PrunedBenchArm, UnprunedBenchArm
from foveate.apps.bench.memory import MemoryPeak, measure_peak
from foveate.apps.bench.settings import Budget
from foveate.apps.encoder import WHOLE, EncoderOptions
from foveate.models import family_of
from foveate.models.generation import has_own_decoder
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.report import PrunedInputs
from foveate.runtime.timing import StageTimer, prefill

REQUESTS = 3  # whole requests after the timed rounds, for memory and decoding; no more than rounds


@dataclass(frozen=True, eq=False)
class BenchCase:
    """One batch and image size: `total` visual tokens a prompt, `limits` by length, `notes` on what is missing."""

    batch: int
    size: tuple[int, int]
    total: int
    unpruned: UnprunedBenchArm
    pruned: Sequence[PrunedBenchArm]
    limits: Mapping[int, LimitBenchArm]
    notes: tuple[str, ...]

    @property
    def with_encoder(self) -> Sequence[PrunedBenchArm]:
        """The arms whose encoders are compared: all pruned ones where one of them leaves out tiles."""
        return self.pruned if any(isinstance(arm, EncodedBenchArm) for arm in self.pruned) else ()

    @property
    def arms(self) -> list[BenchArm]:
        """All of them, each limit after the last arm with its length."""
        arms: list[BenchArm] = [self.unpruned]
        for i, arm in enumerate(self.pruned):
            arms.append(arm)
            later = {other.length for other in self.pruned[i + 1 :]}
            if arm.length in self.limits and arm.length not in later:
                arms.append(self.limits[arm.length])
        return arms


@torch.no_grad()
def prepare_case(
    model: Any, inputs: Mapping[str, Any], budgets: Sequence[Budget], *, batch: int, size: tuple[int, int],
    encoders: Sequence[EncoderOptions] = (),
) -> BenchCase:  # fmt: skip
    """The arms for these inputs: unpruned, (name, method, keep) of `budgets`, and the limit of every length.

    Behind every budget stands the same for each of `encoders`, which leave out tiles. All rows of `inputs` have the
    same length. Raises a `FoveateError` if a method cannot be used on the model.
    """
    family, notes = family_of(model), []
    encoded = encode(model, inputs, methods=[method for _, method, _ in budgets])
    length = total = inputs["input_ids"].shape[1]
    pruned: list[PrunedBenchArm] = []
    limits: dict[int, LimitBenchArm] = {}
    if not family.traits.in_sequence:
        notes.append(
            f"No limit: the language model of {family.model_type!r} does not read its images in the prompt's own "
            "sequence, so that there is no shorter prompt to compare with."
        )
    if has_own_decoder(model):
        notes.append("Selection includes the model's own encoder, which reads the text and the kept tokens.")
    for (name, method, keep), encoder in product(budgets, (WHOLE, *encoders)):
        ready, label = encoded if encoder.is_whole else None, ", ".join(filter(None, (f"{name} {keep}", encoder.label)))
        short = prune_inputs(model, inputs, keep=keep, method=method, encoded=ready, **vars(encoder))
        kept, total = _count_tokens(short)
        short_length = length - (total - kept) if family.traits.in_sequence else length
        own = (model, label, kept, short_length, inputs, method, keep)
        tiles = short.report.tile_counts
        if tiles is None:
            pruned.append(PrunedBenchArm(*own))
        else:
            pruned.append(EncodedBenchArm(*own, encoder, tiles, pruned[-1 - encoders.index(encoder)]))
        notes += short.report.notes
        if kept == total:
            notes.append(f"{label} keeps all {total} visual tokens.")
        if family.traits.in_sequence and short_length not in limits:
            limits[short_length] = _make_limit(model, inputs, short, kept, short_length)
    if any(limit.embeds is None for limit in limits.values()):
        notes.append("The limit is a prompt of as many words: this model takes no embeddings without their ids.")
    unpruned = UnprunedBenchArm(model, "unpruned", total, length, inputs)
    return BenchCase(batch, size, total, unpruned, pruned, limits, tuple(dict.fromkeys(notes)))


def _count_tokens(short: PrunedInputs) -> tuple[int, int]:
    """Visual tokens of the first row, with all tiles of all of its images: how many were kept, and how many it had."""
    first = short.report.by_row().get(0, ())
    return sum(len(item.kept) for item in first), sum(item.total for item in first)


def _make_limit(model: Any, inputs: Mapping[str, Any], short: PrunedInputs, kept: int, length: int) -> LimitBenchArm:
    """The limit of these shorter inputs."""
    family, ids = family_of(model), short["input_ids"]
    places = family.placeholders(model.config, short) & (short["attention_mask"] != 0)
    tokens = torch.cat(list(family.features(short["mm_encoder_outputs"]["image"])))
    words, words_only = model.get_input_embeddings()(ids), ids.masked_fill(places, int(ids[0, -1]))
    embeds = words.masked_scatter(places[..., None], tokens.to(words))
    limit = LimitBenchArm(model, f"limit, {kept} tokens", kept, length, inputs, words_only, embeds)
    try:
        prefill(model, limit.make_prompt())
    except Exception:  # models refuse embeddings without ids with errors of any type
        limit.embeds = None
    return limit


@torch.no_grad()
def measure_case(
    case: BenchCase, *, rounds: int, new_tokens: int, on_turn: Callable[[], object] = lambda: None
) -> None:
    """Fill the arms of a case: a warm-up, the timed rounds, then whole requests for memory and decoding.

    In every round each arm takes its turn, and another one is first. `on_turn` is called after every turn.
    """
    arms = case.arms
    with _pause_collection():
        for number in range(-1, rounds):
            shift = max(0, number) % len(arms)
            for arm in arms[shift:] + arms[:shift]:
                gc.collect()
                laps = arm.run_round()
                if number >= 0:
                    for stage, seconds in laps.items():
                        arm.seconds.setdefault(stage, []).append(seconds)
                on_turn()
        for _ in range(min(REQUESTS, rounds)):
            for arm in arms:
                arm.peak = _lower(arm.peak, measure_peak(partial(_run_request, arm, new_tokens), arm.model.device))
                on_turn()
            for pruned in case.with_encoder:
                pruned.encoder_peak = _lower(
                    pruned.encoder_peak, measure_peak(pruned.make_request, pruned.model.device)
                )
                on_turn()


def _lower(one: MemoryPeak | None, other: MemoryPeak | None) -> MemoryPeak | None:
    """The smaller peak of those that were counted."""
    return min(filter(None, (one, other)), key=lambda peak: peak.above, default=None)


def count_turns(case: BenchCase, rounds: int) -> int:
    """How often `measure_case` calls `on_turn`."""
    requests = min(REQUESTS, rounds)
    return len(case.arms) * (rounds + 1 + requests) + len(case.with_encoder) * requests


@contextmanager
def _pause_collection() -> Iterator[None]:
    """Collect garbage only on request, and do not search the objects that exist already each time."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _run_request(arm: BenchArm, new_tokens: int) -> None:
    """Run a whole request, and record the time from each new token to the next."""
    stamps: list[float] = []

    def stamp(ids: Tensor, *_: Any, **__: Any) -> Tensor:
        """Read the clock after every token, and never stop."""
        StageTimer(ids.device)  # waits for the accelerator
        stamps.append(time.perf_counter())
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    count = new_tokens + 1  # the first one is the prefill's
    settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "num_beams": 1}
    arm.model.generate(**arm.make_request(), **settings, stopping_criteria=[stamp])
    arm.decode += [after - before for before, after in pairwise(stamps)]
