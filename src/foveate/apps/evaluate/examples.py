"""The questions, and those of the drawn world's tasks."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from foveate.errors import InputError
from foveate.world.clip_questions import CLIP_TASKS
from foveate.world.drawing import draw_scene
from foveate.world.pages import PAGE_TASKS, SIDES as PAGE_SIDES
from foveate.world.questions import CROWDED, TASKS
from foveate.world.screens import SCREEN_TASKS
from foveate.world.suite import DOCUMENT_TASKS, SPLITS, sample_cases, sample_clips, sample_documents, sample_pages


@dataclass(frozen=True)
class EvalExample:
    """One question about one image; any of `answers` is right. `id` is unique, `image` opens or draws the image.

    With the `modality` "video" it draws the frames of a clip, with "images" a history of images, the oldest first; with
    "media" it opens images and clips, a clip as a list of (seconds, image).
    """

    id: str
    task: str
    question: str
    answers: tuple[str, ...]
    image: Callable[[], Any]
    modality: str = "image"


def sample_examples(tasks: Sequence[str], split: str, limit: int, seed: int = 0, side: int = 1344) -> list[EvalExample]:
    """`limit` held-out questions of each of these tasks of the bundled world, one for each image.

    "all" stands for every task about an ordinary image, "plain" for those with up to six objects, "crowded" for those
    with more, "pages" for those about large pages, "documents" for those about documents and diagrams in real fonts,
    "clips" for those about clips, "screens" for those about histories of screenshots.

    `split` is "dev" (to tune on) or "test" (to report); pages have `side` x `side` pixels. Raises `InputError` for an
    unknown task, split or side.
    """
    groups = {"all": TASKS, "crowded": CROWDED, "plain": tuple(task for task in TASKS if task not in CROWDED)}
    groups |= {"pages": PAGE_TASKS, "documents": DOCUMENT_TASKS, "clips": CLIP_TASKS, "screens": SCREEN_TASKS}
    names = list(dict.fromkeys(task for name in tasks for task in groups.get(name, (name,))))
    known = (*TASKS, *PAGE_TASKS, *DOCUMENT_TASKS, *CLIP_TASKS, *SCREEN_TASKS)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            raise InputError(f"There is no task {name!r}: {hint}")
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}: use {' or '.join(SPLITS)}.")
    if side not in PAGE_SIDES:
        raise InputError(f"There are no pages of {side} pixels: use one of {', '.join(map(str, PAGE_SIDES))}.")
    if len({name_modality(name) for name in names}) > 1:
        raise InputError("Images, clips and screens are evaluated apart: give the tasks of one of them.")
    return [example for task in names for example in _sample_task(task, split, limit, seed, side)]


def _sample_task(task: str, split: str, limit: int, seed: int, side: int) -> list[EvalExample]:
    modality = name_modality(task)
    if task in DOCUMENT_TASKS:
        drawn: list[Any] = [(it.id, it.question, it.image) for it in sample_documents(split, task, limit, seed)]
    elif modality == "image":
        is_page = task in PAGE_TASKS
        cases = sample_pages(split, task, limit, seed, side) if is_page else sample_cases(split, task, limit, seed)
        drawn = [(case.id, case.question, partial(draw_scene, case.scene)) for case in cases]
    else:
        drawn = [(clip.id, clip.question, clip.frames) for clip in sample_clips(split, task, limit, seed)]
    return [EvalExample(name, task, ask.text, (ask.answer,), draw, modality) for name, ask, draw in drawn]


def name_modality(task: str) -> str:
    """What a task of the bundled world is about: "image", "video" or "images"."""
    return "video" if task in CLIP_TASKS else "images" if task in SCREEN_TASKS else "image"


def frame_questions(examples: Sequence[EvalExample], prefix: str = "", suffix: str = "") -> list[EvalExample]:
    """The questions with a text before and behind each, such as " Answer with one word."."""
    return [replace(example, question=f"{prefix}{example.question}{suffix}") for example in examples]
