"""`ask FOLDER`: the same question about each image of a folder by itself, answered by the pruned model alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate.apps.ask import answer_pruned, make_question_inputs
from foveate.apps.encoder import WHOLE, EncoderOptions
from foveate.errors import FoveateError
from foveate.method import Method
from foveate.models import family_of
from foveate.pipeline.follow import find_policy
from foveate.pipeline.parts import check_encoder
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.settings import Keep, Positions, check_settings
from foveate.runtime.arguments import open_images
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.retry import find_retrying
from foveate.runtime.warnings import collect_warnings


@dataclass(frozen=True)
class FileAnswer:
    """The answer about a file, with its kept and all visual tokens; or `problem`, why there is none."""

    name: str
    answer: str | None = None
    kept: int = 0
    total: int = 0
    retried: bool = False
    notes: tuple[str, ...] = ()
    problem: str | None = None


def answer_files(
    loaded: LoadedModel,
    paths: Sequence[Path],
    question: str,
    *,
    keep: Keep,
    method: str | Method = "foveate",
    positions: Positions = "original",
    encoder: EncoderOptions = WHOLE,
    max_new_tokens: int = 64,
    retry: bool = False,
) -> Iterator[FileAnswer]:
    """Answer greedily about one file after another. What is wrong with one does not stop the others.

    The settings are those of `ask`. Raises a `FoveateError` at the first file if the model or the settings cannot be
    used.
    """
    model = loaded.model
    keep = find_retrying(model, keep, method, positions) if retry else keep
    settings: dict[str, Any] = {"keep": keep, "method": method, "positions": positions, **vars(encoder)}
    checked = check_settings(**settings)
    check_encoder(family_of(model), checked)
    find_policy(model, checked)
    for path in paths:
        try:
            yield _answer_file(loaded, path, question, settings, max_new_tokens)
        except FoveateError as error:
            yield FileAnswer(path.name, problem=str(error))


def _answer_file(
    loaded: LoadedModel, path: Path, question: str, settings: dict[str, Any], max_new_tokens: int
) -> FileAnswer:
    with torch.no_grad(), collect_warnings() as notes:
        inputs = make_question_inputs(loaded, open_images(str(path)), question)
        short = prune_inputs(loaded.model, inputs, **settings)
        result = answer_pruned(loaded, inputs, settings, short, max_new_tokens)
    report = short.report
    about = tuple(dict.fromkeys([*notes, *report.notes]))
    return FileAnswer(path.name, result.output, report.kept_count, report.total_count, result.retried, about)
