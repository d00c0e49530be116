"""Prompt-aware visual-token pruning for the vision-language models of Hugging Face transformers.

short = foveate.prune_inputs(model, inputs, keep=0.1)
with foveate.pruning(model, keep=0.1) as handle:
    model.generate(**inputs)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.chat import learn_template
    from foveate.decoder import DecoderMethod
    from foveate.decoder.fastv import FastV
    from foveate.decoder.hooks import DecoderHandle
    from foveate.decoder.pyramiddrop import PyramidDrop
    from foveate.decoder.report import DecoderReport
    from foveate.decoder.sparsevlm import SparseVLM
    from foveate.encoded import Encoded, encode
    from foveate.errors import FoveateError, FoveateWarning
    from foveate.family import Family, families
    from foveate.handle import Handle, attach, pruning
    from foveate.method import Method, methods, select
    from foveate.method.cdpruner import CDPruner
    from foveate.method.coin import CoIn
    from foveate.method.divprune import DivPrune
    from foveate.method.foveate import Foveate
    from foveate.method.grid import Grid
    from foveate.method.holov import HoloV
    from foveate.method.mmtok import MMTok
    from foveate.method.prumerge import PruMerge
    from foveate.method.random import Random
    from foveate.method.scope import Scope
    from foveate.method.score import SCoRe
    from foveate.method.visionzip import VisionZip
    from foveate.method.vispruner import VisPruner
    from foveate.method.zspaprune import ZSPAPrune
    from foveate.prune import PrunedInputs, Report, prune_inputs
    from foveate.tokens import VisualTokens
    from foveate.viz import draw

__version__ = "0.1.0"

# Where each public name lives. It is imported when first asked for, so that the command line need not wait for torch.
_HOMES = {
    "CDPruner": "foveate.method.cdpruner",
    "CoIn": "foveate.method.coin",
    "DecoderHandle": "foveate.decoder.hooks",
    "DecoderMethod": "foveate.decoder",
    "DecoderReport": "foveate.decoder.report",
    "DivPrune": "foveate.method.divprune",
    "Encoded": "foveate.encoded",
    "Family": "foveate.family",
    "FastV": "foveate.decoder.fastv",
    "Foveate": "foveate.method.foveate",
    "FoveateError": "foveate.errors",
    "FoveateWarning": "foveate.errors",
    "Grid": "foveate.method.grid",
    "Handle": "foveate.handle",
    "HoloV": "foveate.method.holov",
    "MMTok": "foveate.method.mmtok",
    "Method": "foveate.method",
    "PruMerge": "foveate.method.prumerge",
    "PrunedInputs": "foveate.prune",
    "PyramidDrop": "foveate.decoder.pyramiddrop",
    "Random": "foveate.method.random",
    "Report": "foveate.prune",
    "SCoRe": "foveate.method.score",
    "Scope": "foveate.method.scope",
    "VisPruner": "foveate.method.vispruner",
    "VisionZip": "foveate.method.visionzip",
    "SparseVLM": "foveate.decoder.sparsevlm",
    "VisualTokens": "foveate.tokens",
    "ZSPAPrune": "foveate.method.zspaprune",
    "attach": "foveate.handle",
    "draw": "foveate.viz",
    "encode": "foveate.encoded",
    "families": "foveate.family",
    "learn_template": "foveate.chat",
    "methods": "foveate.method",
    "prune_inputs": "foveate.prune",
    "pruning": "foveate.handle",
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
    "methods",
    "prune_inputs",
    "pruning",
    "select",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'foveate' has no attribute {name!r}")
    found: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
