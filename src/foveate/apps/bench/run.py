"""The run: every batch size and picture size in turn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from rich.console import Console
from rich.progress import Progress

from foveate.apps.bench.measure import Case, measure, prepare, turns
from foveate.apps.bench.published import Size
from foveate.apps.bench.settings import Budget, shown
from foveate.apps.bench.subject import Subject
from foveate.errors import FoveateWarning, InputError


def run(
    subject: Subject, budgets: Sequence[Budget], batches: Sequence[int] = (1,), sizes: Sequence[Size] | None = None, *,
    rounds: int = 5, new_tokens: int = 8,
) -> list[Case]:  # fmt: skip
    """Measure a subject; `sizes` (height, width) default to its own.

    Raises a `FoveateError` if a method or a size cannot be used on it, before anything is measured.
    """
    console = Console(stderr=True)
    wanted = [(batch, size) for size in sizes or [subject.size] for batch in batches]
    with warnings.catch_warnings(), _fitting(), Progress(console=console, disable=not console.is_terminal) as bar:
        warnings.simplefilter("ignore", FoveateWarning)  # the cases' notes say it too
        cases = [
            prepare(subject.model, subject.inputs(batch, size), budgets, batch=batch, size=size)
            for batch, size in wanted
        ]
        for case in cases:
            name = f"batch {case.batch}, picture {shown(case.size)}"
            task = bar.add_task(name, total=turns(case, rounds))
            measure(case, rounds=rounds, new_tokens=new_tokens, tell=partial(bar.advance, task))
    return cases


@contextmanager
def _fitting() -> Iterator[None]:
    """An accelerator's memory may run out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            "The run does not fit into the accelerator's memory: give a smaller --batch, --image-size or --layers."
        ) from error


def threads() -> int:
    """Of torch on the CPU."""
    return torch.get_num_threads()
