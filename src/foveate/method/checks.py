"""Checks of numbers and tensors that users pass."""

from numbers import Integral, Real
from typing import TypeGuard

import torch
from torch import Tensor

from foveate.errors import InputError, describe

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
LARGEST = 2.0**63  # torch takes no larger integers


def check_tensor(name: str, value: object) -> None:
    """Raise `InputError` unless this is a tensor that holds its values, one after the other."""
    if not isinstance(value, Tensor):
        raise InputError(f"{name} is a {type(value).__name__}: pass a tensor of torch.")
    if value.is_nested or value.layout != torch.strided or value.is_quantized:
        raise InputError(f"{name} is a sparse, nested or quantized tensor: pass a dense one.")
    if value.is_meta:
        raise InputError(f"{name} is on the meta device, which holds no values: pass a tensor with values.")


def check_kept(kept: Tensor, n: int, device: torch.device) -> None:
    """Raise `InputError` unless these are indices (k,) of some of n tokens, as `select` returns them."""
    check_tensor("kept", kept)
    fits = kept.dtype == torch.int64 and kept.ndim == 1 and kept.device == device and len(kept) > 0
    if not fits or not bool(((kept >= 0) & (kept < n)).all()):
        raise InputError(f"kept is {describe(kept)}: pass the (k,) int64 indices that select returned, below {n}.")


def is_int(value: object) -> TypeGuard[int]:
    """Whether this is an integer, of Python or NumPy, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is an integer or a float, of Python or NumPy, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_share(name: str, value: object) -> None:
    """Raise `InputError` unless this hyper-parameter is a number in [0, 1]."""
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(f"{name}={describe(value)} is not a share: use a float in [0, 1], such as 0.5.")


def check_between(name: str, value: object, low: float, high: float) -> None:
    """Raise `InputError` unless this hyper-parameter is a number in [low, high]."""
    if not is_number(value) or not low <= value <= high:
        raise InputError(f"{name}={describe(value)} is out of range: use a float from {low} to {high}.")


def check_positive(name: str, value: object) -> None:
    """Raise `InputError` unless this hyper-parameter is a number above 0 that torch takes."""
    if not is_number(value) or not 0 < value < LARGEST:
        raise InputError(f"{name}={describe(value)} is out of range: use a float above 0, such as 0.2.")


def check_not_negative(name: str, value: object) -> None:
    """Raise `InputError` unless this hyper-parameter is a number of 0 or more that torch takes."""
    if not is_number(value) or not 0 <= value < LARGEST:
        raise InputError(f"{name}={describe(value)} is out of range: use a float of 0 or more, such as 1.0.")


def check_int(name: str, value: object, low: int) -> None:
    """Raise `InputError` unless this hyper-parameter is an integer of `low` or more."""
    if not is_int(value) or value < low:
        raise InputError(f"{name}={describe(value)} is out of range: use an int of {low} or more.")
