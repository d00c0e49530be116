"""Write the generated tables into the pages of docs/, each between its two marks."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import foveate
from foveate.method import resolve

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SERVED = ("llava-1.5-7b", "qwen2.5-vl-3b")
PERCENTS = ("50", "95", "99")
LAYERS = 4  # of the bundled language models
CHOICES = (
    ("is there one, which color", ("existence", "attribute"), 0.056),
    ("how two things lie, where one is, values of a chart", ("relation", "grounding", "chart"), 0.25),
    ("a word on a sign, one of many things", ("reading", "search", "crowd"), 0.25),
    ("how many, which is the most frequent, the whole image", ("counting", "gist", "overview"), 0.5),
    ("fields of a form", ("lookup",), 0.5),
)
SPEED = ("llava-1.5-7b", "llava-next-7b", "qwen2.5-vl-3b", "bundled", "bundled-qwen")


def make_family_table() -> str:
    """List every image-text-to-text model of the installed transformers, the supported ones first."""
    rows = foveate.families()
    lines = ["| `config.model_type` | prunes | transformers | what |", "|---|---|---|---|"]
    lines += [
        f"| `{row.model_type}` | {', '.join(row.modalities)} | {row.versions} | {row.note} |"
        for row in rows
        if row.status == "supported"
    ]
    lines += ["", "Not supported:", "", "| `config.model_type` | status | why |", "|---|---|---|"]
    lines += [f"| `{row.model_type}` | {row.status} | {row.note} |" for row in rows if row.status != "supported"]
    return "\n".join(lines)


def make_speed_table() -> str:
    """Show what `foveate bench` measured, one row per model and budget."""
    heads = (
        "model, batch",
        "visual tokens",
        "time to first token saved",
        "prefill, times the limit",
        "of what Amdahl allows",
        "KV cache, times the limit",
        "peak memory, times unpruned",
        "selection, of what is left",
        "encoder, of what is left",
    )
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name in SPEED:
        for case in json.loads((RESULTS / "speed" / name / "bench.json").read_text())["cases"]:
            for arm in case["arms"]:
                if arm["kind"] == "pruned":
                    lines.append(_row(_make_speed_cells(f"`{name}`, {case['batch']}", case["visual_tokens"], arm)))
    return "\n".join(lines)


def _make_speed_cells(where: str, total: int, arm: dict[str, Any]) -> list[str]:
    targets = {target["name"]: target for target in arm["targets"]}
    ratios = [
        _format_spread(targets[name], digits)
        for name, digits in (
            ("prefill, times the limit", 3),
            ("TTFT gain, of what Amdahl allows", 2),
            ("KV bytes, times the limit", 0),
            ("peak memory, times unpruned", 2),
        )
    ]
    left = arm["shares_of_what_is_left"]
    saved = _format_spread({end: 100 * value for end, value in arm["saved"].items()}, 0)
    shares = [f"{100 * left[stage]:.1f} %" for stage in ("selection", "encoder")]
    return [where, f"{total} to {arm['kept']}", f"{saved} %", *ratios, *shares]


def _format_spread(spread: dict[str, float], digits: int) -> str:
    low, middle, high = (f"{spread[end]:.{digits}f}" for end in ("low", "median", "high"))
    return middle if low == high else f"{middle} ({low} to {high})"


def make_encode_table(record: dict[str, Any]) -> str:
    """Show what `foveate bench --encode` measured: some tiles encoded, beside all of them at the same budget."""
    heads = (
        "image", "visual tokens", "parts encoded", "time to first token, times as fast",
        "vision encoder, times its time", "peak memory up to the selection, times its peak",
        "all choosing, of what it saves",
    )  # fmt: skip
    lines = [_row(heads), _row(["---"] * len(heads))]
    for case in record["cases"]:
        whole = {arm["keep"]: arm["seconds"] for arm in case["arms"] if arm["kind"] == "pruned"}
        for arm in case["arms"]:
            if arm["kind"] == "encoded":
                spent = arm["seconds"]["selection"]["median"]
                saved = whole[arm["keep"]]["encoder"]["median"] - arm["seconds"]["encoder"]["median"]
                tokens, tiles = f"{case['visual_tokens']} to {arm['kept']}", "{} of {}".format(*arm["tiles"])
                peak = "-" if arm["peak"] is None else f"{arm['peak']:.2f}"
                ratios = [_format_spread(arm[name], 2) for name in ("faster", "encoder")]
                lines.append(_row([case["image_size"], tokens, tiles, *ratios, peak, f"{100 * spent / saved:.1f} %"]))
    return "\n".join(lines)


def make_pages_table(record: dict[str, Any]) -> str:
    """Show what `benchmarks/pages.py` measured: right answers and time of every way to encode a part of a page."""
    heads = ("", "parts encoded", "time to first token, times unpruned", "right", *record["tasks"].split(","))
    lines = [_row([*heads, "right answers more than with all tiles"]), _row(["---"] * (len(heads) + 1))]
    for label, arm in record["arms"].items():
        share = "-" if "resize" in label else f"{100 * arm['encoded']['all']:.0f} %"
        by_task = [f"{arm[task]['value']:.2f}" for task in record["tasks"].split(",")]
        cells = [label, share, f"{arm['time']:.2f}", _format_score(arm["all"], 2), *by_task]
        lines.append(_row([*cells, _format_score(arm["gain"]["all"], 2)]))
    return "\n".join(lines)


def make_selection_table() -> str:
    """Show what `benchmarks/selection.py` measured: how many times faster than the textbook each rule is."""
    rows = json.loads((RESULTS / "selection.json").read_text())["rules"]
    sizes = sorted({(row["n"], row["k"], row["d"]) for row in rows})
    lines = [_row(["rule", *(f"{k} of {n}, d = {d}" for n, k, d in sizes)]), _row(["---"] * (len(sizes) + 1))]
    for rule in dict.fromkeys(row["rule"] for row in rows):
        cells = {row["n"]: _format_times(row) for row in rows if row["rule"] == rule}
        lines.append(_row([rule, *(cells.get(n, "-") for n, _, _ in sizes)]))
    return "\n".join(lines)


def make_serving_table() -> str:
    """Show what `foveate bench --engine vllm` measured, one row per arm and number of clients."""
    heads = (
        "model",
        "requests at a time",
        "",
        "prompt tokens",
        "time to first token, times unpruned",
        "requests a second, times unpruned",
        "KV blocks",
        "fit",
    )
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name in SERVED:
        arms = json.loads((RESULTS / "serving" / name / "bench.json").read_text())["arms"]
        for cases in zip(*(arm["cases"] for arm in arms), strict=True):
            for arm, case in zip(arms, cases, strict=True):
                times = [_format_spread(case[ratio], 2) for ratio in ("first_token_ratio", "throughput_ratio")]
                lines.append(
                    _row(
                        [
                            f"`{name}`",
                            str(case["clients"]),
                            arm["name"],
                            str(arm["prompt"]),
                            *times,
                            str(case["kv_blocks"]),
                            str(arm["fit"]),
                        ]
                    )
                )
    return "\n".join(lines)


def make_questions_table() -> str:
    """Show what `benchmarks/questions.py` measured: the total time of several questions about one image."""
    counts = (1, 2, 4, 8, 16)
    times = (("first_ms", "first, ms"), ("second_ms", "second, ms"), ("later_ms", "each later one, ms"))
    heads = ["model", "", *(head for _, head in times), *(f"all {n}, times unpruned" for n in counts), "KV blocks"]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name, record in json.loads((RESULTS / "serving" / "questions.json").read_text()).items():
        for arm in record["arms"]:
            totals = [_format_spread(arm["total_times_unpruned_by_questions"][n - 1], 2) for n in counts]
            cells = [f"{arm[key]:.0f}" for key, _ in times]
            lines.append(_row([f"`{name}`", arm["arm"], *cells, *totals, str(arm["kv_blocks"])]))
    return "\n".join(lines)


def make_load_table() -> str:
    """Show what `load.py` measured, a row for each way of requests to arrive; all but shares are times unpruned."""
    heads = (
        "model", "questions about an image", "requests", "first token (50, 95, 99 %)", "further token", "requests/s",
        "in time, % (unpruned)", "reuse=auto: first token", "requests/s", "in time, %", "limit: requests/s",
    )  # fmt: skip
    lines = [_row(heads), _row(["---"] * len(heads))]
    for model, record in _read_serving("load.json").items():
        unpruned, exact, auto, limit = record["arms"]
        for cases in zip(*(arm["cases"] for arm in (unpruned, exact, auto, limit)), strict=True):
            stock, own, shared, least = cases
            arrival = f"{stock['clients']} at a time" if stock["clients"] else f"{_find_share(record, stock):.2g} x"
            cells = [
                f"`{model}`", str(stock["questions"]), arrival, _compare_percentiles(own, stock),
                f"{_divide(own, stock, 'per_token_percentiles'):.2f}", _format_median(own),
                f"{_find_good(own):.0f} ({_find_good(stock):.0f})",
                f"{_divide(shared, stock, 'first_token_percentiles'):.2f}", _format_median(shared),
                f"{_find_good(shared):.0f}", _format_median(least),
            ]  # fmt: skip
            lines.append(_row(cells))
    return "\n".join(lines)


def make_steps_table() -> str:
    """Show what `encoder_steps.py` measured: 16 requests at a time, at several numbers of tokens in a step."""
    heads = ("model", "", "first token, times unpruned (50, 95, 99 %)", "requests/s, times unpruned")
    lines = [_row(heads), _row(["---"] * len(heads))]
    for model, record in _read_serving("encoder_steps.json").items():
        stock = record["arms"][0]["cases"][0]
        for arm in record["arms"]:
            case = arm["cases"][0]
            lines.append(_row([f"`{model}`", arm["name"], _compare_percentiles(case, stock), _format_median(case)]))
    return "\n".join(lines)


def _read_serving(name: str) -> dict[str, Any]:
    path = RESULTS / "serving" / name
    return json.loads(path.read_text()) if path.exists() else {}


def _find_share(record: dict[str, Any], case: dict[str, Any]) -> float:
    """The rate of a case in what the unpruned model answers with the most clients and as many questions."""
    own = [other for other in record["arms"][0]["cases"] if other["questions"] == case["questions"]]
    most = max(own, key=lambda other: other["clients"])
    return float(case["rate"] / most["requests_a_second"]["median"])


def _compare_percentiles(own: dict[str, Any], stock: dict[str, Any]) -> str:
    return ", ".join(f"{_divide(own, stock, 'first_token_percentiles', percent):.2f}" for percent in PERCENTS)


def _divide(own: dict[str, Any], stock: dict[str, Any], name: str, percent: str = "50") -> float:
    return float(own[name][percent] / stock[name][percent])


def _format_median(case: dict[str, Any]) -> str:
    return f"{case['throughput_ratio']['median']:.2f}"


def _find_good(case: dict[str, Any]) -> float:
    return float(100 * case["goodput"]["median"] / case["requests_a_second"]["median"])


def make_engine_clips_table() -> str:
    """Show what `benchmarks/engine_clips.py` measured: clips inside vLLM."""
    heads = ("", "tokens of a clip", "prompt tokens", "time, times unpruned", "the unpruned answer", "right")
    lines = [_row(heads), _row(["---"] * len(heads))]
    for arm in json.loads((RESULTS / "serving" / "clips.json").read_text())["arms"]:
        spreads = [arm[name] for name in ("time", "agreement", "accuracy")]
        cells = [f"{spread['value']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})" for spread in spreads]
        lines.append(_row([arm["arm"], str(arm["kept"]), str(arm["prompt"]), *cells]))
    return "\n".join(lines)


def make_soak_table() -> str:
    """Show what `benchmarks/soak.py` counted: all requests together, and the servers one by one."""
    record = json.loads((RESULTS / "soak.json").read_text())
    names = ("requests", "answered", "refused", "busy", "left", "lost", "wrong", "doubled")
    heads = [*names, "answers in, ms (50, 95, 99 %)"]
    every = record["requests"]["all"]
    times = ", ".join(f"{every[name]:,.0f}" for name in ("p50_ms", "p95_ms", "p99_ms"))
    lines = [_row(heads), _row(["---"] * len(heads)), _row([*(f"{every[name]:,}" for name in names), times]), ""]
    heads = [
        "server",
        "seconds",
        "grace, s",
        "to its end, s",
        "memory, MiB: first, peak, last",
        "descriptors: the same",
    ]
    lines += [_row(heads), _row(["---"] * len(heads))]
    for number, server in enumerate(record["servers"].values(), start=1):
        memory, files = (
            ", ".join(f"{server[f'{kind}_{when}']:.0f}" for when in ("first", "peak", "last"))
            for kind in ("memory", "descriptors")
        )
        lines.append(
            _row([str(number), str(server["seconds"]), server["grace"], str(server["seconds_to_stop"]), memory, files])
        )
    return "\n".join(lines)


def make_cost_table() -> str:
    """Show what `benchmarks/glance_cost.py` counted."""
    heads = ("model", "visual and other tokens", "layers of the glance", "share of the prefill")
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name, row in json.loads((RESULTS / "glance_cost.json").read_text())["models"].items():
        layers = f"{row['layers_of_the_look']} of {row['layers']}"
        tokens = f"{row['visual_tokens']}, {row['other_tokens']}"
        lines.append(_row([f"`{name}`", tokens, layers, f"{100 * row['share_of_prefill']:.1f} %"]))
    return "\n".join(lines)


def make_glance_table(results: Path) -> str:
    """Show the accuracy of every arm, of all tasks and of those that differ most, by the work of the language model."""
    record = json.loads((results / "summary.json").read_text())
    tasks = [
        task
        for task in ("crowd", "search", "lookup", "gist", "reading", "counting", "overview")
        if task in record["questions"]
    ]
    lines = [_row(["work", "keep", "method", "all tasks", *tasks]), _row(["---"] * (4 + len(tasks)))]
    arms = [arm for arm in record["arms"] if arm["name"] != "none"]
    total = max(arm["tokens"] for arm in arms)
    for arm in sorted(arms, key=lambda arm: -_compute_work(arm, total)):
        keep = "1" if arm["keep"] is None else str(arm["keep"])
        scores = [arm["accuracy"], *(arm["tasks"][task] for task in tasks)]
        lines.append(_row([f"{_compute_work(arm, total):.3f}", keep, arm["name"], *map(_format_score, scores)]))
    return "\n".join(lines)


def make_ceiling_table() -> str:
    """Show what `benchmarks/ceiling.py` measured: crowded tasks, with the tokens at the true place of the answer."""
    lines = []
    for record in json.loads((RESULTS / "ceiling.json").read_text()):
        tasks = [task for task in record["arms"]["unpruned"] if task != "all"]
        lines += ["", _row([f"`{record['model']}`", *tasks]), _row(["---"] * (1 + len(tasks)))]
        lines += [_row([name, *map(_format_score, map(arm.get, tasks))]) for name, arm in record["arms"].items()]
    return "\n".join(lines[1:])


def make_seeds_table(record: dict[str, Any]) -> str:
    """Show the accuracy over all tasks, seed by seed."""
    seeds = list(next(iter(record["seeds"].values())))
    lines = [
        _row(["", *(name if name == "all" else f"seed {name}" for name in seeds)]),
        _row(["---"] * (1 + len(seeds))),
    ]
    lines += [_row([arm, *map(_format_score, map(scores.get, seeds))]) for arm, scores in record["seeds"].items()]
    return "\n".join(lines)


def make_losses_table(record: dict[str, Any]) -> str:
    """Show by task which answers that are right unpruned are lost, at the smallest budget."""
    keep, tasks = min(record["losses"].items(), key=lambda item: float(item[0]))
    heads = (f"keep {keep}", "right unpruned", "both lose", "the default alone loses", "the glance alone loses")
    lines = [_row(heads), _row(["---"] * len(heads))]
    for task, row in tasks.items():
        counts = (row[name] for name in ("both_lose", "default_alone_loses", "glance_alone_loses"))
        lines.append(_row([task, f"{row['right_unpruned']} of {row['questions']}", *map(str, counts)]))
    return "\n".join(lines)


def make_policies_table(record: dict[str, Any]) -> str:
    """Show what `benchmarks/policies.py` measured: for each promise what every rule loses and keeps."""
    lines = [_row(["promise", "rule", "tokens", "changed answers", "draws that kept it"]), _row(["---"] * 5)]
    for promise, rules in record["promises"].items():
        for name, row in rules.items():
            keep, loss = (_format_range(row, key) for key in ("keep", "loss"))
            kept = f"{100 * row['kept_the_promise']:.1f} %"
            lines.append(_row([f"{100 * float(promise):g} %", name, keep, loss, kept]))
    return "\n".join(lines)


def _format_range(row: dict[str, float], key: str) -> str:
    mean, low, high = (100 * row[name] for name in (key, f"{key}_low", f"{key}_high"))
    return f"{mean:.3g} % ({low:.3g} to {high:.3g})"


def make_audit_table(record: dict[str, Any]) -> str:
    """Show what `foveate audit --json` counted for the policy of a model, without and with a retry."""
    heads = ("question", "changed", "tokens", "with a retry: changed", "tokens", "answered again")
    lines = [_row(heads), _row(["---"] * len(heads))]
    for plain, retry in zip(record["policy"]["rows"], record["with a retry"]["rows"], strict=True):
        cells = [
            cell
            for row in (plain, retry)
            for cell in (f"{row['changed']} of {row['questions']}", f"{100 * row['keep']:.1f} %")
        ]
        lines.append(_row([plain["kind"], *cells, str(retry["retried"])]))
    return "\n".join(lines)


def make_budgets_table(record: dict[str, Any]) -> str:
    """Show what `benchmarks/budgets.py` measured: changed answers by task, pruned and with smaller images."""
    budgets = record["budgets"]
    lines = [_row(["question", "right unpruned", *(f"{100 * keep:g} %" for keep in budgets)])]
    lines.append(_row(["---"] * (2 + len(budgets))))
    for task, row in record["tasks"].items():
        cells = (
            " / ".join(f"{100 * row[f'{arm} @ {keep}']['changed']:.0f}" for arm in ("foveate", "resize"))
            for keep in budgets
        )
        lines.append(_row([task, f"{100 * row['unpruned']:.0f} %", *cells]))
    return "\n".join(lines)


def make_choice_table() -> str:
    """Show a budget for each kind of question, and how many answers changed there on the two bundled models."""
    records = [json.loads((RESULTS / "budgets" / f"{model}.json").read_text()) for model in ("bundled-qwen", "bundled")]
    lines = [_row(["question", "keep", "answers that change there, in a hundred"]), _row(["---"] * 3)]
    for what, tasks, keep in CHOICES:
        changed = [
            100 * record["tasks"][task][f"foveate @ {keep}"]["changed"]
            for record in records
            for task in tasks
            if task in record["tasks"]
        ]
        more = "" if keep < 0.5 else " or more"
        lines.append(_row([f"{what} ({', '.join(tasks)})", f"{keep:g}{more}", _format_ends(changed)]))
    return "\n".join(lines)


def _format_ends(values: list[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def make_tasks_table(record: dict[str, Any], keep: float = 0.111) -> str:
    """Show right answers by task, of every method at one budget beside the unpruned model."""
    arms = [arm for arm in record["arms"] if arm["keep"] in (None, keep) and "blind" not in arm["name"]]
    lines = [_row(["", "tokens", *record["questions"]]), _row(["---"] * (2 + len(record["questions"])))]
    for arm in arms:
        scores = [f"{arm['tasks'][task]['value']:.2f}" for task in record["questions"]]
        lines.append(_row([arm["name"], f"{arm['tokens']:.0f}", *scores]))
    return "\n".join(lines)


def _format_score(score: dict[str, float], digits: int = 3) -> str:
    value, low, high = (f"{score[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _compute_work(arm: dict[str, Any], total: float) -> float:
    """The visual tokens of a layer, averaged over the layers, as a share of all; those of a first look come on top."""
    look = resolve(arm["name"]).first_look if arm["name"] == "glance" else None
    return float(arm["tokens"] / total) + (look.share * round(look.depth * LAYERS) / LAYERS if look else 0.0)


def _format_times(row: dict[str, Any]) -> str:
    took = f"{row['ms']['ours']:.0f} ms"
    if "times faster" not in row:
        return took
    same = "" if row["same choice"] else f"; {row['in common']:.1%} of the choice in common"
    return f"{row['times faster']:.1f} times ({took}){same}"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def replace_block(text: str, name: str, block: str) -> str:
    """Return `text` with `block` between the marks of this name, where it has them."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{block}\n{end}", text, flags=re.DOTALL)


