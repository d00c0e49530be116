"""A question about a video, answered while it is read."""

import math
from collections.abc import Iterable

from foveate.apps.console import to_line
from foveate.errors import VideoError
from foveate.runtime.reply import Reply
from foveate.runtime.session import Session
from foveate.runtime.video import TimedFrame


def watch(
    session: Session, frames: Iterable[TimedFrame], question: str, *, every: float | None = None,
    max_new_tokens: int = 256,
) -> Reply | None:  # fmt: skip
    """Show frames to a session, and print the answer to a question each `every` seconds and at the end.

    A line for each answer: seconds, a tab, the text. Every answer is a first one: none follows the one before. Where
    the video cannot be decoded to its end, the question is answered about the frames that came.

    Args:
        session: A new session.
        frames: As `read_frames` yields them.
        question: The question.
        every: Seconds of the video between two answers; None for one answer, at the end.
        max_new_tokens: Tokens of an answer, at most.

    Returns:
        The last answer, or None without frames.

    Raises:
        VideoError: As `read_frames`.
        InputError: As `Session.ask`.
    """
    interval, due = every or math.inf, every or math.inf
    reply, shown, problem = None, None, None
    try:
        for seconds, image in frames:
            session.see(image, at=seconds)
            shown, reply = seconds, None
            if seconds >= due:
                reply, due = _answer(session, question, seconds, max_new_tokens), interval * (seconds // interval + 1)
    except VideoError as error:
        problem = error
    if shown is not None and reply is None:
        reply = _answer(session, question, shown, max_new_tokens)
    if problem is not None:
        raise problem
    return reply


def _answer(session: Session, question: str, seconds: float, max_new_tokens: int) -> Reply:
    """Print an answer in one line."""
    reply = session.ask(question, max_new_tokens=max_new_tokens, remember=False)
    print(f"{seconds:.1f}", to_line(str(reply)), sep="\t", flush=True)
    return reply
