"""A conversation in the terminal."""

import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from PIL import Image

from foveate.errors import FoveateError
from foveate.runtime.addresses import to_path
from foveate.runtime.files import open_image
from foveate.runtime.session import Session
from foveate.runtime.video import SUFFIXES, read_frames

HELP = "Ask a question; /see FILE shows another image or a video, /quit or Ctrl-D ends. Ctrl-C stops an answer."


def open_file(path: str | Path) -> Iterable[tuple[float | None, Image.Image]]:
    """An image without a time, or a frame for each second of a video. Raises a `FoveateError`."""
    path = to_path(str(path))
    if path.suffix.lower() not in SUFFIXES:
        return [(None, open_image(path))]
    frames = read_frames(path)
    return chain([next(frames)], frames)


def show(session: Session, frames: Iterable[tuple[float | None, Image.Image]]) -> None:
    """Show an image, or the frames of a stream. Raises as `Session.see`, and `VideoError`."""
    for seconds, image in frames:
        session.see(image, at=seconds)


def chat(session: Session, max_new_tokens: int) -> None:
    """Read questions from standard input and print the answers, until its end."""
    if sys.stdin.isatty():
        print(HELP)
    while (line := _read_line()) is not None and line != "/quit":
        try:
            _do(session, line, max_new_tokens)
        except FoveateError as error:
            print(f"foveate: {error}", file=sys.stderr)


def _read_line() -> str | None:
    """The next line; None at the end."""
    try:
        line = input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
    return line


def _do(session: Session, line: str, max_new_tokens: int) -> None:
    command, _, rest = line.partition(" ")
    if command == "/see" and not rest.strip():
        print("foveate: /see needs the name of a file: /see FILE.", file=sys.stderr)
    elif command == "/see":
        show(session, open_file(rest.strip()))
    elif line.startswith("/"):
        print(f"foveate: There is no command {command}. {HELP}", file=sys.stderr)
    elif line:
        _answer(session, line, max_new_tokens)


def _answer(session: Session, question: str, max_new_tokens: int) -> None:
    """Print an answer as it comes, and how many tokens it took."""
    reply = session.ask(question, max_new_tokens=max_new_tokens)
    try:
        for piece in reply:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        reply.cancel()
        str(reply)  # waits for its end
    report = reply.report
    known = f", {reply.known} of {len(report.items)} images encoded before" if report.items else ""
    cached = f", {reply.cached} tokens read before" if reply.cached else ""
    print(f"\n({report.kept_count} of {report.total_count} visual tokens{known}{cached})", flush=True)
