"""The questions: the tasks of the drawn world, or the user's own from a file."""

import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError, InputError
from foveate.runtime.files import open_image
from foveate.world.clip_questions import CLIP_TASKS
from foveate.world.drawing import draw_scene
from foveate.world.questions import CROWDED, TASKS
from foveate.world.screens import SCREEN_TASKS
from foveate.world.suite import SPLITS, sample_cases, sample_clips


@dataclass(frozen=True)
class EvalExample:
    """One question about one image; any of `answers` is right. `id` is unique, `image` opens or draws the image.

    With the `modality` "video" it draws the frames of a clip, with "images" a history of images, the oldest first.
    """

    id: str
    task: str
    question: str
    answers: tuple[str, ...]
    image: Callable[[], Any]
    modality: str = "image"


def sample_examples(tasks: Sequence[str], split: str, limit: int, seed: int = 0) -> list[EvalExample]:
    """`limit` held-out questions of each of these tasks of the bundled world, one for each image.

    "all" stands for every task about an image, "plain" for those with up to six objects, "crowded" for those with more,
    "clips" for those about clips, "screens" for those about histories of screenshots.

    `split` is "dev" (to tune on) or "test" (to report). Raises `InputError` for an unknown task or split.
    """
    groups = {"all": TASKS, "crowded": CROWDED, "plain": tuple(task for task in TASKS if task not in CROWDED)}
    groups |= {"clips": CLIP_TASKS, "screens": SCREEN_TASKS}
    names = list(dict.fromkeys(task for name in tasks for task in groups.get(name, (name,))))
    known = (*TASKS, *CLIP_TASKS, *SCREEN_TASKS)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            raise InputError(f"There is no task {name!r}: {hint}")
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}: use {' or '.join(SPLITS)}.")
    if len({name_modality(name) for name in names}) > 1:
        raise InputError("Images, clips and screens are evaluated apart: give the tasks of one of them.")
    return [example for task in names for example in _sample_task(task, split, limit, seed)]


def _sample_task(task: str, split: str, limit: int, seed: int) -> list[EvalExample]:
    modality = name_modality(task)
    if modality == "image":
        cases = sample_cases(split, task, limit, seed)
        drawn: list[Any] = [(case.id, case.question, partial(draw_scene, case.scene)) for case in cases]
    else:
        drawn = [(clip.id, clip.question, clip.frames) for clip in sample_clips(split, task, limit, seed)]
    return [EvalExample(name, task, ask.text, (ask.answer,), draw, modality) for name, ask, draw in drawn]


def name_modality(task: str) -> str:
    """What a task of the bundled world is about: "image", "video" or "images"."""
    return "video" if task in CLIP_TASKS else "images" if task in SCREEN_TASKS else "image"


def read_data(
    path: Path, limit: int | None = None, *, needs_answers: bool = True
) -> tuple[list[EvalExample], list[str]]:
    """The user's questions, at most `limit` of them, and a sentence for each line that was skipped.

    A line is `{"image": path, "question": text, "answer": text or [texts]}`, optionally with "id" and "task", or with
    "images", a list of paths, for a question about several; a relative path starts at the file's folder. Without
    `needs_answers` a line may lack its answer. Every image is opened once, so that errors show before the run.

    Raises `InputError` if the file cannot be read or no line of it can be used.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a file of JSON lines in UTF-8.") from error
    examples: dict[str, EvalExample] = {}
    skipped = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (limit is not None and len(examples) == limit):
            continue
        try:
            example = _parse_line(line, number, path, needs_answers)
            if example.id in examples:
                raise InputError(f"its id {example.id!r} is not unique: give every line its own.")
        except FoveateError as error:
            skipped.append(f"Line {number} of {path.name} was skipped: {error}")
        else:
            examples[example.id] = example
    if not examples:
        raise InputError(f"{path} has no usable question: {skipped[0] if skipped else 'it is empty.'}")
    usable = list(examples.values())
    if any(example.modality == "images" for example in usable):
        usable = [_as_several(example) for example in usable]
    return usable, skipped


def hash_data(path: Path) -> str:
    """The SHA-256 of the file of questions. Raises `InputError` if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}): leave it until the run is over.") from error


def _parse_line(line: str, number: int, path: Path, needs_answers: bool) -> EvalExample:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise InputError('it is no JSON object: write {"image": ..., "question": ..., "answer": ...}.')
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise InputError("'question' is missing or no text.")
    names = row["images"] if "images" in row else [row.get("image")]
    if not isinstance(names, list) or not names or not all(isinstance(each, str) and each.strip() for each in names):
        raise InputError("'image' is missing or no text (or 'images' no list of texts).")
    if not needs_answers:
        row.setdefault("answer", "")
    answers = row["answer"] if isinstance(row.get("answer"), list) else [row.get("answer")]
    if not answers or not all(isinstance(answer, (str, int, float)) for answer in answers):
        raise InputError("'answer' is missing, or neither a text nor a list of texts.")
    paths = [path.parent / each for each in names]
    for each in paths:
        open_image(each)
    several = "images" in row
    return EvalExample(
        str(row.get("id", f"line-{number}")), str(row.get("task", "data")), question, tuple(map(str, answers)),
        partial(_open_all, paths) if several else partial(open_image, paths[0]), "images" if several else "image",
    )  # fmt: skip


def _open_all(paths: Sequence[Path]) -> list[Any]:
    return [open_image(path) for path in paths]


def _as_several(example: EvalExample) -> EvalExample:
    """A question about one image as one about several, since a run's questions are all of one kind."""
    return (
        example
        if example.modality == "images"
        else replace(example, image=lambda: [example.image()], modality="images")
    )


def frame_questions(examples: Sequence[EvalExample], prefix: str = "", suffix: str = "") -> list[EvalExample]:
    """The questions with a text before and behind each, such as " Answer with one word."."""
    return [replace(example, question=f"{prefix}{example.question}{suffix}") for example in examples]
