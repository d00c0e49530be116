"""The methods by name: where the built-in ones are defined, and the plug-ins of other packages."""

from __future__ import annotations

from typing import Any

from foveate.errors import UnknownMethodError
from foveate.registry import Registry

BUILTIN = {
    "cdpruner": "foveate.method.cdpruner:CDPruner",
    "coin": "foveate.method.coin:CoIn",
    "divprune": "foveate.method.divprune:DivPrune",
    "fastv": "foveate.method.fastv:FastV",
    "foveate": "foveate.method.foveate:Foveate",
    "grid": "foveate.method.grid:Grid",
    "holov": "foveate.method.holov:HoloV",
    "mmtok": "foveate.method.mmtok:MMTok",
    "prumerge": "foveate.method.prumerge:PruMerge",
    "pyramiddrop": "foveate.method.pyramiddrop:PyramidDrop",
    "random": "foveate.method.random:Random",
    "scope": "foveate.method.scope:Scope",
    "score": "foveate.method.score:SCoRe",
    "sparsevlm": "foveate.method.sparsevlm:SparseVLM",
    "visionzip": "foveate.method.visionzip:VisionZip",
    "vispruner": "foveate.method.vispruner:VisPruner",
    "zspaprune": "foveate.method.zspaprune:ZSPAPrune",
}

METHODS: Registry[Any] = Registry("foveate.methods", BUILTIN, kind="method", unknown=UnknownMethodError)
