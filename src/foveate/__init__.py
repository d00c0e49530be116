"""Prompt-aware visual-token pruning for the vision-language models of Hugging Face transformers.

short = foveate.prune_inputs(model, inputs, keep=0.1)
with foveate.pruning(model, keep=0.1) as handle:
    model.generate(**inputs)
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.errors import FoveateError, FoveateWarning
    from foveate.hooks.attach import Handle, attach, pruning
    from foveate.hooks.decoder import DecoderHandle
    from foveate.hooks.report import DecoderReport
    from foveate.method import Method, methods, select
    from foveate.method.cdpruner import CDPruner
    from foveate.method.coin import CoIn
    from foveate.method.divprune import DivPrune
    from foveate.method.fastv import FastV
    from foveate.method.foveate import Foveate
    from foveate.method.grid import Grid
    from foveate.method.holov import HoloV
    from foveate.method.in_decoder import DecoderMethod
    from foveate.method.mmtok import MMTok
    from foveate.method.prumerge import PruMerge
    from foveate.method.pyramiddrop import PyramidDrop
    from foveate.method.random import Random
    from foveate.method.scope import Scope
    from foveate.method.score import SCoRe
    from foveate.method.sparsevlm import SparseVLM
    from foveate.method.tokens import VisualTokens
    from foveate.method.visionzip import VisionZip
    from foveate.method.vispruner import VisPruner
    from foveate.method.zspaprune import ZSPAPrune
    from foveate.models import Family, families
    from foveate.pipeline.encode import Encoded, encode
    from foveate.pipeline.prune import prune_inputs
    from foveate.pipeline.report import PrunedInputs, Report
    from foveate.runtime.chat_template import learn_template
    from foveate.runtime.load import LoadedModel, load
    from foveate.viz import draw

__version__ = "0.2.0"

# Where each public name lives. It is imported when first asked for, so that the command line need not wait for torch.
_HOMES = {
    "CDPruner": "foveate.method.cdpruner",
    "CoIn": "foveate.method.coin",
    "DecoderHandle": "foveate.hooks.decoder",
    "DecoderMethod": "foveate.method.in_decoder",
    "DecoderReport": "foveate.hooks.report",
    "DivPrune": "foveate.method.divprune",
    "Encoded": "foveate.pipeline.encode",
    "Family": "foveate.models",
    "FastV": "foveate.method.fastv",
    "Foveate": "foveate.method.foveate",
    "FoveateError": "foveate.errors",
    "FoveateWarning": "foveate.errors",
    "Grid": "foveate.method.grid",
    "Handle": "foveate.hooks.attach",
    "HoloV": "foveate.method.holov",
    "LoadedModel": "foveate.runtime.load",
    "MMTok": "foveate.method.mmtok",
    "Method": "foveate.method",
    "PruMerge": "foveate.method.prumerge",
    "PrunedInputs": "foveate.pipeline.report",
    "PyramidDrop": "foveate.method.pyramiddrop",
    "Random": "foveate.method.random",
    "Report": "foveate.pipeline.report",
    "SCoRe": "foveate.method.score",
    "Scope": "foveate.method.scope",
    "VisPruner": "foveate.method.vispruner",
    "VisionZip": "foveate.method.visionzip",
    "SparseVLM": "foveate.method.sparsevlm",
    "VisualTokens": "foveate.method.tokens",
    "ZSPAPrune": "foveate.method.zspaprune",
    "attach": "foveate.hooks.attach",
    "draw": "foveate.viz",
    "encode": "foveate.pipeline.encode",
    "families": "foveate.models",
    "learn_template": "foveate.runtime.chat_template",
    "load": "foveate.runtime.load",
    "methods": "foveate.method",
    "prune_inputs": "foveate.pipeline.prune",
    "pruning": "foveate.hooks.attach",
    "select": "foveate.method",
}

__all__ = [
    "CDPruner",
    "CoIn",
    "DecoderHandle",
    "DecoderMethod",
    "DecoderReport",
    "DivPrune",
    "Encoded",
    "Family",
    "FastV",
    "Foveate",
    "FoveateError",
    "FoveateWarning",
    "Grid",
    "Handle",
    "HoloV",
    "LoadedModel",
    "MMTok",
    "Method",
    "PruMerge",
    "PrunedInputs",
    "PyramidDrop",
    "Random",
    "Report",
    "SCoRe",
    "Scope",
    "SparseVLM",
    "VisPruner",
    "VisionZip",
    "VisualTokens",
    "ZSPAPrune",
    "attach",
    "draw",
    "encode",
    "families",
    "learn_template",
    "load",
    "methods",
    "prune_inputs",
    "pruning",
    "select",
]


# Modules under their names of version 0.1, for one release.
_MOVED = {"vllm": "foveate.integrations.vllm"}


def __getattr__(name: str) -> object:
    if name in _MOVED:
        warnings.warn(f"foveate.{name} is now {_MOVED[name]}.", DeprecationWarning, stacklevel=2)
        return import_module(_MOVED[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'foveate' has no attribute {name!r}")
    found: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
