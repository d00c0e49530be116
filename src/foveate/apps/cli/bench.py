"""`foveate bench`."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.apps.cli import options
from foveate.apps.cli.interrupts import says_when_interrupted
from foveate.apps.cli.loading import takes_load_options
from foveate.apps.encoder import parse_encoders
from foveate.runtime.load_options import LoadOptions

MODEL = (
    "As in `ask`, or a shape with random weights: llava-1.5-7b, llava-next-7b, internvl3-8b, smolvlm-2.2b, "
    "qwen2.5-vl-3b, qwen2.5-vl-7b."
)
CONCURRENCY = "vLLM: requests at a time, separated by commas; default 1,4,16."
QUESTIONS = "vLLM: questions about each image, separated by commas; default 1."
RATE = (
    "vLLM: requests a second that arrive at random, whether earlier ones are answered or not, separated by commas; "
    "0.8x is times what the unpruned model answers with the most clients. Default: none."
)
REUSE = "vLLM: as in `serve`, separated by commas; default question."
BOUND = (
    "vLLM: milliseconds to the first token and for each further one in which an answer comes in time, as in 1000,100; "
    "default: 3 times those of an unpruned request alone."
)
SIZE = "Side of a square image in pixels, or WxH, separated by commas; default: the model's own."
IMAGE = "hf: your own image as in `ask`, or a page of a PDF or TIFF, of its own size, in place of a drawn scene."
TARGETS = "hf: show the project's own targets, and whether they are met."
LOAD = ("--concurrency", "--questions-per-image", "--rate", "--reuse", "--bound")
LAYERS = (
    "Decoder layers of a shape, and the same share of its tower; default: as many as fit, at most 4 on a CPU, 1 in "
    "vLLM."
)


@options.app.command()
@takes_load_options
@says_when_interrupted("Nothing is kept of this run in {out}: run the same command again.")
def bench(
    model: Annotated[str, typer.Option(help=MODEL)] = "bundled",
    method: Annotated[str, typer.Option(help="How to select the tokens: methods as in `eval`.")] = "foveate",
    keep: options.Budgets = "1.0,0.333,0.111,0.056",
    encode: options.Encodes = "1.0",
    engine: options.Engine = options.EngineChoice.hf,
    batch: Annotated[str | None, typer.Option(help="hf: prompts at a time, separated by commas; default 1.")] = None,
    concurrency: Annotated[str | None, typer.Option(help=CONCURRENCY)] = None,
    questions_per_image: Annotated[str | None, typer.Option(help=QUESTIONS)] = None,
    rate: Annotated[str | None, typer.Option(help=RATE)] = None,
    reuse: Annotated[str | None, typer.Option(help=REUSE)] = None,
    bound: Annotated[str | None, typer.Option(help=BOUND)] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="vLLM: requests of a turn; default 16.")] = None,
    image_size: Annotated[str | None, typer.Option(help=SIZE)] = None,
    layers: Annotated[int | None, typer.Option(min=1, help=LAYERS)] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds, after one warm-up.")] = 5,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to decode after the first one.")] = 8,
    out: Annotated[Path, typer.Option(help="The folder of the results.")] = Path("results/bench"),
    image: Annotated[str | None, typer.Option(help=IMAGE, metavar="FILE")] = None,
    question: Annotated[str | None, typer.Option(help="hf: your own question about it.")] = None,
    fetch: options.Fetch = False,
    targets: Annotated[bool, typer.Option("--targets", help=TARGETS)] = False,
    plot: Annotated[bool, typer.Option(help="Draw plot.png too.")] = True,
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Measure time and memory at each budget, beside the unpruned model and a stock one with as few tokens."""
    from foveate.apps.bench import settings
    from foveate.apps.results import open_folder, read_versions
    from foveate.runtime.load import quiet

    budgets, encoders, served = settings.parse_budgets(method, keep), parse_encoders(encode), engine.value == "vllm"
    load = (concurrency, questions_per_image, rate, reuse, bound)
    own: dict[str, Any] = {"image": image, "question": question, "fetch": fetch or None}
    only_hf = {"--batch": batch, "--encode": encoders or None, **{f"--{name}": each for name, each in own.items()}}
    only_vllm = {**dict(zip(LOAD, load, strict=True)), "--requests": requests}
    settings.check_options(engine.value, hf=only_hf, vllm=only_vllm)
    batches = settings.parse_batches(batch or "1", "--batch")
    arms = _parse_load(*load) if served else {"encoders": encoders}
    rounding, shape = {"rounds": rounds, "new_tokens": new_tokens}, {"layers": layers, "loading": loading}
    figure = _check_figure(out / "plot.png") if plot else None
    arms |= {"sizes": None if image_size is None else settings.parse_sizes(image_size), **rounding}
    with open_folder(out), quiet():
        if served:
            result = _run_vllm(model, budgets, figure, {"requests": requests or 16, **arms, **shape})
        else:
            result = _run_hf(model, budgets, batches, figure, arms, {**shape, **own}, targets)
        about = {**rounding, "loading": loading.to_record(), "versions": read_versions(*["vllm"] * served)}
        _write(out, *result, about=about, as_json=as_json)


def _check_figure(path: Path) -> Path:
    from foveate.apps.evaluate.report import check_plot

    check_plot()
    return path


def _write(
    out: Path, record: Any, table: str, draw: Callable[[], None] | None, *, about: dict[str, Any], as_json: bool
) -> None:
    """Write the files; a full disk does not lose what was measured."""
    from foveate.apps.results import write_file

    record |= about
    try:
        write_file(out / "bench.json", json.dumps(record, indent=1) + "\n")
        write_file(out / "table.md", table)
        if draw:
            draw()
    finally:
        print(table)
        if as_json:
            print(json.dumps(record))


def _run_hf(model: str, budgets: Any, batches: Any, figure: Path | None, arms: Any, shape: Any, targets: bool) -> Any:
    from foveate.apps.bench import report, run
    from foveate.apps.bench.model import open_model

    opened = open_model(model, **shape)
    cases = run.run(opened, budgets, batches, **arms)
    draw = partial(report.plot, opened, cases, figure) if figure else None
    return report.to_record(opened, cases), report.to_markdown(opened, cases, targets=targets), draw


def _run_vllm(model: str, budgets: Any, figure: Path | None, load: Any) -> Any:
    from foveate.apps.bench import served

    result = served.run(model, budgets, **load)
    record = served.to_record(result)
    return record, served.to_markdown(result), partial(served.plot, record, figure) if figure else None


def _parse_load(
    concurrency: str | None, questions: str | None, rate: str | None, reuse: str | None, bound: str | None
) -> dict[str, Any]:  # fmt: skip
    from foveate.apps.bench.served import cases
    from foveate.apps.bench.settings import parse_batches

    clients = parse_batches(concurrency or "1,4,16", "--concurrency")
    counts = parse_batches(questions or "1", "--questions-per-image")
    return {
        "cases": cases.make_cases(clients, counts, cases.parse_rates(rate)),
        "reuse": cases.parse_reuse(reuse or "question"),
        "bound": cases.parse_bound(bound),
    }
