"""Held-out questions for every task, on a split to choose settings with ("dev") and one to report on ("test")."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

from PIL import Image

from foveate.world.clip_questions import CLIP_TASKS, make_clip_question
from foveate.world.clips import draw_frames, sample_clip
from foveate.world.diagrams import draw_diagram, list_diagram_questions, sample_diagram
from foveate.world.documents import DOCUMENTS, draw_document, sample_document, sample_fact
from foveate.world.pages import PAGE_TASKS, make_page_question, sample_page
from foveate.world.plain_questions import Question
from foveate.world.questions import TASKS, TASKS_OF_KIND, make_question
from foveate.world.scenes import CHARTS, Scene, sample_scene
from foveate.world.screens import SCREEN_TASKS, draw_shots, make_screen_question, sample_screens

# Streams of scenes. Training draws from odd streams only, so it never draws from these.
SPLITS = {"dev": 2, "test": 4}
KINDS = {task: kind for kind, tasks in TASKS_OF_KIND.items() for task in tasks}
DOCUMENT_TASKS = (*DOCUMENTS, "diagram")
APART = 1_000_000  # scenes between the tasks of a stream


@dataclass(frozen=True)
class HeldOutCase:
    """One question about one scene; `id` never changes."""

    id: str
    scene: Scene
    question: Question


def sample_cases(split: str, task: str, limit: int, seed: int = 0) -> list[HeldOutCase]:
    """Sample `limit` questions of the task, each about its own scene. A larger limit only appends to a smaller one."""
    return list(islice(_generate_cases(split, task, seed), limit))


def _generate_cases(split: str, task: str, seed: int) -> Iterator[HeldOutCase]:
    stream = SPLITS[split] + 4 * seed
    for index in count(APART * TASKS.index(task)):
        rng = random.Random(f"foveate {stream} {index}")
        kind = rng.choice(CHARTS) if task == "chart" else KINDS.get(task, "scene")
        scene = sample_scene(stream, index, kind)
        question = make_question(scene, task, rng)
        if question is not None:
            yield HeldOutCase(f"{split}-{seed}-{task}-{index % APART}", scene, question)


def sample_pages(split: str, task: str, limit: int, seed: int = 0, side: int = 1344) -> list[HeldOutCase]:
    """Sample `limit` questions of a task about pages of side x side pixels, as `sample_cases` does for scenes."""
    return list(islice(_generate_pages(split, task, seed, side), limit))


def _generate_pages(split: str, task: str, seed: int, side: int) -> Iterator[HeldOutCase]:
    stream = SPLITS[split] + 4 * seed
    for index in count(APART * PAGE_TASKS.index(task)):
        page = sample_page(stream, index, "form" if task == "form" else "sheet", side)
        question = make_page_question(page, task, random.Random(f"foveate page question {stream} {index}"))
        if question is not None:
            yield HeldOutCase(f"{split}-{seed}-{task}-{side}-{index % APART}", page, question)


@dataclass(frozen=True)
class HeldOutDocument:
    """One question about one document or diagram, drawn by `image`; `id` never changes."""

    id: str
    image: Callable[[], Image.Image]
    question: Question


def sample_documents(split: str, task: str, limit: int, seed: int = 0) -> list[HeldOutDocument]:
    """Sample `limit` questions of a task, each about a document or a diagram of its own, as `sample_cases` does."""
    stream, first = SPLITS[split] + 4 * seed, APART * DOCUMENT_TASKS.index(task)
    cases = []
    for index in range(first, first + limit):
        draw, questions = sample_shown(stream, index, task)
        question = sample_fact(questions, random.Random(f"foveate document question {stream} {index}"))
        cases.append(HeldOutDocument(f"{split}-{seed}-{task}-{index - first}", draw, question))
    return cases


def sample_shown(stream: int, index: int, task: str) -> tuple[Callable[[], Image.Image], Sequence[Question]]:
    """What draws a document or a diagram, and every question that it answers."""
    if task == "diagram":
        diagram = sample_diagram(stream, index)
        return partial(draw_diagram, diagram), list_diagram_questions(diagram)
    document = sample_document(stream, index, task)
    return partial(draw_document, document), document.questions


@dataclass(frozen=True)
class HeldOutClip:
    """One question about one clip or one history of screenshots, drawn by `frames`; `id` never changes."""

    id: str
    frames: Callable[[], list[Image.Image]]
    question: Question


def sample_clips(split: str, task: str, limit: int, seed: int = 0) -> list[HeldOutClip]:
    """Sample `limit` questions of a task about clips or screens, as `sample_cases` does for images."""
    generate = _generate_clips if task in CLIP_TASKS else _generate_screens
    return list(islice(generate(split, task, seed), limit))


def _generate_clips(split: str, task: str, seed: int) -> Iterator[HeldOutClip]:
    stream = SPLITS[split] + 4 * seed
    for index in count(APART * CLIP_TASKS.index(task)):
        clip = sample_clip(stream, index)
        question = make_clip_question(clip, task, random.Random(f"foveate clip question {stream} {index}"))
        if question is not None:
            yield HeldOutClip(f"{split}-{seed}-{task}-{index % APART}", partial(draw_frames, clip), question)


def _generate_screens(split: str, task: str, seed: int) -> Iterator[HeldOutClip]:
    stream = SPLITS[split] + 4 * seed
    for index in count(APART * SCREEN_TASKS.index(task)):
        screens = sample_screens(stream, index)
        question = make_screen_question(screens, task, random.Random(f"foveate screen question {stream} {index}"))
        if question is not None:
            yield HeldOutClip(f"{split}-{seed}-{task}-{index % APART}", partial(draw_shots, screens), question)
