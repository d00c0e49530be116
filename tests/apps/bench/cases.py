"""Cases with figures that are set by hand, and shapes that are small enough for a test."""

from foveate.apps.bench.arms import LimitBenchArm, PrunedBenchArm, UnprunedBenchArm
from foveate.apps.bench.measure import BenchCase
from foveate.apps.bench.memory import MemoryPeak
from foveate.apps.bench.shapes import SHAPES, Shape
from foveate.method import resolve

TEXT = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "image_size": 28, "num_hidden_layers": 3}
QWEN_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "depth": 8, "out_hidden_size": 64}
ROPE = {"rope_type": "default", "type": "mrope", "mrope_section": [2, 3, 3], "rope_theta": 1e6}


def make_small(name, text, tower):
    """A shape with the special features of a published one, small enough for a test."""
    own, shape = SHAPES[name].config, SHAPES[name]
    config = {
        **own,
        "text_config": {**own["text_config"], **TEXT, **text},
        "vision_config": {**own["vision_config"], **tower},
    }
    return Shape(shape.model_type, config, shape.depth, (56, 56), shape.make_pixels, shape.fence)


SMALL = {
    "llava-1.5-7b": make_small("llava-1.5-7b", {}, {**TOWER, "image_size": 56}),
    "llava-next-7b": make_small("llava-next-7b", {}, TOWER),
    "internvl3-8b": make_small("internvl3-8b", {}, {**TOWER, "image_size": [28, 28]}),
    "smolvlm-2.2b": make_small("smolvlm-2.2b", {}, {**TOWER, "image_size": 42}),
    "qwen2.5-vl-3b": make_small("qwen2.5-vl-3b", {"rope_parameters": ROPE}, QWEN_TOWER),
    "qwen2.5-vl-7b": make_small("qwen2.5-vl-7b", {"rope_parameters": ROPE}, QWEN_TOWER),
}
SMALL["llava-next-7b"].config["image_grid_pinpoints"] = [[28, 56], [56, 28], [56, 56]]


def fill(arm, encoder, selection, prefill, kv_bytes, peak, rounds=3, jitter=0.0):
    """Fill the arm with milliseconds, the same in every round except for `jitter` (a share) of the prefill."""
    noise = [1 + jitter * (n - rounds // 2) for n in range(rounds)]
    stages = {"encoder": [encoder / 1e3] * rounds, "prefill": [prefill * factor / 1e3 for factor in noise]}
    if isinstance(arm, PrunedBenchArm):
        stages["selection"] = [selection / 1e3] * rounds
    arm.seconds = {**stages, "first_token": [sum(values) for values in zip(*stages.values(), strict=True)]}
    arm.decode, arm.kv_bytes, arm.peak = [0.001, 0.002], kv_bytes, None if peak is None else MemoryPeak(1000, peak)
    return arm


def make_case(
    *, unpruned=(20, 0, 80), pruned=(20, 2, 20), limit=(20, 0, 20), total=576, length=616, kept=58, peak=500,
    kv_bytes=(9, 2), jitter=0.0, batch=1, rounds=3,
):  # fmt: skip
    """One pruned arm: (encoder, selection, prefill) of it, of the unpruned model, and of the limit if there is one."""
    short = length - total + kept
    arm = PrunedBenchArm(None, "divprune 0.1", kept, short, {}, resolve("divprune"), 0.1)
    pruned_arms, limits = [fill(arm, *pruned, kv_bytes[1], peak, rounds, jitter)], {}
    if limit is not None:
        limit_arm = LimitBenchArm(None, f"limit, {kept} tokens", kept, short, {}, None, None)
        limits[short] = fill(limit_arm, *limit, kv_bytes[1], peak, rounds, jitter)
    unpruned_arm = fill(UnprunedBenchArm(None, "unpruned", total, length, {}), *unpruned, kv_bytes[0], 1000, rounds)
    return BenchCase(batch, (336, 448), total, unpruned_arm, pruned_arms, limits, ("A note.",))
