"""The methods by name, built-in ones and plug-ins of other packages, and `select`, which needs nothing but tensors."""

import inspect
from dataclasses import dataclass

from torch import Tensor

from foveate.errors import InputError, UnknownMethodError, describe
from foveate.method.base import Method
from foveate.method.budget import to_budget
from foveate.method.inner import InnerMethod
from foveate.method.tokens import VisualTokens, check_matrix
from foveate.registry import Registry

BUILTIN = {
    "cdpruner": "foveate.method.cdpruner:CDPruner",
    "coin": "foveate.method.coin:CoIn",
    "divprune": "foveate.method.divprune:DivPrune",
    "fastv": "foveate.method.fastv:FastV",
    "foveate": "foveate.method.foveate:Foveate",
    "glance": "foveate.method.glance:Glance",
    "grid": "foveate.method.grid:Grid",
    "holov": "foveate.method.holov:HoloV",
    "lrcp": "foveate.method.lrcp:LRCP",
    "mmtok": "foveate.method.mmtok:MMTok",
    "prumerge": "foveate.method.prumerge:PruMerge",
    "prunesid": "foveate.method.prunesid:PruneSID",
    "pyramiddrop": "foveate.method.pyramiddrop:PyramidDrop",
    "random": "foveate.method.random:Random",
    "scope": "foveate.method.scope:Scope",
    "score": "foveate.method.score:SCoRe",
    "sparsevlm": "foveate.method.sparsevlm:SparseVLM",
    "trimmed_llama": "foveate.method.trimmed_llama:TrimmedLlama",
    "vidcom2": "foveate.method.vidcom2:VidCom2",
    "visionpulse": "foveate.method.visionpulse:VisionPulse",
    "visionzip": "foveate.method.visionzip:VisionZip",
    "vispruner": "foveate.method.vispruner:VisPruner",
    "zspaprune": "foveate.method.zspaprune:ZSPAPrune",
}

METHODS: Registry[Method | InnerMethod] = Registry(
    "foveate.methods", BUILTIN, kind="method", unknown=UnknownMethodError
)


@dataclass(frozen=True)
class MethodInfo:
    """One row of the table of methods.

    Args:
        name: The name under which it is registered.
        paper: Where it was published.
        summary: One line.
        prompt_aware: Whether the selection depends on the question.
        needs: Extras of `VisualTokens`, which only some models provide.
        prunes: "input"; or "decoder" (between its layers) and "decoding" (what its steps attend to) for methods that
            only `attach` and `pruning` can run.
    """

    name: str
    paper: str
    summary: str
    prompt_aware: bool
    needs: tuple[str, ...]
    prunes: str


def methods() -> list[MethodInfo]:
    """List every registered method, built-in or plug-in, sorted by name."""
    rows = []
    for name in METHODS.names():
        kind = METHODS.load(name)
        needs, prunes = ((), kind.prunes) if issubclass(kind, InnerMethod) else (tuple(sorted(kind.needs)), "input")
        rows.append(MethodInfo(name, kind.paper, kind.summary, kind.prompt_aware, needs, prunes))
    return rows


def resolve(method: str | Method) -> Method:
    """Return the method that prunes the input: itself, or by its name with default hyper-parameters.

    Raises:
        UnknownMethodError: No method is registered under this name.
        InputError: This is not a method, or it prunes inside the decoder.
    """
    resolved = resolve_any(method)
    if isinstance(resolved, InnerMethod):
        raise InputError(
            f"{resolved.name} works inside the decoder, so it needs the running model: "
            "use foveate.pruning or foveate.attach, or a method that prunes the input."
        )
    return resolved


def resolve_any(method: str | Method | InnerMethod) -> Method | InnerMethod:
    """Return the method of either kind, as `resolve` does."""
    if isinstance(method, (Method, InnerMethod)):
        return method
    if isinstance(method, str):
        return METHODS.load(method)()
    raise InputError(_refuse(method))


def _refuse(value: object) -> str:
    if inspect.isclass(value):
        return f"method={value.__name__} is a class: give an instance, {value.__name__}(), or a name."
    return f"method={describe(value)} is not a method: give a name ({', '.join(METHODS.names())}) or a Method instance."


def select(
    embeds: Tensor,
    question: Tensor | None = None,
    *,
    k: int | float,
    method: str | Method = "foveate",
    grid: tuple[int, int, int] | None = None,
    encoder: Tensor | None = None,
    cls_attention: Tensor | None = None,
    keys: Tensor | None = None,
    attention: Tensor | None = None,
    cross_attention: Tensor | None = None,
) -> Tensor:
    """Select the visual tokens of one image to keep.

    Args:
        embeds: (n, d) visual tokens, after the projector.
        question: (m, d) input embeddings of the question tokens; None without a question.
        k: An int >= 1 is a number of tokens; more than n keeps all, with a warning. A float in (0, 1] is a share of n.
        method: A name of `foveate.methods()`, or a `Method`.
        grid: (t, h, w), the arrangement of the tokens.
        encoder: (n, d_v), for methods that need it; `VisualTokens` describes the extras.
        cls_attention: (n,), for methods that need it.
        keys: (n, d_k), for methods that need them.
        attention: (n,), for methods that need it.
        cross_attention: (n, heads), for methods that need it.

    Returns:
        (k,) int64 indices, ascending, on the device of `embeds`.

    Raises:
        KeepError: `k` is neither a number of tokens nor a share.
        InputError: The tensors do not fit together, or an extra is missing that the method needs.
        UnknownMethodError: No method is registered under this name.

    Example:
        kept = foveate.select(embeds, question, k=0.1)
        embeds = embeds[kept]
    """
    resolved = resolve(method)
    check_matrix("embeds", embeds)
    question = embeds[:0] if question is None else question
    extras = {"encoder": encoder, "cls_attention": cls_attention, "keys": keys, "attention": attention}
    tokens = VisualTokens(embeds, question, grid, cross_attention=cross_attention, **extras)
    return resolved.select(tokens, to_budget(k, len(embeds)))
