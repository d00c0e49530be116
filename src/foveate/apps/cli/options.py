"""The Typer app, and the options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from foveate.errors import InputError
from foveate.runtime.addresses import to_path

app = typer.Typer(
    name="foveate", pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Prune the visual tokens of a vision-language model, guided by the question.",
)  # fmt: skip


def parse_file(path: str | Path) -> Path:
    """The path of a file or folder, for every option that names one. Raises `BadParameter` for an address.

    Typer calls it with an option's default too, which is a `Path`.
    """
    try:
        return to_path(str(path))
    except InputError as error:  # which the parser of options would take for a `ValueError` without a message
        raise typer.BadParameter(str(error)) from error


class PositionsChoice(StrEnum):
    """The choices of `--positions`."""

    original = "original"
    compact = "compact"


class PerChoice(StrEnum):
    """The choices of `--per`."""

    image = "image"
    frame = "frame"
    prompt = "prompt"


class TurnsChoice(StrEnum):
    """The choices of `--turns`."""

    rechoose = "rechoose"
    frozen = "frozen"
    recall = "recall"
    picture = "picture"


class EngineChoice(StrEnum):
    """The choices of `--engine`."""

    hf = "hf"
    vllm = "vllm"


Model = Annotated[
    str,
    typer.Option(
        "--model", help="A hub id, a folder, or a bundled model: bundled, bundled-qwen, bundled-clips, bundled-tiles."
    ),
]
MethodName = Annotated[str, typer.Option("--method", help="How to select the tokens; see `foveate methods`.")]
Positions = Annotated[
    PositionsChoice, typer.Option("--positions", help="Keep the tokens' position ids, or renumber them.")
]
Per = Annotated[
    PerChoice, typer.Option("--per", help="What a budget is for: every image or video, every frame, or the prompt.")
]
Engine = Annotated[EngineChoice, typer.Option("--engine", help="What runs the model: transformers (hf) or vLLM.")]
ENCODE = (
    "The share of an image that goes through the encoder: its overview and the tiles in which the question finds the "
    "most, or, with Qwen-VL and its kin, a smaller image and windows"
)
ALL_OR_AUTO = "1.0 is all of them, auto the tiles in which the question finds nearly as much as in the best one"
Encode = Annotated[str, typer.Option("--encode", help=f"{ENCODE}; {ALL_OR_AUTO}.", metavar="SHARE")]
SKIP = (
    "With Qwen-VL and its kin: do not encode what repeats its neighbour, blank or, in a video, unchanged parts. blank, "
    "or a threshold in [0, 1), 0 for equal pixels"
)
Skip = Annotated[str | None, typer.Option("--skip", help=f"{SKIP}.", metavar="THRESHOLD")]
SKIPS = f"{SKIP}. Thresholds, separated by commas, each measured beside all parts encoded."
Skips = Annotated[str | None, typer.Option("--skip", help=SKIPS, metavar="THRESHOLDS")]
MEMORY = "MiB that the encoder may take at once, with models that see tiles or windows; default any."
EncoderMemory = Annotated[int | None, typer.Option("--max-encoder-memory", min=1, help=MEMORY)]
SHARES = f"{ENCODE}. Shares, separated by commas, each measured beside 1.0."
Encodes = Annotated[str, typer.Option("--encode", help=SHARES, metavar="SHARES")]
Budgets = Annotated[str, typer.Option("--keep", help="Budgets as in `ask`, separated by commas.")]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]
OUT = "The folder of the results. A run that was killed continues there."
ResultsFolder = Annotated[Path, typer.Option("--out", help=OUT, parser=parse_file, metavar="PATH")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 is any free one.")]
Fetch = Annotated[
    bool, typer.Option("--fetch", help="Fetch https addresses of the public internet; else nothing is fetched.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON, last on standard output.")]


def is_set(context: typer.Context, name: str) -> bool:
    """Whether the user gave this option."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
