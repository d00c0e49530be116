"""Tables in Markdown of what `gpu.py` measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.apps.bench.report import format_table
from foveate.apps.console import format_mib

Rows = Sequence[Mapping[str, Any]]
BOTH = ("ours", "textbook")
ENCODED = "With encode the encoder's time includes the selection, which its second half waits for."
TRIAL = "**Not a result**: {}, to check the script. No figure below says anything about a GPU."


def to_markdown(record: Mapping[str, Any]) -> str:
    """What was measured, on what, and what was not."""
    device, parts = record["device"], record["parts"]
    about = ", ".join(f"{name} {value}" for name, value in [*device.items(), *record["versions"].items()])
    lines = [f"{about.removeprefix('name ')}; measured {record['measured']}, commit {record['commit']}."]
    if device["name"] == "cpu" or record["scale"] != "full":
        lines += ["", TRIAL.format(f"{record['scale']} sizes on {device['name']}")]
    for part, (key, make) in TABLES.items():
        rows = [{"name": name, **row} for name, row in parts.get(part, {}).items() if key in row]
        lines += ["", *make(rows)] if rows else []
    rest = _list_rest(parts)
    return "\n".join(lines + (["", *rest] if rest else [])) + "\n"


def make_laws(rows: Rows) -> list[str]:
    """How many laws hold, by family and type."""
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        holds = [law["status"] == "holds" for law in row["laws"].values()]
        text = f"{len(holds)} hold" if all(holds) else f"**{sum(holds)} of {len(holds)} hold**"
        cells.setdefault(row["family"], {})[row["dtype"]] = text
    return format_table(
        ["laws", *dtypes],
        [[f"`{family}`", *(each.get(dtype, "-") for dtype in dtypes)] for family, each in cells.items()],
    )


def make_kernel(rows: Rows) -> list[str]:
    """The kernel beside the loop."""
    heads = ("kernel", "kernel, ms", "loop, ms", "times faster", "same choice", "worse by at most")
    table = [
        [
            row["name"], *(_format(row["ms"][name]) for name in ("kernel", "loop")),
            _format(row["times faster"]["loop"]), "yes" if row["same choice"] else "no", row["shortfall"],
        ]
        for row in rows
    ]  # fmt: skip
    note = ["", "Times are those of Triton's interpreter, and mean nothing."] if rows[0]["interpreter"] else []
    return [*format_table(heads, table), *note]


def make_selection(rows: Rows) -> list[str]:
    """Rules beside their textbooks, then methods."""
    rules, timed = [row for row in rows if "rule" in row], [row for row in rows if "method" in row]
    heads = ("rule", "n", "k", "d", "ms", "textbook, ms", "times faster", "in common", "memory", "textbook's")
    table = [
        [
            row["rule"], *(str(row[name]) for name in "nkd"), *(_format(row["ms"][name]) for name in BOTH),
            _format(row["times faster"]["textbook"]), f"{row['in common']:.1%}",
            *(_format_bytes(row["peak bytes"][name]) for name in BOTH),
        ]
        for row in rules
    ]  # fmt: skip
    sizes = list(dict.fromkeys((row["n"], row["k"], row["d"]) for row in timed))
    cells: dict[str, dict[tuple[int, int, int], str]] = {}
    for row in timed:
        cells.setdefault(row["method"], {})[row["n"], row["k"], row["d"]] = _format(row["ms"]["method"])
    lines = format_table(heads, table) if rules else []
    if timed:
        lines += [""] if rules else []
        lines += format_table(
            [f"method, {timed[0]['dtype']}, ms", *(f"{k} of {n}, d = {d}" for n, k, d in sizes)],
            [[name, *(each.get(size, "-") for size in sizes)] for name, each in cells.items()],
        )
    return lines


def make_speed(rows: Rows) -> list[str]:
    """A table of arms for every shape and image size."""
    return [line for row in rows for line in ["", *_make_shape(row)]][1:]


def _make_shape(row: Mapping[str, Any]) -> list[str]:
    others = list(row["arms"][0]["first token, times"])
    heads = (
        f"{row['shape']}, {row['side']} x {row['side']}, {row['dtype']}", "visual tokens", "encoder, ms",
        "selection, ms", "prefill, ms", "first token, ms", *(f"times {other}" for other in others), "KV cache",
        "peak memory",
    )  # fmt: skip
    table = []
    for arm in row["arms"]:
        stages = [arm["seconds"].get(stage) for stage in ("encoder", "selection", "prefill", "first_token")]
        seconds = [_format(stage, 1000) if stage else "-" for stage in stages]
        ratios = [_format(arm["first token, times"][other]) for other in others]
        peak = arm["peak_bytes"] and arm["peak_bytes"]["above"]
        table.append([arm["name"], str(arm["kept"]), *seconds, *ratios, *map(_format_bytes, (arm["kv_bytes"], peak))])
    peaks = ", ".join(f"{of} {_format_bytes(peak)}" for of, peak in row["encoder peak bytes"].items())
    notes = [row["scale"], f"Peak memory of the encoder: {peaks}.", row["encode"] or ENCODED]
    return [*format_table(heads, table), "", " ".join(notes)]


def _format(spread: Mapping[str, float], scale: float = 1) -> str:
    """`12.3 (12.1 to 12.9)`."""
    values = [scale * spread[end] for end in ("median", "low", "high")]
    median, low, high = (f"{value:.{0 if value >= 100 else 3}{'f' if value >= 100 else 'g'}}" for value in values)
    return median if low == high else f"{median} ({low} to {high})"


def _format_bytes(count: int | None) -> str:
    return "-" if count is None else format_mib(count)


TABLES = {
    "laws": ("laws", make_laws), "kernel": ("ms", make_kernel), "selection": ("ms", make_selection),
    "speed": ("arms", make_speed),
}  # what a row has that was measured, and its table  # fmt: skip


def _list_rest(parts: Mapping[str, Any]) -> list[str]:
    """Failures, and what was left out."""
    rows = [(f"{part}, {name}", row) for part, each in parts.items() for name, row in each.items()]
    return [
        f"- **{row['status']}**: {name}: {'; '.join(row.get('faults') or [row.get('reason', '')])}"
        for name, row in rows
        if row["status"] != "done"
    ]
