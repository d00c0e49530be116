"""The command line. Torch and transformers are imported by the commands that need them, so that `--help` is quick."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import json
import platform
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.apps import console
from foveate.errors import FoveateError, InputError

app = typer.Typer(
    name="foveate", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Prune the visual tokens of a vision-language model with the question in hand.",
)  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON, last on standard output.")]
Model = Annotated[
    str,
    typer.Option("--model", help="A hub id, a folder, or a small model of ours: bundled, bundled-qwen."),
]
AnyModel = Annotated[str | None, typer.Option("--model", help="The model to check, as in `ask`.")]


class Positions(str, Enum):
    """The choices of `--positions`."""

    original = "original"
    compact = "compact"


class Engine(str, Enum):
    """The choices of `--engine`."""

    hf = "hf"
    vllm = "vllm"


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Prune the visual tokens of a vision-language model with the question in hand."""
    if version:
        print(importlib.metadata.version("foveate"))
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def ask(
    picture: Annotated[Path, typer.Argument(help="A picture file.", metavar="PICTURE")],
    question: Annotated[str, typer.Argument(help="What to ask about it.", metavar="QUESTION")],
    keep: Annotated[
        str,
        typer.Option(
            help="With a dot a share of the visual tokens (0.1, 1.0), without one a number (64; 1 is one token)."
        ),
    ] = "0.1",
    method: Annotated[str, typer.Option(help="How to choose the tokens; see `foveate methods`.")] = "foveate",
    model: Model = "bundled",
    positions: Annotated[Positions, typer.Option(help="Keep the tokens' positions, or renumber.")] = Positions.original,
    overlay: Annotated[
        Path | None,
        typer.Option(help="Draw the kept tokens over the picture into this file.", metavar="PICTURE"),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of the answers, in tokens.")] = 64,
    as_json: Json = False,
) -> None:
    """Answer a question about a picture, pruned and unpruned, with the time and the memory of both."""
    dial = parse_keep(keep)
    from foveate import viz
    from foveate.apps.ask import ask as compare
    from foveate.method import resolve
    from foveate.method.budget import check_keep
    from foveate.runtime.files import open_image
    from foveate.runtime.load import load, quiet

    check_keep(dial)
    if overlay is not None:
        viz.check_overlay(overlay)
    chosen, image = resolve(method), open_image(picture)
    with quiet():
        loaded = load(model)
        found = compare(
            loaded, image, question, keep=dial, method=chosen, positions=positions.value,
            max_new_tokens=max_new_tokens, explain=overlay is not None,
        )  # fmt: skip
    console.comparison(found)
    if overlay is not None:
        viz.save(viz.draw(image, found.report, processor=loaded.processor), overlay)
        print(f"The kept tokens are drawn in {overlay}.")
    if as_json:
        print(json.dumps(console.record(found, keep=dial, model=loaded.name, overlay=overlay)))


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods that choose tokens."""
    import foveate

    console.rows("Methods", [dataclasses.asdict(row) for row in foveate.methods()], as_json)


@app.command()
def families(as_json: Json = False) -> None:
    """List every image-text-to-text model of transformers: supported, not applicable, or not yet, and why."""
    import foveate

    console.rows("Families", [dataclasses.asdict(row) for row in foveate.families()], as_json)


@app.command()
def doctor(model: AnyModel = None, as_json: Json = False) -> None:
    """Check the laws of pruning on this installation: on a tiny model of every family, or on your own model."""
    from foveate.conformance import laws
    from foveate.models.lookup import available
    from foveate.runtime.load import load, quiet

    versions = installed_versions()
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    rows = []
    with quiet():
        subjects = available() if model is None else [model]
        for subject in subjects:
            results = laws.check_family(subject) if model is None else laws.check(load(model).model)
            for law in results:
                rows.append({"model": subject, **dataclasses.asdict(law)})
                print(f"{'pass' if law.passed else 'FAIL'}  {subject}: {law.name}: {' '.join(law.figure.split())}")
    passed = all(row["passed"] for row in rows)
    print("All laws hold." if passed else "Some laws do not hold: please report this with the lines above.")
    if as_json:
        print(json.dumps({"versions": versions, "passed": passed, "laws": rows}))
    raise typer.Exit(0 if passed else 1)


@app.command("eval")
def evaluate(
    model: Model = "bundled",
    methods: Annotated[
        str, typer.Option(help="What to compare: names, or name(field=value,...), with commas between.")
    ] = "foveate,zspaprune,cdpruner,divprune,mmtok",
    keep: Annotated[str, typer.Option(help="Budgets, as in `ask`, with commas between.")] = "0.333,0.222,0.111,0.056",
    tasks: Annotated[str, typer.Option(help="Tasks of the bundled world with commas between, or all.")] = "all",
    data: Annotated[
        Path | None,
        typer.Option(help='Your own questions instead: lines of {"image": ..., "question": ..., "answer": ...}.'),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions a task (or of --data).")] = 200,
    split: Annotated[str, typer.Option(help="dev, to choose with, or test, to report on.")] = "dev",
    seed: Annotated[int, typer.Option(min=0, help="Which questions.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of the results; a run that was killed goes on there.")] = Path(
        "results"
    ),
    batch: Annotated[int, typer.Option(min=1, help="Questions at a time.")] = 16,
    positions: Annotated[Positions, typer.Option(help="Keep the tokens' positions, or renumber.")] = Positions.original,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of the answers, in tokens.")] = 8,
    resize: Annotated[bool, typer.Option(help="Compare with smaller pictures too.")] = True,
    plot: Annotated[bool, typer.Option(help="Draw plot.png too.")] = True,
    as_json: Json = False,
) -> None:
    """Measure how much accuracy each method keeps at each budget, beside random, grid, resize and the whole model."""
    from foveate.apps.evaluate import report, settings
    from foveate.apps.evaluate.examples import read_data, world_examples
    from foveate.apps.evaluate.runner import evaluate as run
    from foveate.apps.results import read_commit
    from foveate.runtime.load import load, quiet

    arms = settings.make_arms(
        settings.parse_methods(methods), settings.parse_keeps(keep), positions=positions.value,
        max_new_tokens=max_new_tokens, resize=resize,
    )  # fmt: skip
    if plot:
        report.check_plot()
    skipped: list[str] = []
    if data is not None:
        examples, skipped = read_data(data, limit)
    else:
        examples = world_examples(tasks.split(","), split, limit, seed)
    for line in skipped:
        print(f"Note: {line}", file=sys.stderr)
    # Everything that decides an answer.
    chosen = {
        "model": model, "methods": methods, "keep": keep, "tasks": tasks, "data": data and str(data), "limit": limit,
        "split": split, "seed": seed, "batch": batch, "positions": positions.value, "max_new_tokens": max_new_tokens,
        "resize": resize, "versions": installed_versions(), "commit": read_commit(),
    }  # fmt: skip
    with quiet():
        rows = run(load(model), examples, arms, batch=batch, out=out, settings=chosen)
    summary = report.summarize(rows)
    record = {"settings": chosen, "skipped": skipped, **summary.record()}
    table = report.markdown(summary) + "".join(f"\n{line}" for line in skipped)
    (out / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / "table.md").write_text(table)
    if plot:
        report.plot(summary, out / "plot.png")
    print(table)
    if as_json:
        print(json.dumps(record))


@app.command()
def bench(
    model: Annotated[
        str,
        typer.Option(help="As in `ask`, or a shape with random weights: llava-1.5-7b, llava-next-7b, qwen2.5-vl-3b."),
    ] = "bundled",
    method: Annotated[str, typer.Option(help="How to choose the tokens: methods as in `eval`.")] = "foveate",
    keep: Annotated[str, typer.Option(help="Budgets, as in `ask`, with commas between.")] = "1.0,0.333,0.111,0.056",
    engine: Annotated[Engine, typer.Option(help="What runs the model: transformers (hf) or vLLM.")] = Engine.hf,
    batch: Annotated[
        str | None, typer.Option(help="Prompts at a time in hf, with commas between; 1.", show_default=False)
    ] = None,
    concurrency: Annotated[
        str | None, typer.Option(help="Requests at a time in vLLM, with commas between; 1,4,16.", show_default=False)
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests a round in vLLM; 16.", show_default=False)
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(help="Pixels of a square's side, or WxH, with commas between; the model's own without it."),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Decoder layers of a shape, and the same share of its tower; without it as many as fit, on a CPU at "
            "most 4, in vLLM 1.",
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of a shape: float32 (default on a CPU), bfloat16 or float16.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds, after one to warm up.")] = 5,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to decode after the first one.")] = 8,
    out: Annotated[Path, typer.Option(help="The folder of the results.")] = Path("results/bench"),
    plot: Annotated[bool, typer.Option(help="Draw plot.png too, of what hf takes.")] = True,
    as_json: Json = False,
) -> None:
    """Measure time and memory at each budget, beside the unpruned model and a stock one with as few tokens."""
    from foveate.apps.bench import report, run, served, settings
    from foveate.apps.bench.subject import open_subject
    from foveate.apps.evaluate.report import check_plot
    from foveate.apps.results import make_folder
    from foveate.runtime.load import quiet

    budgets = settings.parse_budgets(method, keep)
    settings.check_options(
        engine.value, hf={"--batch": batch}, vllm={"--concurrency": concurrency, "--requests": requests}
    )
    at_a_time = settings.parse_batches(batch or "1", "--batch")
    clients = settings.parse_batches(concurrency or "1,4,16", "--concurrency")
    sizes = None if image_size is None else settings.parse_sizes(image_size)
    how: dict[str, Any] = {"rounds": rounds, "new_tokens": new_tokens}
    if plot and engine is Engine.hf:
        check_plot()
    make_folder(out)
    with quiet():
        if engine is Engine.vllm:
            scale: dict[str, Any] = {"requests": requests or 16, "layers": layers, "sizes": sizes, "dtype": dtype}
            measured = served.run(model, budgets, clients, **how, **scale)
            record, table = served.record(measured), served.markdown(measured)
        else:
            subject = open_subject(model, layers=layers, dtype=dtype)
            cases = run.run(subject, budgets, at_a_time, sizes, **how)
            record, table = report.record(subject, cases), report.markdown(subject, cases)
    record |= {**how, "threads": run.threads(), "versions": installed_versions(*(["vllm"] * (engine is Engine.vllm)))}
    (out / "bench.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / "table.md").write_text(table)
    if plot and engine is Engine.hf:
        report.plot(subject, cases, out / "plot.png")
    print(table)
    if as_json:
        print(json.dumps(record))


@app.command()
def batch(
    questions: Annotated[
        Path, typer.Argument(help='Rows of "image", "question" and, optionally, "id": .jsonl or .parquet.')
    ],
    out: Annotated[Path, typer.Option(help="The folder of the answers; a run that was killed goes on there.")],
    model: Model = "bundled",
    keep: Annotated[str, typer.Option(help="How many visual tokens, as in `ask`.")] = "0.1",
    method: Annotated[str, typer.Option(help="How to choose the tokens; see `foveate methods`.")] = "foveate",
    positions: Annotated[Positions, typer.Option(help="Keep the tokens' positions, or renumber.")] = Positions.original,
    engine: Annotated[Engine, typer.Option(help="What answers: transformers (hf) or vLLM.")] = Engine.hf,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Rows at a time; 16 without it, with vLLM 64.", show_default=False)
    ] = None,
    shard: Annotated[int, typer.Option(min=1, help="Rows a file; a killed run loses those it was at.")] = 256,
    actors: Annotated[
        int | None, typer.Option(min=1, help="Models side by side; one a GPU without it, else one a machine.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster: auto or host:port; this machine alone without it.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of the answers, in tokens.")] = 64,
    vllm: Annotated[
        str, typer.Option(help="More arguments of vllm.LLM, as JSON: '{\"max_model_len\": 4096}'.", metavar="JSON")
    ] = "{}",
    as_json: Json = False,
) -> None:
    """Answer a file of questions about pictures, each row once, on this machine or on a Ray cluster."""
    dial = parse_keep(keep)
    from foveate.apps.batch.run import run
    from foveate.apps.batch.settings import BATCH, BatchSettings
    from foveate.apps.results import read_commit

    settings = BatchSettings(
        model, dial, method, positions.value, engine.value, batch or BATCH[engine.value], max_new_tokens,
        parse_object("--vllm", vllm),
    )  # fmt: skip
    versions = installed_versions(*(["vllm"] if engine is Engine.vllm else []))
    about = {"versions": versions, "commit": read_commit()}
    found = run(questions, out, settings, shard=shard, actors=actors, address=address, about=about)
    console.outcome(found)
    if as_json:
        print(json.dumps(found.record()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model: Model = "bundled",
    keep: Annotated[str, typer.Option(help="As in `ask`; a request may ask for another.")] = "0.1",
    method: Annotated[str, typer.Option(help="How to choose the tokens; see `foveate methods`.")] = "foveate",
    positions: Annotated[Positions, typer.Option(help="Keep the tokens' positions, or renumber.")] = Positions.original,
    engine: Annotated[Engine, typer.Option(help="What runs the model: transformers (hf) or vLLM.")] = Engine.hf,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any that is free.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="FOVEATE_API_KEY", help="Asked for in every request.", show_default=False)
    ] = None,
    fetch_from: Annotated[
        list[str] | None,
        typer.Option(help="A place to fetch pictures from, https://host; again for more. Otherwise none."),
    ] = None,
    max_body: Annotated[int | None, typer.Option(min=1, help="MiB of a request; 20.", show_default=False)] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, max=89, help="Megapixels of its pictures; 50.", show_default=False)
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Pictures of a conversation; 16.", show_default=False)
    ] = None,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a prompt before pruning; any.", show_default=False)
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of an answer; 1024.", show_default=False)
    ] = None,
    max_waiting: Annotated[
        int | None, typer.Option(min=0, help="Requests that wait for the model; 32.", show_default=False)
    ] = None,
    grace: Annotated[
        float | None, typer.Option(min=0, help="Seconds for open requests at the end; 30.", show_default=False)
    ] = None,
    turn: Annotated[
        str | None,
        typer.Option(
            help="vLLM: the question is the user's last turn (last), or the picture's own (own), which keeps a chat's "
            "cache; last.",
            show_default=False,
        ),
    ] = None,
    show_only: Annotated[bool, typer.Option("--print", help="vLLM: print its command line and stop.")] = False,
) -> None:
    """Serve a model over the OpenAI protocol with its pictures pruned; with vLLM further options are its own."""
    dial = parse_keep(keep)
    from foveate.apps.serve import command

    prunes = {"keep": dial, "method": method, "positions": positions.value}
    own = {
        "body": max_body, "pixels": max_pixels, "images": max_images, "prompt": max_prompt_tokens,
        "new": max_new_tokens, "waiting": max_waiting,
    }  # fmt: skip
    if engine is Engine.vllm:
        command.check_only_hf({**own, "fetch_from": fetch_from, "grace": grace})
        command.serve_vllm(
            model, context.args, prunes, turn=turn or "last", show_only=show_only, host=host, port=port, api_key=api_key
        )
    else:
        command.check_only_vllm(context.args, turn=turn, show_only=show_only)
        command.serve_hf(
            model, prunes, own, host=host, port=port, api_key=api_key, fetch_from=fetch_from or [], grace=grace
        )


@app.command()
def demo(
    model: Model = "bundled",
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any that is free.")] = 7860,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show a page: drop a picture, ask, move a slider, and see which tokens are kept and what that saves."""
    from foveate.apps.serve.run import bind, require_serve

    require_serve()
    from foveate.apps.demo.app import serve_page
    from foveate.runtime.load import load, quiet

    with bind(host, port) as listens, quiet():
        serve_page(load(model), listens, host=host, open_browser=open_browser)


# -- input ---------------------------------------------------------------------------------------------------------


def parse_keep(text: str) -> int | float:
    """A number of tokens, or with a dot (or an exponent) a share."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise InputError(f"--keep {text!r} is no number: give a share (0.1) or a number of tokens (64).")


def parse_object(option: str, text: str) -> dict[str, Any]:
    """An object in JSON."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{option} {text!r} is no JSON object: write it as '{{\"name\": value}}'.")
    return found


def installed_versions(*more: str) -> dict[str, str]:
    """Of what a report of a fault should name."""
    names = ("foveate", "torch", "transformers", *more)
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


# -- the door ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. What foveate or the parser refuses is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may hold letters that the terminal lacks
    try:
        code = app(args=arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # Typer has had its parser's errors from two packages; both have this method, and nothing else does.
        if not isinstance(error, FoveateError) and not hasattr(error, "format_message"):
            raise
        text = str(error) if isinstance(error, FoveateError) else error.format_message()
        print(f"foveate: {' '.join(text.split())}", file=sys.stderr)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
