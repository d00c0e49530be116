"""How well a model answers questions about held-out scenes, one question a prompt, pruned or not."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foveate.family import family_of
from foveate.prune import prune_inputs
from foveate.world.questions import KINDS, Question, ask
from foveate.world.scenes import Scene, draw_scene, sample_scene

# Scene streams that training never draws from (it uses odd numbers): choose on DEV, report on TEST.
DEV, TEST = 2, 4


@dataclass(frozen=True)
class Case:
    """One question about one scene."""

    scene: Scene
    question: Question


def cases(stream: int, per_kind: int) -> list[Case]:
    """`per_kind` questions of every kind, each about a scene of its own."""
    return [case for kind in KINDS for case in _of_kind(stream, kind, per_kind)]


def _of_kind(stream: int, kind: str, count: int) -> Iterator[Case]:
    index = 1_000_000 * list(KINDS).index(kind)
    while count:
        scene = sample_scene(stream, index)
        question = ask(scene, kind, random.Random(f"foveate {stream} {index}"))
        index += 1
        if question is not None:
            count -= 1
            yield Case(scene, question)


Setting = Mapping[str, Any] | None
"""How to prune: `prune_inputs`' keywords, or None for the whole model."""


@torch.no_grad()
def answers(
    model: Any, processor: Any, asked: Sequence[Case], settings: Mapping[str, Setting], *, batch: int = 16
) -> dict[str, list[str]]:
    """The model's greedy answers to the same questions under every setting; each picture is encoded once for all."""
    found: dict[str, list[str]] = {name: [] for name in settings}
    for start in range(0, len(asked), batch):
        some = asked[start : start + batch]
        inputs = processor(
            text=[prompt(processor, case.question.text) for case in some],
            images=[draw_scene(case.scene) for case in some],
            padding=True,
            return_tensors="pt",
        ).to(model.device, model.dtype)
        encoded = family_of(model).encode(model, inputs)
        words = {name: value for name, value in inputs.items() if name != "pixel_values"}
        for name, setting in settings.items():
            ready = {**words, "mm_encoder_outputs": {"image": encoded}}
            given = ready if setting is None else prune_inputs(model, ready, **setting)
            out = model.generate(**given, max_new_tokens=3, do_sample=False)
            new = processor.batch_decode(out[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
            found[name] += [answer.strip().lower() for answer in new]
    return found


def prompt(processor: Any, question: str) -> str:
    """The chat prompt of one picture and one question."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text: str = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return text


def right(asked: Sequence[Case], given: Sequence[str]) -> list[bool]:
    """Whether each answer is the one expected, to the letter."""
    return [case.question.answer == answer for case, answer in zip(asked, given, strict=True)]


def by_kind(asked: Sequence[Case], marks: Sequence[bool]) -> dict[str, float]:
    """The share of right answers for every kind of question."""
    found: dict[str, list[bool]] = {}
    for case, mark in zip(asked, marks, strict=True):
        found.setdefault(case.question.kind, []).append(mark)
    return {kind: sum(values) / len(values) for kind, values in found.items()}
