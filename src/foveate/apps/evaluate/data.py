"""The user's own questions: a file of JSON lines about images and clips."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from foveate.apps.evaluate.examples import EvalExample
from foveate.errors import FoveateError, InputError
from foveate.runtime.addresses import to_path
from foveate.runtime.files import open_image
from foveate.runtime.video import read_clip, read_frames

MAX_FRAMES = 16


def read_data(
    path: Path, limit: int | None = None, *, needs_answers: bool = True, max_frames: int = MAX_FRAMES
) -> tuple[list[EvalExample], list[str]]:
    """The user's questions, at most `limit` of them, and a sentence for each line that was skipped.

    A line is `{"image": path, "question": text, "answer": text or [texts]}`, optionally with "id" and "task". "images"
    is a list of paths, "video" the path of a clip and "videos" a list of such; images and clips may stand together. A
    relative path starts at the file's folder. Without `needs_answers` a line may lack its answer. Every image and the
    first frame of every clip is opened once, so that errors show before the run.

    Args:
        path: The file.
        limit: Questions, at most.
        needs_answers: Whether a line without an answer is skipped.
        max_frames: Frames of a clip that are shown, evenly in time, at most.

    Raises:
        InputError: The file cannot be read, no line of it can be used, or clips need a package.
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
            example = _parse_line(line, number, path, needs_answers, max_frames)
            if example.id in examples:
                raise InputError(f"its id {example.id!r} is not unique: give every line its own.")
        except FoveateError as error:
            if isinstance(error.__cause__, ImportError):  # no clip of any line can be read
                raise
            skipped.append(f"Line {number} of {path.name} was skipped: {error}")
        else:
            examples[example.id] = example
    if not examples:
        raise InputError(f"{path} has no usable question: {skipped[0] if skipped else 'it is empty.'}")
    return _unify(list(examples.values())), skipped


def hash_data(path: Path) -> str:
    """The SHA-256 of the file of questions. Raises `InputError` if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}): leave it until the run is over.") from error


def _parse_line(line: str, number: int, path: Path, needs_answers: bool, max_frames: int) -> EvalExample:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise InputError('it is no JSON object: write {"image": ..., "question": ..., "answer": ...}.')
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise InputError("'question' is missing or no text.")
    images, clips = _list_files(row, "image", path), _list_files(row, "video", path)
    if not images and not clips:
        raise InputError("'image' is missing: name a file there or in 'video', or several in 'images' or 'videos'.")
    if not needs_answers:
        row.setdefault("answer", "")
    answers = row["answer"] if isinstance(row.get("answer"), list) else [row.get("answer")]
    if not answers or not all(isinstance(answer, (str, int, float)) for answer in answers):
        raise InputError("'answer' is missing, or neither a text nor a list of texts.")
    for each in images:
        open_image(each)
    for each in clips:
        next(read_frames(each))
    modality = "media" if clips else "images" if row.get("images") is not None else "image"
    return EvalExample(
        str(row.get("id", f"line-{number}")), str(row.get("task", "data")), question, tuple(map(str, answers)),
        partial(open_image, images[0]) if modality == "image" else partial(_open_all, images, clips, max_frames),
        modality,
    )  # fmt: skip


def _list_files(row: Mapping[str, Any], kind: str, path: Path) -> list[Path]:
    """The files that a line names: `image` is one, `images` a list of them."""
    one, several = row.get(kind), row.get(f"{kind}s")
    if one is not None and several is not None:
        raise InputError(f"it has {kind!r} and '{kind}s': leave one of them out.")
    names = several if several is not None else [] if one is None else [one]
    is_given = one is not None or several is not None
    is_list = isinstance(names, list) and all(isinstance(each, str) and each.strip() for each in names)
    if is_given and not (is_list and names):
        raise InputError(f"{kind!r} is no text (or '{kind}s' no list of texts).")
    return [path.parent / to_path(each) for each in names]


def _open_all(images: Sequence[Path], clips: Sequence[Path], max_frames: int) -> list[Any]:
    """The images, then the frames of each clip with their times."""
    return [*(open_image(path) for path in images), *(read_clip(path, max_frames) for path in clips)]


def _unify(examples: Sequence[EvalExample]) -> list[EvalExample]:
    """The questions as those of one kind, since a run's questions are."""
    kinds = {example.modality for example in examples}
    kind = next(each for each in ("media", "images", "image") if each in kinds)
    return [
        replace(example, image=partial(_open_one, example), modality=kind)
        if example.modality == "image" != kind
        else replace(example, modality=kind)
        for example in examples
    ]


def _open_one(example: EvalExample) -> list[Any]:
    return [example.image()]
