"""`foveate ask`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.apps import budgets, console
from foveate.apps.cli import options
from foveate.apps.cli.loading import takes_load_options
from foveate.apps.encoder import parse_encoder
from foveate.apps.progress import show_steps
from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

if TYPE_CHECKING:
    from PIL import Image

    from foveate.apps.ask import Comparison, Pruning
    from foveate.pipeline.settings import Keep
    from foveate.runtime.loaded import LoadedModel
    from foveate.runtime.media import Seen

KEEP = (
    "Visual tokens to keep: with a dot a share (0.1, 1.0), without one a number (64; 1 is one token), auto for the "
    "policy that comes with the model, or the .json file of a policy; default 0.1."
)
RETRY = "With a policy: answer again with all tokens if the model is unsure of the first one."
IMAGE = (
    "Image files, all in one prompt, in this order. scan.pdf#page=1,3-5 is pages of a PDF or TIFF, - is standard "
    "input. Or a folder: each of its images in a prompt of its own, a line for each answer."
)
VIDEO = "A video file, behind the images; once for each."
FRAMES = "Frames of each video at most, evenly in time; default 16."
COMPARE = "More methods or budgets, side by side in the table and in the overlay: divprune,0.3,grid."
REPEAT = "Rounds that are timed, after one to warm up; default 3."
POLICY = "The file of a policy, which chooses the budget (`foveate calibrate` makes one): the same as --keep FILE.json."
FRAME_COUNT = 16


@options.app.command()
@takes_load_options
def ask(
    image: Annotated[list[str], typer.Argument(help=IMAGE, metavar="IMAGE", default_factory=list, show_default=False)],
    question: Annotated[str, typer.Argument(help="A question about them.", metavar="QUESTION")],
    video: Annotated[list[str] | None, typer.Option(help=VIDEO, metavar="FILE")] = None,
    frames: Annotated[int | None, typer.Option(help=FRAMES, min=1)] = None,
    fetch: options.Fetch = False,
    keep: Annotated[str | None, typer.Option(help=KEEP)] = None,
    policy: Annotated[str | None, typer.Option(help=POLICY, metavar="FILE")] = None,
    encode: options.Encode = "1.0",
    skip: options.Skip = None,
    max_encoder_memory: options.EncoderMemory = None,
    method: options.MethodName = "foveate",
    model: options.Model = "bundled",
    positions: options.Positions = options.PositionsChoice.original,
    overlay: Annotated[Path | None, typer.Option(help="Draw the kept tokens into this image file.")] = None,
    compare: Annotated[str | None, typer.Option(help=COMPARE, metavar="METHOD,KEEP,...")] = None,
    repeat: Annotated[int | None, typer.Option(help=REPEAT, min=1, max=1000)] = None,
    retry: Annotated[bool, typer.Option("--retry", help=RETRY)] = False,
    max_new_tokens: options.MaxNewTokens = 64,
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Answer a question about images and videos, pruned and unpruned, with the time and the memory of both."""
    budget, encoder = budgets.choose_budget(keep, policy), parse_encoder(encode, skip, max_encoder_memory)
    arms = budgets.parse_arms(compare or "", budget, method)
    if not image and not video:
        raise InputError(f"There is no image beside {question!r}: foveate ask IMAGE... QUESTION, or add --video FILE.")
    _check(video, frames, [each for each, _ in arms], is_retried=retry)
    settings: dict[str, Any] = {"positions": positions.value, "encoder": encoder, "max_new_tokens": max_new_tokens}
    settings |= {"keep": budget, "retry": retry}
    if folder := _find_folder(image):
        _check_folder(folder, image, {"video": video, "overlay": overlay, "compare": compare, "repeat": repeat})
        _ask_folder(folder, question, model, loading, {"method": method, **settings}, as_json)
        return
    with show_steps() as begin:
        from foveate.apps.ask import ROUNDS, ask as answer
        from foveate.runtime.arguments import open_seen
        from foveate.runtime.load import load, quiet

        pruning = _check_arms(arms, settings, overlay)
        with quiet():
            seen = open_seen(image, video or (), frames or FRAME_COUNT, fetch=fetch)
            begin(f"loading {model}")
            loaded = load(model, **vars(loading))
            comparison = answer(
                loaded, seen, question, method=pruning[0].method, others=pruning[1:], explain=overlay is not None,
                rounds=repeat or ROUNDS, on_step=begin, **settings,
            )  # fmt: skip
    _show(comparison, loaded, seen, overlay, {"keep": budget, "encoder": encoder} if as_json else None)


