"""`foveate watch`."""

import re
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from foveate.apps import budgets, console
from foveate.apps.cli import options
from foveate.apps.cli.loading import takes_load_options
from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|min|m|h|)")
UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
EVERY = "Answer each so many seconds of the video (1s, 500ms, 2min), and at the end; default at the end only."
MEMORY = "At most so many visual tokens in the prompt, of all frames together; default no limit."
REMEMBER = "At most so many visual tokens of all frames are remembered."
VIDEO = "A video file (MP4, MKV, WebM, GIF, ...)."
STEP = "Time between two frames that are shown."


@options.app.command()
@takes_load_options
def watch(
    video: Annotated[Path, typer.Argument(help=VIDEO, metavar="VIDEO", parser=options.parse_file)],
    question: Annotated[str, typer.Argument(help="A question about the video.", metavar="QUESTION")],
    every: Annotated[str | None, typer.Option(help=EVERY, metavar="TIME")] = None,
    step: Annotated[str, typer.Option(help=STEP, metavar="TIME")] = "1s",
    keep: Annotated[str, typer.Option(help="The budget of each frame, as in `ask`.")] = "0.1",
    method: options.MethodName = "foveate",
    model: options.Model = "bundled",
    positions: options.Positions = options.PositionsChoice.original,
    memory: Annotated[int | None, typer.Option(min=1, help=MEMORY)] = None,
    remember: Annotated[int, typer.Option(min=1, help=REMEMBER)] = 4096,
    max_new_tokens: options.MaxNewTokens = 64,
    *,
    loading: LoadOptions,
) -> None:
    """Answer a question about a video while it is read: a line for each answer, with its time in seconds."""
    budget, interval = budgets.parse_budget(keep), parse_duration("--step", step)
    due = None if every is None else parse_duration("--every", every)
    from foveate.apps import watch as video_answers
    from foveate.method.memory import StreamSettings
    from foveate.pipeline.settings import check_settings
    from foveate.runtime.load import load, quiet
    from foveate.runtime.session import Session
    from foveate.runtime.video import read_frames
    from foveate.runtime.warnings import collect_warnings

    check_settings(budget, method, positions.value)
    if not question.strip():
        raise InputError("The question is empty: ask with a text.")
    frames = read_frames(video, interval)
    first = next(frames)  # before a model is loaded
    with collect_warnings() as notes, quiet():
        loaded = load(model, **vars(loading))
        with Session(
            loaded.model, loaded.processor, keep=budget, method=method, positions=positions.value, memory=memory,
            stream=StreamSettings(tokens=remember),
        ) as session:  # fmt: skip
            reply = video_answers.watch(
                session, chain([first], frames), question, every=due, max_new_tokens=max_new_tokens
            )
    console.print_notes(console.limit_notes(notes))
    if reply is not None:
        report = reply.report
        print(f"({report.kept_count} of {report.total_count} visual tokens in the last answer)", file=sys.stderr)


def parse_duration(option: str, text: str) -> float:
    """Seconds. Raises `InputError` for anything but a time above 0."""
    match = DURATION.fullmatch(text.strip().lower())
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"{option} {text!r} is no time above 0: give one such as 1s, 500ms or 2min.")
    return seconds
