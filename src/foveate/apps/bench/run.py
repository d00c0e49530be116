"""The run: every batch size and image size in turn."""

import warnings
from collections.abc import Sequence
from functools import partial

import torch
from rich.console import Console
from rich.progress import Progress

from foveate.apps.bench.measure import BenchCase, count_turns, measure_case, prepare_case
from foveate.apps.bench.model import BenchModel
from foveate.apps.bench.published import Size
from foveate.apps.bench.settings import Budget, format_size
from foveate.apps.encoder import EncoderOptions
from foveate.errors import FoveateWarning, InputError


def run(
    model: BenchModel, budgets: Sequence[Budget], batches: Sequence[int] = (1,), sizes: Sequence[Size] | None = None, *,
    rounds: int = 5, new_tokens: int = 8, encoders: Sequence[EncoderOptions] = (),
) -> list[BenchCase]:  # fmt: skip
    """Measure a model; `sizes` (height, width) default to its own. Each budget is measured with `encoders` too.

    Raises a `FoveateError` if a method or a size cannot be used on it, before anything is measured, and `InputError`
    if an accelerator's memory is too small.
    """
    console = Console(stderr=True)
    pairs = [(batch, size) for size in sizes or [model.size] for batch in batches]
    with warnings.catch_warnings(), Progress(console=console, disable=not console.is_terminal) as bar:
        warnings.simplefilter("ignore", FoveateWarning)  # the cases' notes contain them
        try:
            cases = [
                prepare_case(
                    model.model, model.make_inputs(batch, size), budgets, batch=batch, size=size, encoders=encoders
                )
                for batch, size in pairs
            ]
            for case in cases:
                name = f"batch {case.batch}, image {format_size(case.size)}"
                task = bar.add_task(name, total=count_turns(case, rounds))
                measure_case(case, rounds=rounds, new_tokens=new_tokens, on_turn=partial(bar.advance, task))
        except torch.OutOfMemoryError as error:
            raise InputError(
                "The run does not fit into the accelerator's memory: give a smaller --batch, --image-size or --layers."
            ) from error
    return cases
