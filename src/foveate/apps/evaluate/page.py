"""`report.html`: the figures, the plot, and the questions that pruning cost, with what was kept."""

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from PIL import Image

from foveate.apps.evaluate.answers import Row
from foveate.apps.evaluate.arms import PrunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.plan import EvalPlan, EvalRun
from foveate.apps.evaluate.report import UNPRUNED, make_plot
from foveate.apps.evaluate.tables import INTERVALS, Figure, describe_questions, list_overview
from foveate.errors import InputError
from foveate.pipeline.report import PrunedInputs, Report
from foveate.runtime.loaded import LoadedModel
from foveate.viz import draw
from foveate.viz.overlay import make_sheet

MOST = 5  # lost questions that are shown of each arm
SIDE = 480  # pixels of a picture's longer side
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1c2024; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: 0.25rem 0.75rem; text-align: left; }
th, td { border-bottom: 1px solid #d6d9de; } img { max-width: 100%; } figure { margin: 0; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1.5rem; }
"""


def write_page(plan: EvalPlan, loaded: LoadedModel, run: EvalRun, *, plot: bool = True) -> str:
    """The page, which needs no other file: title, figures, plot, and for each arm the questions that it lost.

    A question is lost where the unpruned model's answer scores higher. Kept tokens are drawn where they form a raster.
    """
    title = f"{loaded.name}: {plan.metric}, {sum(run.summary.questions.values())} questions"
    titles: dict[Figure, str] = {"accuracy": f"Score ({plan.metric})", "relative": "Relative to the unpruned model"}
    parts = [f"<h1>{escape(title)}</h1><p>{escape(describe_questions(run.summary))}</p>"]
    if plot:
        parts.append(f'<img alt="The score at each budget." src="{_to_url(make_plot(run.summary), "png")}">')
    parts += [f"<h2>{escape(head)}</h2>{_write_table(run, figure)}" for figure, head in titles.items()]
    parts += [f"<p>{escape(INTERVALS)}</p>", *_write_lost(plan, loaded, run)]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _write_table(run: EvalRun, figure: Figure) -> str:
    keeps, rows = list_overview(run.summary, figure)
    heads = "".join(f"<th>{escape(text)}</th>" for text in ["method", *(f"keep {keep}" for keep in keeps)])
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def list_lost(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each arm that score lower than the unpruned model on the same question."""
    whole = {row["id"]: float(row["right"]) for row in rows if row["name"] == UNPRUNED}
    lost: dict[str, list[Row]] = {}
    for row in rows:
        if float(row["right"]) < whole[row["id"]]:
            lost.setdefault(row["arm"], []).append(row)
    return lost


def _write_lost(plan: EvalPlan, loaded: LoadedModel, run: EvalRun) -> Iterator[str]:
    """A section for each arm of a method that lost a question, and the names of those that lost none."""
    examples = {example.id: example for example in plan.list_examples()[0]}
    arms = plan.make_arms(next(iter(examples.values())).modality)
    lost, whole = list_lost(run.rows), {row["id"]: row for row in run.rows if row["name"] == UNPRUNED}
    pruned = [arm for arm in arms if isinstance(arm, PrunedEvalArm)]
    for arm in pruned:
        rows = lost.get(arm.label, [])
        if not rows:
            continue
        limit = f", the first {MOST} of them" if len(rows) > MOST else ""
        yield f"<h2>{escape(arm.label)}: {len(rows)} lost{limit}</h2><div class='cases'>"
        for row in rows[:MOST]:
            shown = _write_image(arm, loaded, examples[row["id"]])
            facts = {
                "expected": " or ".join(dict.fromkeys(row["expected"])), "unpruned": whole[row["id"]]["answer"],
                f"on {row['tokens']} of {row['total']} tokens": row["answer"],
            }  # fmt: skip
            lines = "".join(f"<br>{escape(name)}: <b>{escape(value)}</b>" for name, value in facts.items())
            yield f"<figure>{shown}<figcaption>{escape(row['question'])}{lines}</figcaption></figure>"
        yield "</div>"
    without = [escape(arm.label) for arm in pruned if arm.label not in lost]
    if without:
        yield f"<p>No question was lost: {'; '.join(without)}.</p>"


def _write_image(arm: PrunedEvalArm, loaded: LoadedModel, example: EvalExample) -> str:
    """What the question is about with what the arm keeps; of clips that cannot be drawn so the first frames alone."""
    batch = EvalBatch(loaded, [example], [arm.method])
    short, _, _ = arm.inputs(batch)
    shown = batch.images[0] if isinstance(batch.images[0], list) else [batch.images[0]]
    if not isinstance(short, PrunedInputs):
        return ""
    draw_kept = _draw_media if example.modality == "media" else _draw_images
    try:
        picture, text = draw_kept(shown, short.report, loaded), "What was kept."
    except InputError:  # tokens without a raster
        if example.modality != "media":
            return ""
        picture, text = make_sheet([frames[0] for frames in map(_list_frames, shown)]), "What was shown."
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return f'<img alt="{text}" src="{_to_url(out.getvalue(), "jpeg")}">'


def _draw_images(shown: Sequence[Any], report: Report, loaded: LoadedModel, item: int | None = None) -> Image.Image:
    return draw(shown, report, processor=loaded.processor, item=item, legend=False, original=False)


def _draw_media(shown: Sequence[Any], report: Report, loaded: LoadedModel) -> Image.Image:
    """Images, then clips, each by itself; the report has them in the same order."""
    if len(report.items) != len(shown):
        raise InputError("The report does not hold one item for each image and clip.")
    return make_sheet([_draw_images(_list_frames(each), report, loaded, n) for n, each in enumerate(shown)])


def _list_frames(shown: Any) -> list[Image.Image]:
    """The frames of a clip, or the image."""
    return [image for _, image in shown] if isinstance(shown, list) else [shown]


def _to_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
