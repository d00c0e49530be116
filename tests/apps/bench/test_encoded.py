"""`foveate bench --encode`: the same budgets with some tiles encoded, beside all of them."""

import json

import pytest

from apps.bench.cases import SMALL, fill, make_case
from foveate.apps import cli
from foveate.apps.bench import shapes
from foveate.apps.bench.arms import EncodedBenchArm
from foveate.apps.bench.encoded import compare_encoders, list_rows
from foveate.apps.bench.figures import compute_figures, to_record, write_verdict
from foveate.apps.bench.measure import count_turns, measure_case, prepare_case
from foveate.apps.bench.memory import MemoryPeak
from foveate.apps.encoder import EncoderOptions
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import ModelError
from foveate.method import resolve
from foveate.models import lookup

SOME = EncoderOptions(0.4)
BUDGETS = [("divprune", resolve("divprune"), 0.2), ("foveate", resolve("foveate"), 3)]


def prepare(model_type, encoders=(SOME,), budgets=BUDGETS):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    return prepare_case(
        model, make_batch(model, family, [(1, 6)]), budgets, batch=1, size=(32, 32), encoders=encoders
    )  # fmt: skip


def test_every_budget_stands_beside_itself():
    case = prepare("internvl", (SOME, EncoderOptions(0.6)))
    names = [arm.name for arm in case.pruned]
    assert names == [
        f"{name}{more}" for name in ("divprune 0.2", "foveate 3") for more in ("", ", encode 0.4", ", encode 0.6")
    ]
    for arm in case.pruned:
        if isinstance(arm, EncodedBenchArm):
            assert arm.beside.name == arm.name.partition(",")[0]
            assert arm.tiles[0] < arm.tiles[1]
            assert arm.make_request().report.tile_counts == arm.tiles
            assert arm.kept == arm.make_request().report.kept_count
        else:
            assert arm.make_request().report.tile_counts is None
    assert [arm.name for arm in prepare("internvl", ()).pruned] == ["divprune 0.2", "foveate 3"]


@pytest.mark.parametrize("model_type", ["idefics3", "internvl", "llava_next"])
def test_every_stage_is_measured(model_type):
    case, calls = prepare(model_type), []
    measure_case(case, rounds=2, new_tokens=2, on_turn=lambda: calls.append(1))
    assert len(calls) == count_turns(case, 2)
    for arm in case.pruned:
        assert set(arm.seconds) == {"encoder", "selection", "prefill", "first_token"}
        for turn, seconds in enumerate(arm.seconds["first_token"]):
            stages = ("encoder", "selection", "prefill")
            assert seconds == pytest.approx(sum(arm.seconds[stage][turn] for stage in stages))
        assert arm.encoder_peak is not None
        assert arm.decode
    record = json.loads(json.dumps(to_record(case), allow_nan=False))
    kinds = [arm["kind"] for arm in record["arms"] if arm["kind"] != "limit"]
    assert kinds == ["whole", "pruned", "encoded", "pruned", "encoded"]
    for arm in record["arms"]:
        assert ("tiles" in arm) == (arm["kind"] == "encoded")


def test_a_first_look_at_the_overview_is_a_stage():
    case = prepare("internvl", budgets=[("glance", resolve("glance"), 0.2)])
    measure_case(case, rounds=1, new_tokens=1)
    whole, some = case.pruned
    assert set(whole.seconds) == set(some.seconds) == {"encoder", "glance", "selection", "prefill", "first_token"}
    assert min(some.seconds["glance"][0], some.seconds["selection"][0]) > 0


def add_encoded(case, stages, peaks=(1000, 350), **more):
    """The case with an arm more: its (encoder, selection, prefill), and the peaks of both encoders."""
    beside = case.pruned[0]
    name, method, keep = f"{beside.name}, encode 0.4", beside.method, beside.keep
    arm = EncodedBenchArm(None, name, beside.kept, beside.length, {}, method, keep, SOME, (2, 5), beside)
    case.pruned.append(fill(arm, *stages, 2, 400, **more))
    beside.encoder_peak, arm.encoder_peak = (None if peak is None else MemoryPeak(0, peak) for peak in peaks)
    return arm


def test_ratios_to_the_same_budget():
    case = make_case(pruned=(60, 2, 18))
    arm = add_encoded(case, (24, 3, 13))
    figures = compare_encoders(arm)
    assert figures.faster.median == pytest.approx(2.0)  # 80 and 40 ms
    assert figures.encoder.median == pytest.approx(0.4)
    assert figures.peak == 0.35
    (row,) = list_rows([arm])
    assert row == ["divprune 0.1, encode 0.4", "2 of 5", "2.00", "0.40", "0.35"]
    for peaks in ((None, 3), (3, None), (0, 3)):
        case.pruned.pop()
        assert list_rows([add_encoded(case, (24, 3, 13), peaks)])[0][-1] == "-"


def test_the_limit_encodes_everything():
    """So nothing says how much could be saved beside it."""
    case = make_case()
    arm = add_encoded(case, (8, 3, 20))
    figures = compute_figures(case, arm)
    assert figures.allowed is None
    assert [target.name for target in figures.targets] == [
        "prefill, times the limit", "KV bytes, times the limit", "peak memory, times unpruned"
    ]  # fmt: skip
    assert "(58 of 576 visual tokens, 2 of 5 parts encoded) saves 69%" in write_verdict(case)


def test_a_verdict_on_an_encoder_that_dominates():
    case = make_case(unpruned=(96, 0, 4), pruned=(96, 0.5, 3.9), limit=(96, 0, 1))
    add_encoded(case, (95, 0.5, 3.8))
    assert "which pruning leaves alone" not in write_verdict(case)


def test_models_that_see_images_whole():
    with pytest.raises(ModelError, match=r"encode=0\.4 encodes a part .* whole: leave encode out"):
        prepare("llava")


def test_the_shape_with_tiles(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shapes, "SHAPES", SMALL)
    command = ["bench", "--model", "llava-next-7b", "--keep", "0.2", "--encode", "0.4", "--rounds", "1"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--new-tokens", "1", "--json", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    record = json.loads(out.splitlines()[-1])
    (arm,) = [arm for arm in record["cases"][0]["arms"] if arm["kind"] == "encoded"]
    assert (arm["name"], arm["encode"], arm["tiles"], arm["encoded"]) == ("foveate 0.2, encode 0.4", 0.4, [2, 5], 0.4)
    assert {"faster", "encoder", "peak"} <= set(arm)
    assert "| foveate 0.2, encode 0.4 | 2 of 5 |" in out
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_shapes_without_tiles(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shapes, "SHAPES", SMALL)
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", "--model", "llava-1.5-7b", "--encode", "0.4", "--no-plot", "--out", str(tmp_path)])
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert "whole: leave encode out." in captured.err