def _check(videos: Sequence[str] | None, frames: int | None, keeps: Sequence[Keep], *, is_retried: bool) -> None:
    """Raise `InputError` for arguments that do not go together."""
    if frames is not None and not videos:
        raise InputError("--frames is for videos: add --video FILE, or leave it out.")
    numbers = [isinstance(keep, (int, float)) for keep in keeps]
    if is_retried and numbers[0]:
        raise InputError(f"--retry is for a policy, and {keeps[0]} is a fixed budget: add --policy, or leave it out.")
    if videos and not all(numbers):
        raise InputError("A policy chooses budgets for images: beside --video give numbers, such as --keep 0.1.")


def _check_arms(arms: Sequence[tuple[Keep, str]], settings: Mapping[str, Any], overlay: Path | None) -> list[Pruning]:
    """The budgets with their methods. Raises a `FoveateError` before anything is opened."""
    from foveate import viz
    from foveate.apps.ask import Pruning
    from foveate.method import resolve
    from foveate.pipeline.settings import check_settings

    pruning = [Pruning(keep, resolve(name)) for keep, name in arms]
    for arm in pruning:
        check_settings(arm.keep, arm.method, settings["positions"], **vars(settings["encoder"]))
    if overlay is not None:
        viz.check_overlay(overlay)
    return pruning


def _show(
    comparison: Comparison, loaded: LoadedModel, seen: Sequence[Seen], overlay: Path | None,
    about: dict[str, Any] | None,
) -> None:  # fmt: skip
    """Print the answers, then draw the overlay, then print JSON where it is asked for."""
    from foveate import viz

    console.print_comparison(comparison)
    if overlay is not None:
        viz.save(_draw(seen, comparison, loaded.processor), overlay)
        print(f"The kept tokens are drawn in {overlay}.")
    if about is not None:
        print(json.dumps(console.to_record(comparison, model=loaded.name, overlay=overlay, **about)))


def _draw(seen: Sequence[Seen], comparison: Comparison, processor: Any) -> Image.Image:
    """The overlay; with clips that of every image and clip below each other."""
    from foveate import viz
    from foveate.runtime.media import list_frames
    from foveate.viz.overlay import stack

    frames = [list_frames(each) for each in seen]
    if all(len(each) == 1 for each in frames):
        return viz.draw([each[0] for each in frames], comparison.reports, processor=processor)
    return stack(
        [viz.draw(each, comparison.reports, processor=processor, item=item) for item, each in enumerate(frames)]
    )


def _find_folder(images: Sequence[str]) -> Path | None:
    return next((path for path in (Path(each).expanduser() for each in images) if path.is_dir()), None)


def _check_folder(folder: Path, images: Sequence[str], others: Mapping[str, object]) -> None:
    """Raise `InputError` for what does not go with a folder."""
    fixes = ["ask about it alone"] if len(images) > 1 else []
    fixes += [f"leave --{name} out" for name, value in others.items() if value]
    if fixes:
        raise InputError(f"{folder} is a folder, each image of which is a prompt of its own: {fixes[0]}.")


def _ask_folder(
    folder: Path, question: str, model: str, loading: LoadOptions, settings: Mapping[str, Any], as_json: bool
) -> None:
    """Print a line for each image, name and answer; at the end raise `InputError` where one has none."""
    with show_steps() as begin:
        from foveate.apps.ask import describe_model
        from foveate.apps.ask_folder import answer_files
        from foveate.runtime.arguments import list_images
        from foveate.runtime.load import load, quiet

        _check_arms([(settings["keep"], settings["method"])], settings, None)
        paths = list_images(folder)
        begin(f"loading {model}")
        with quiet():
            loaded = load(model, **vars(loading))
    answers, rows = answer_files(loaded, paths, question, **settings), []
    for number, path in enumerate(paths):
        with show_steps() as begin, quiet():
            begin(f"{path.name}, {number + 1} of {len(paths)}")
            rows.append(next(answers))
        console.print_file_answer(rows[-1])
    notes = list(dict.fromkeys([*describe_model(loaded), *(note for row in rows for note in row.notes)]))
    console.print_notes(console.limit_notes(notes))
    if as_json:
        about = {name: settings[name] for name in ("keep", "encoder", "method")}
        print(json.dumps(console.to_folder_record(rows, model=loaded.name, notes=notes, **about)))
    missing = sum(row.answer is None for row in rows)
    if missing:
        raise InputError(f"{missing} of {len(rows)} images in {folder} have no answer; the reasons are above.")
