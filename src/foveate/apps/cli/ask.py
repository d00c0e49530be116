"""`foveate ask`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.apps import budgets, console
from foveate.apps.cli import options
from foveate.apps.cli.loading import takes_load_options
from foveate.apps.encoder import parse_encoder
from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

KEEP = (
    "Visual tokens to keep: with a dot a share (0.1, 1.0), without one a number (64; 1 is one token), auto for the "
    "policy that comes with the model, or the .json file of a policy; default 0.1."
)
RETRY = "With a policy: answer again with all tokens if the model is unsure of the first one."
IMAGE = "Image files, in the order of the question; - is standard input."
COMPARE = "More methods or budgets, side by side in the table and in the overlay: divprune,0.3,grid."
REPEAT = "Rounds that are timed, after one to warm up."
POLICY = "The file of a policy, which chooses the budget (`foveate calibrate` makes one): the same as --keep FILE.json."


@options.app.command()
@takes_load_options
def ask(
    image: Annotated[list[str], typer.Argument(help=IMAGE, metavar="IMAGE...")],
    question: Annotated[str, typer.Argument(help="A question about them.", metavar="QUESTION")],
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
    repeat: Annotated[int, typer.Option(help=REPEAT, min=1, max=1000)] = 3,
    retry: Annotated[bool, typer.Option("--retry", help=RETRY)] = False,
    max_new_tokens: options.MaxNewTokens = 64,
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Answer a question about images, pruned and unpruned, with the time and the memory of both."""
    budget, encoder = budgets.choose_budget(keep, policy), parse_encoder(encode, skip, max_encoder_memory)
    if retry and isinstance(budget, (int, float)):
        raise InputError(f"--retry is for a policy, and {budget} is a fixed budget: add --policy, or leave it out.")
    from foveate import viz
    from foveate.apps.ask import Pruning, ask as answer
    from foveate.method import resolve
    from foveate.pipeline.settings import check_settings
    from foveate.runtime.files import open_argument
    from foveate.runtime.load import load, quiet

    arms = [Pruning(each, resolve(name)) for each, name in budgets.parse_arms(compare or "", budget, method)]
    for arm in arms:
        check_settings(arm.keep, arm.method, positions.value, **vars(encoder))
    if overlay is not None:
        viz.check_overlay(overlay)
    with quiet():
        pixels, loaded = [open_argument(each) for each in image], load(model, **vars(loading))
        comparison = answer(
            loaded, pixels, question, keep=budget, method=arms[0].method, positions=positions.value,
            encoder=encoder, max_new_tokens=max_new_tokens, explain=overlay is not None, retry=retry, others=arms[1:],
            rounds=repeat,
        )  # fmt: skip
    console.print_comparison(comparison)
    if overlay is not None:
        viz.save(viz.draw(pixels, comparison.reports, processor=loaded.processor), overlay)
        print(f"The kept tokens are drawn in {overlay}.")
    if as_json:
        about: dict[str, Any] = {"keep": budget, "encoder": encoder, "model": loaded.name, "overlay": overlay}
        print(json.dumps(console.to_record(comparison, **about)))
