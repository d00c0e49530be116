"""`foveate batch`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from foveate.apps import budgets, console
from foveate.apps.cli import options
from foveate.apps.cli.interrupts import says_when_interrupted
from foveate.apps.cli.loading import takes_load_options
from foveate.apps.encoder import parse_encoder
from foveate.runtime.load_options import LoadOptions

QUESTIONS = 'A .jsonl or .parquet file with rows of "image", "question" and, optionally, "id".'
ACTORS = "Models side by side; default: one for each GPU, else one for each machine."
VLLM = "More arguments of vllm.LLM, as JSON: '{\"max_model_len\": 4096}'."


@options.app.command()
@takes_load_options
@says_when_interrupted("Finished answers are in {out}: run the same command again to continue.")
def batch(
    questions: Annotated[Path, typer.Argument(help=QUESTIONS, parser=options.parse_file, metavar="QUESTIONS")],
    out: options.ResultsFolder,
    model: options.Model = "bundled",
    keep: Annotated[str, typer.Option(help="Visual tokens to keep, as in `ask`.")] = "0.1",
    encode: options.Encode = "1.0",
    skip: options.Skip = None,
    max_encoder_memory: options.EncoderMemory = None,
    method: options.MethodName = "foveate",
    positions: options.Positions = options.PositionsChoice.original,
    engine: options.Engine = options.EngineChoice.hf,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows in a batch; default 16, with vLLM 64.")] = None,
    shard: Annotated[int, typer.Option(min=1, help="Rows of each file; a killed run loses unfinished files.")] = 256,
    actors: Annotated[int | None, typer.Option(min=1, help=ACTORS)] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster: auto or host:port; default: this machine.")
    ] = None,
    max_new_tokens: options.MaxNewTokens = 64,
    vllm: Annotated[str, typer.Option(help=VLLM, metavar="JSON")] = "{}",
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Answer a file of questions about images, each row once, on this machine or on a Ray cluster."""
    budget = budgets.parse_budget(keep)
    from foveate.apps.batch.run import run
    from foveate.apps.batch.settings import BATCH, BatchSettings
    from foveate.apps.results import read_commit, read_versions

    settings = BatchSettings(
        model, budget, method, positions.value, engine.value, batch or BATCH[engine.value], max_new_tokens,
        console.parse_object("--vllm", vllm), loading, parse_encoder(encode, skip, max_encoder_memory),
    )  # fmt: skip
    settings.check()  # the version of vLLM cannot be read where it is not installed
    about = {"versions": read_versions(*["vllm"] * (engine is options.EngineChoice.vllm)), "commit": read_commit()}
    outcome = run(questions, out, settings, shard=shard, actors=actors, address=address, about=about)
    console.print_outcome(outcome)
    if as_json:
        print(json.dumps(outcome.to_record()))
