"""Prompt-aware visual-token pruning for the vision-language models of Hugging Face transformers.

short = foveate.prune_inputs(model, inputs, keep=0.1)
with foveate.pruning(model, keep=0.1) as handle:
    model.generate(**inputs)
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers; at run time __getattr__ imports each name when it is first used
    from foveate.errors import FoveateError as FoveateError, FoveateWarning as FoveateWarning
    from foveate.hooks.attach import Handle as Handle, attach as attach, pruning as pruning
    from foveate.hooks.layers import DecoderHandle as DecoderHandle
    from foveate.hooks.report import DecoderReport as DecoderReport, StepReport as StepReport
    from foveate.method import Method as Method, methods as methods, select as select
    from foveate.method.cdpruner import CDPruner as CDPruner
    from foveate.method.coin import CoIn as CoIn
    from foveate.method.divprune import DivPrune as DivPrune
    from foveate.method.fastv import FastV as FastV
    from foveate.method.foveate import Foveate as Foveate
    from foveate.method.glance import Glance as Glance
    from foveate.method.grid import Grid as Grid
    from foveate.method.holov import HoloV as HoloV
    from foveate.method.in_decoder import DecoderMethod as DecoderMethod
    from foveate.method.in_steps import StepMethod as StepMethod
    from foveate.method.lrcp import LRCP as LRCP
    from foveate.method.memory import StreamSettings as StreamSettings
    from foveate.method.mmtok import MMTok as MMTok
    from foveate.method.prumerge import PruMerge as PruMerge
    from foveate.method.prunesid import PruneSID as PruneSID
    from foveate.method.pyramiddrop import PyramidDrop as PyramidDrop
    from foveate.method.random import Random as Random
    from foveate.method.recency import Recency as Recency
    from foveate.method.scope import Scope as Scope
    from foveate.method.score import SCoRe as SCoRe
    from foveate.method.sparsevlm import SparseVLM as SparseVLM
    from foveate.method.tokens import VisualTokens as VisualTokens
    from foveate.method.trimmed_llama import TrimmedLlama as TrimmedLlama
    from foveate.method.vidcom2 import VidCom2 as VidCom2
    from foveate.method.visionpulse import VisionPulse as VisionPulse
    from foveate.method.visionzip import VisionZip as VisionZip
    from foveate.method.vispruner import VisPruner as VisPruner
    from foveate.method.zspaprune import ZSPAPrune as ZSPAPrune
    from foveate.models import Family as Family, families as families
    from foveate.models.visual_input import Tile as Tile, VisualInput as VisualInput
    from foveate.pipeline.encode import Encoded as Encoded, encode as encode
    from foveate.pipeline.prune import prune_inputs as prune_inputs
    from foveate.pipeline.report import PrunedInputs as PrunedInputs, Report as Report
    from foveate.policy import Policy as Policy
    from foveate.runtime.chat_template import learn_template as learn_template
    from foveate.runtime.load import load as load
    from foveate.runtime.loaded import LoadedModel as LoadedModel
    from foveate.runtime.reply import Reply as Reply
    from foveate.runtime.retry import generate_with_retry as generate_with_retry
    from foveate.runtime.session import Session as Session
    from foveate.viz import draw as draw

__version__ = "0.2.0"

# Where each public name is defined. The command line need not wait for torch.
_MODULES = {
    "foveate.errors": "FoveateError FoveateWarning",
    "foveate.hooks.attach": "Handle attach pruning",
    "foveate.hooks.layers": "DecoderHandle",
    "foveate.hooks.report": "DecoderReport StepReport",
    "foveate.method": "Method methods select",
    "foveate.method.cdpruner": "CDPruner",
    "foveate.method.coin": "CoIn",
    "foveate.method.divprune": "DivPrune",
    "foveate.method.fastv": "FastV",
    "foveate.method.foveate": "Foveate",
    "foveate.method.glance": "Glance",
    "foveate.method.grid": "Grid",
    "foveate.method.holov": "HoloV",
    "foveate.method.in_decoder": "DecoderMethod",
    "foveate.method.in_steps": "StepMethod",
    "foveate.method.lrcp": "LRCP",
    "foveate.method.memory": "StreamSettings",
    "foveate.method.mmtok": "MMTok",
    "foveate.method.prumerge": "PruMerge",
    "foveate.method.prunesid": "PruneSID",
    "foveate.method.pyramiddrop": "PyramidDrop",
    "foveate.method.random": "Random",
    "foveate.method.recency": "Recency",
    "foveate.method.scope": "Scope",
    "foveate.method.score": "SCoRe",
    "foveate.method.sparsevlm": "SparseVLM",
    "foveate.method.tokens": "VisualTokens",
    "foveate.method.trimmed_llama": "TrimmedLlama",
    "foveate.method.vidcom2": "VidCom2",
    "foveate.method.visionpulse": "VisionPulse",
    "foveate.method.visionzip": "VisionZip",
    "foveate.method.vispruner": "VisPruner",
    "foveate.method.zspaprune": "ZSPAPrune",
    "foveate.models": "Family families",
    "foveate.models.visual_input": "Tile VisualInput",
    "foveate.pipeline.encode": "Encoded encode",
    "foveate.pipeline.prune": "prune_inputs",
    "foveate.pipeline.report": "PrunedInputs Report",
    "foveate.policy": "Policy",
    "foveate.runtime.chat_template": "learn_template",
    "foveate.runtime.load": "load",
    "foveate.runtime.loaded": "LoadedModel",
    "foveate.runtime.reply": "Reply",
    "foveate.runtime.retry": "generate_with_retry",
    "foveate.runtime.session": "Session",
    "foveate.viz": "draw",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_HOMES)

# Modules under their names of version 0.1, for one release.
_MOVED = {"vllm": "foveate.integrations.vllm"}


def __getattr__(name: str) -> object:
    if name in _MOVED:
        warnings.warn(f"foveate.{name} is now {_MOVED[name]}.", DeprecationWarning, stacklevel=2)
        return import_module(_MOVED[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'foveate' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
