"""The Typer app, and the options that several commands share."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="foveate", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Prune the visual tokens of a vision-language model, guided by the question.",
)  # fmt: skip


class PositionsChoice(str, Enum):
    """The choices of `--positions`."""

    original = "original"
    compact = "compact"


class TurnsChoice(str, Enum):
    """The choices of `--turns`."""

    rechoose = "rechoose"
    frozen = "frozen"
    recall = "recall"
    picture = "picture"


class EngineChoice(str, Enum):
    """The choices of `--engine`."""

    hf = "hf"
    vllm = "vllm"


Model = Annotated[
    str, typer.Option("--model", help="A hub id, a folder, or a small bundled model: bundled, bundled-qwen.")
]
MethodName = Annotated[str, typer.Option("--method", help="How to select the tokens; see `foveate methods`.")]
Positions = Annotated[
    PositionsChoice, typer.Option("--positions", help="Keep the tokens' position ids, or renumber them.")
]
Engine = Annotated[EngineChoice, typer.Option("--engine", help="What runs the model: transformers (hf) or vLLM.")]
ENCODE = (
    "The share of an image that goes through the encoder: its overview and the tiles in which the question finds the "
    "most, or, with Qwen-VL and its kin, a smaller image and windows"
)
Encode = Annotated[str, typer.Option("--encode", help=f"{ENCODE}; 1.0 is all of them.", metavar="SHARE")]
SHARES = f"{ENCODE}. Shares, separated by commas, each measured beside 1.0."
Encodes = Annotated[str, typer.Option("--encode", help=SHARES, metavar="SHARES")]
Budgets = Annotated[str, typer.Option("--keep", help="Budgets as in `ask`, separated by commas.")]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]
ResultsFolder = Annotated[
    Path, typer.Option("--out", help="The folder of the results. A run that was killed continues there.")
]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 is any free one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON, last on standard output.")]