def main() -> None:
    """Rewrite the files in place."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    blocks = {
        "families": make_family_table(),
        "speed": make_speed_table(),
        "selection": make_selection_table(),
        "serving": make_serving_table(),
        "questions": make_questions_table(),
        "load": make_load_table(),
        "steps": make_steps_table(),
        "engine-clips": make_engine_clips_table(),
        "cost": make_cost_table(),
        "soak": make_soak_table(),
        "ceiling": make_ceiling_table(),
        "choice": make_choice_table(),
    }
    for model, record in json.loads((RESULTS / "losses.json").read_text()).items():
        blocks |= {f"seeds-{model}": make_seeds_table(record), f"losses-{model}": make_losses_table(record)}
    for results in sorted(RESULTS.glob("glance-*")):
        blocks[results.name] = make_glance_table(results)
    for results in sorted(RESULTS.glob("bundled*/table.md")):
        blocks[results.parent.name] = results.read_text().split("Accuracy:\n\n")[1].split("\n\n")[0]
        record = json.loads((results.parent / "summary.json").read_text())
        blocks[f"tasks-{results.parent.name}"] = make_tasks_table(record)
    for path in sorted(RESULTS.glob("pages-*.json")):
        blocks[path.stem] = make_pages_table(json.loads(path.read_text()))
    for path in sorted((RESULTS / "speed").glob("*-encode/bench.json")):
        blocks[path.parent.name] = make_encode_table(json.loads(path.read_text()))
    for folder, make_table in (
        ("policies", make_policies_table),
        ("audits", make_audit_table),
        ("budgets", make_budgets_table),
    ):
        for path in sorted((RESULTS / folder).glob("*.json")):
            blocks[f"{folder}-{path.stem}"] = make_table(json.loads(path.read_text()))
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text()
        for name, block in blocks.items():
            text = replace_block(text, name, block)
        path.write_text(text)


if __name__ == "__main__":
    main()
