"""The transformers model inside what other libraries wrap around it."""

from typing import Any

from torch import nn

from foveate.errors import ModelError

# Names under which wrappers hold the next model: torch.compile; DDP, DataParallel, DeepSpeed; PEFT twice; TRL.
INNER = ("_orig_mod", "module", "base_model", "model", "pretrained_model")


def unwrap(model: Any) -> Any:
    """The transformers model inside `torch.compile`, DDP, DataParallel, PEFT and other wrappers; else the model itself.

    Raises `ModelError` for a wrapper that does more than call the model with the inputs that it gets.
    """
    inner = model
    while isinstance(inner, nn.Module) and not _is_transformers(inner):
        children = dict(inner.named_children())
        if "_fsdp_wrapped_module" in children:
            raise ModelError(
                f"{type(inner).__name__} holds its parameters in shards of its own: shard the model with "
                "torch.distributed.fsdp.fully_shard instead."
            )
        name = next((name for name in INNER if name in children), None)
        if name is None:
            raise ModelError(
                f"{type(model).__name__} is not a transformers model, and none was located inside it: "
                "pass the model that from_pretrained returned."
            )
        if getattr(getattr(inner, "active_peft_config", None), "is_prompt_learning", False):
            raise ModelError(
                f"{type(inner).__name__} puts learned embeddings in place of input_ids, so that images are lost: "
                "use an adapter inside the layers, such as LoRA."
            )
        inner = children[name]
    return inner


def gather_shards(model: Any) -> None:
    """Gather the parameters that `fully_shard` keeps at the root: the encoders run before `forward` does."""
    unshard = getattr(model, "unshard", None)
    if unshard is not None:
        unshard()


def _is_transformers(model: nn.Module) -> bool:
    """Imported late: importing foveate must not import transformers' modelling code."""
    from transformers import PreTrainedModel

    return isinstance(model, PreTrainedModel)
