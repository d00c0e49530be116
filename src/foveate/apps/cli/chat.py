"""`foveate chat`."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.apps import budgets
from foveate.apps.cli import options
from foveate.apps.cli.loading import takes_load_options
from foveate.runtime.load_options import LoadOptions

TURNS = (
    "Which tokens a further question gets: all chosen anew, those of earlier questions, both, or a choice without the "
    "question."
)
MEMORY = "At most so many visual tokens of all images together; default no limit."


@options.app.command()
@takes_load_options
def chat(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image or video files.", metavar="[FILE]...", parser=options.parse_file)
    ] = None,
    keep: Annotated[str, typer.Option(help="The budget of each image, as in `ask`.")] = "0.1",
    method: options.MethodName = "foveate",
    model: options.Model = "bundled",
    positions: options.Positions = options.PositionsChoice.original,
    memory: Annotated[int | None, typer.Option(min=1, help=MEMORY)] = None,
    turns: Annotated[options.TurnsChoice, typer.Option(help=TURNS)] = options.TurnsChoice.rechoose,
    max_new_tokens: options.MaxNewTokens = 256,
    *,
    loading: LoadOptions,
) -> None:
    """Talk about images: ask again and again, each image is encoded once. `/see FILE` shows another one, or a video."""
    budget = budgets.parse_budget(keep)
    from foveate.apps import chat as terminal
    from foveate.runtime.load import load, quiet
    from foveate.runtime.session import Session
    from foveate.runtime.turns import check_turns

    check_turns(turns.value, budget, method, positions.value, memory)
    opened = [terminal.open_file(path) for path in images or ()]
    with quiet():
        loaded = load(model, **vars(loading))
        with Session(
            loaded.model, loaded.processor, keep=budget, method=method, positions=positions.value, memory=memory,
            turns=turns.value,
        ) as session:  # fmt: skip
            for frames in opened:
                terminal.show(session, frames)
            terminal.chat(session, max_new_tokens)
