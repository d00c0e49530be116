"""The part `speed` of `gpu.py`: time to first token and peak memory, on models of published shapes with random weights.

The arms of `foveate bench` take turns (unpruned, pruned by three methods, and the limit: the encoder, then the stock
model on as many tokens), and more of them: pruned with a part of each image encoded, a text as long as the pruned
prompt, and the question without any image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from foveate.apps.bench.arms import BenchArm, PrunedBenchArm
from foveate.apps.bench.figures import to_record
from foveate.apps.bench.measure import BenchCase, measure_case, prepare_case
from foveate.apps.bench.memory import measure_peak
from foveate.apps.bench.settings import parse_budgets
from foveate.apps.bench.shapes import SHAPES, WORDS, Shape, build, make_example
from foveate.errors import FoveateError
from foveate.models.cache import cache_of
from foveate.pipeline.encode import Encoded, encode
from foveate.pipeline.prune import prune_inputs
from foveate.runtime.load import quiet
from foveate.runtime.timing import StageTimer, kv_bytes, prefill
from gpu_timing import GpuSettings, Row, Rows, to_spread

CASES = (
    ("llava-1.5-7b", 336), ("qwen2.5-vl-3b", 672), ("llava-next-7b", 672), ("qwen2.5-vl-7b", 672),
    ("qwen2.5-vl-3b", 1344), ("qwen2.5-vl-7b", 1344),
)  # fmt: skip
SMALL = (("llava-1.5-7b", 336), ("qwen2.5-vl-3b", 224), ("llava-next-7b", 672), ("qwen2.5-vl-7b", 224))
SMALLEST = (("llava-next-7b", 336),)
WARM_UPS = 2  # beside that of `measure_case`
METHODS = "foveate,cdpruner,mmtok"
KEEP = "0.111"
ENCODES = (0.5, 0.25)
# What makes a shape small. The sizes of attention heads stay, as the position ids' sections fit them.
NARROW_TEXT = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 2, "num_key_value_heads": 1}
NARROW_CLIP = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2}
NARROW_QWEN = {"hidden_size": 160, "intermediate_size": 320, "num_heads": 2, "out_hidden_size": 256}


def make_rows(settings: GpuSettings) -> Rows:
    """Every shape in every size."""
    cases = settings.choose(CASES, SMALL, SMALLEST)
    return {f"{name}, {side} x {side}": partial(measure_shape, name, side, settings) for name, side in cases}


@dataclass(eq=False)
class EncodeBenchArm(BenchArm):
    """Pruned, with a share of every image encoded."""

    kind = "encode"
    pruned: PrunedBenchArm
    share: float

    def make_prompt(self, encoded: Encoded | None = None) -> Mapping[str, Any]:  # noqa: ARG002
        """The shorter inputs, encoder included."""
        arm = self.pruned
        return prune_inputs(self.model, self.inputs, keep=arm.keep, method=arm.method, encode=self.share)

    make_request = make_prompt

    def run_round(self) -> dict[str, float]:
        """The encoder and the selection are one stage, as the one waits for the other."""
        timer = StageTimer(self.model.device)
        inputs = self.make_request()
        timer.lap("encoder")
        self.kv_bytes = kv_bytes(cache_of(prefill(self.model, inputs)))
        timer.lap("prefill")
        return {**timer.laps, "first_token": sum(timer.laps.values())}


@dataclass(eq=False)
class TextBenchArm(BenchArm):
    """The stock model on words alone: no encoder, no image."""

    kind = "text"
    ids: Tensor

    def make_prompt(self, encoded: Encoded | None = None) -> Mapping[str, Any]:  # noqa: ARG002
        """The words."""
        return {"input_ids": self.ids}

    make_request = make_prompt

    def run_round(self) -> dict[str, float]:
        """The prefill."""
        timer = StageTimer(self.model.device)
        self.kv_bytes = kv_bytes(cache_of(prefill(self.model, self.make_request())))
        timer.lap("prefill")
        return {**timer.laps, "first_token": timer.laps["prefill"]}


@dataclass(frozen=True, eq=False)
class GpuBenchCase(BenchCase):
    """A case of `foveate bench` with more arms."""

    more: Sequence[BenchArm] = ()

    @property
    def arms(self) -> list[BenchArm]:
        """All of them."""
        return [*super().arms, *self.more]


@torch.no_grad()
def measure_shape(name: str, side: int, settings: GpuSettings) -> Row:
    """Build the model, run all arms in turns, and compare their times within a round."""
    shape, size = SHAPES[name], (side, side)
    is_full = settings.scale == "full"
    with quiet():
        kind = settings.torch_device.type
        model, scale = build(shape, None, device=kind) if is_full else build(make_narrow(shape), 2, device=kind)
        inputs = make_example(model, shape, size)
        case, refusal = add_arms(
            prepare_case(model, inputs, parse_budgets(METHODS, KEEP), batch=1, size=size), settings
        )
        for _ in range(WARM_UPS):
            for arm in case.arms:
                arm.run_round()
        measure_case(case, rounds=settings.choose(10, 3, 1), new_tokens=settings.choose(4, 2, 1))
        peaks = {"all": measure_peak(partial(encode, model, inputs), model.device)}
        for arm in case.more:
            if isinstance(arm, EncodeBenchArm):
                peaks[f"encode {arm.share}"] = measure_peak(arm.make_request, model.device)
    record = to_record(case)
    first = {arm.name: arm.seconds["first_token"] for arm in case.arms}
    for arm in record["arms"]:
        arm["first token, times"] = {
            other: to_spread([a / b for a, b in zip(first[arm["name"]], first[other], strict=True)])
            for other in (case.unpruned.name, *(each.name for each in case.more if isinstance(each, TextBenchArm)))
        }
    return {
        "shape": name, "side": side, "dtype": str(model.dtype).removeprefix("torch."),
        "scale": scale.describe() if is_full else "Random weights, few and narrow layers: a check of the script.",
        "parameters": sum(p.numel() for p in model.parameters()), "encode": refusal,
        "encoder peak bytes": {of: None if peak is None else peak.above for of, peak in peaks.items()}, **record,
    }  # fmt: skip


def make_narrow(shape: Shape) -> Shape:
    """A shape with the tokens of the published one, on layers that are narrow."""
    text, vision = shape.config["text_config"], shape.config["vision_config"]
    narrow = NARROW_CLIP if shape.model_type.startswith("llava") else NARROW_QWEN
    config = {"text_config": {**text, **NARROW_TEXT}, "vision_config": {**vision, **narrow}}
    return replace(shape, config={**shape.config, **config})


def add_arms(case: BenchCase, settings: GpuSettings) -> tuple[GpuBenchCase, str | None]:
    """Add the arms of this script; return too why `encode` cannot be used, None where it can."""
    pruned, model, inputs = case.pruned[0], case.unpruned.model, case.unpruned.inputs
    words = case.limits[pruned.length].ids
    more: list[BenchArm] = []
    refusal = None
    for share in settings.choose(ENCODES, ENCODES, ENCODES[:1]):
        arm = EncodeBenchArm(model, f"{pruned.name}, encode {share}", 0, 0, inputs, pruned, share)
        try:
            short = arm.make_request()
        except FoveateError as error:
            refusal = str(error)
            break
        arm.kept = sum(len(item.kept) for item in short.report.items)
        arm.length = short["input_ids"].shape[1]
        more.append(arm)
    more.append(TextBenchArm(model, f"text of {words.shape[1]} tokens", 0, words.shape[1], {}, words))
    question = words[:, -WORDS - 1 :]
    more.append(TextBenchArm(model, "question without an image", 0, question.shape[1], {}, question))
    return GpuBenchCase(**vars(case), more=more), refusal
