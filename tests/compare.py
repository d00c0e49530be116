"""What tests of hooks compare: logits, and a model before and after."""

import torch

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs",
         "_forward_hooks_always_called")  # fmt: skip


def close(one, other):
    """Fail unless the values are the same but for rounding."""
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def state(model):
    """The attributes, the `forward` and the hooks of every module."""
    return [
        (name, sorted(vars(module)), module.forward, [dict(getattr(module, hooks)) for hooks in HOOKS])
        for name, module in model.named_modules()
    ]
