"""The part `laws` of `gpu.py`: the laws of pruning on tiny models of six families, in float32 and bfloat16."""

from functools import partial

import torch

from foveate.conformance.batches import make_tiny_model
from foveate.conformance.laws import check
from foveate.models import lookup
from foveate.runtime.load import quiet
from gpu_timing import GpuSettings, Row, Rows

# Counted positions, tiles, tiles with markers, attention both ways within an image, windows and M-RoPE, DeepStack.
FAMILIES = ("llava", "llava_next", "internvl", "gemma3", "qwen2_5_vl", "qwen3_vl")
DTYPES = ("float32", "bfloat16")


def make_rows(settings: GpuSettings) -> Rows:
    """Every family in every type."""
    families = settings.choose(FAMILIES, FAMILIES, FAMILIES[:1])
    dtypes = settings.choose(DTYPES, DTYPES, DTYPES[:1])
    return {f"{name}, {dtype}": partial(check_laws, name, dtype, settings) for name in families for dtype in dtypes}


def check_laws(model_type: str, dtype: str, settings: GpuSettings) -> Row:
    """All laws that apply to the family.

    Without TF32: it rounds to 10 bits, by another algorithm for another batch size, and the laws compare to 1e-5.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    family = lookup.family(model_type)
    with quiet():
        model = make_tiny_model(family).to(settings.torch_device, getattr(torch, dtype))
        results = check(model, family)
    return {
        "family": model_type,
        "dtype": dtype,
        "attention": model.config._attn_implementation,
        "laws": {law.name: {"status": law.status, "figure": law.figure} for law in results},
        "faults": [f"{law.name}: {law.status}, {law.figure}" for law in results if not law.passed],
    }
