"""Prompt-aware visual-token pruning for the vision-language models of Hugging Face transformers.

short = foveate.prune_inputs(model, inputs, keep=0.1)
with foveate.pruning(model, keep=0.1) as handle:
    model.generate(**inputs)
"""

from foveate.errors import FoveateError, FoveateWarning
from foveate.family import Family, families
from foveate.handle import Handle, attach, pruning
from foveate.method import Method, methods, select
from foveate.method.cdpruner import CDPruner
from foveate.method.divprune import DivPrune
from foveate.method.grid import Grid
from foveate.method.mmtok import MMTok
from foveate.method.random import Random
from foveate.method.zspaprune import ZSPAPrune
from foveate.prune import PrunedInputs, Report, prune_inputs
from foveate.tokens import VisualTokens

__version__ = "0.1.0"

__all__ = [
    "CDPruner",
    "DivPrune",
    "Family",
    "FoveateError",
    "FoveateWarning",
    "Grid",
    "Handle",
    "MMTok",
    "Method",
    "PrunedInputs",
    "Random",
    "Report",
    "VisualTokens",
    "ZSPAPrune",
    "attach",
    "families",
    "methods",
    "prune_inputs",
    "pruning",
    "select",
]
