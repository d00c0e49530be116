"""A module that carries our hooks copies, pickles and saves as if it carried none."""

from collections.abc import Collection
from functools import partial
from typing import Any

HOOKS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)  # fmt: skip
REDUCE = "__reduce_ex__"  # copy.deepcopy, pickle and torch.save look it up on the object


def hide_from_copies(module: Any, handles: Collection[Any], attributes: dict[str, Any]) -> None:
    """Leave hooks and attributes of ours out of copies of a module, until `show_to_copies`.

    Args:
        module: The module.
        handles: What `register_forward_hook` and its siblings returned for it.
        attributes: Attributes of ours, and the values that copies get instead; None for no attribute.
    """
    setattr(module, REDUCE, partial(_reduce, module, frozenset(handle.id for handle in handles), attributes))


def show_to_copies(module: Any) -> None:
    """Undo `hide_from_copies`."""
    module.__dict__.pop(REDUCE, None)


def _reduce(module: Any, ids: frozenset[int], attributes: dict[str, Any], protocol: int) -> Any:
    """What `__reduce_ex__` returns for the module without our hooks."""
    reduce: Any = type(module).__reduce_ex__
    make, arguments, state, *rest = reduce(module, protocol)
    plain = {name: value for name, value in state.items() if name != REDUCE and name not in attributes}
    plain |= {name: value for name, value in attributes.items() if value is not None}
    for name in HOOKS:
        hooks = plain[name]
        plain[name] = type(hooks)((key, value) for key, value in hooks.items() if key not in ids)
    return make, arguments, plain, *rest
