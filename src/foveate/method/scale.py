"""Embeddings of any scale, where float32 can square and sum them.

Methods compute cosines, norms relative to the longest one and means: a common factor changes none of them. Rows outside
of `SHORTEST` and `LONGEST` are multiplied by powers of two, which round nothing.
"""

import torch
from torch import Tensor

from foveate.errors import InputError

BLOCK_BYTES = 8 << 20  # rows converted to float32 at a time; a block stays in the CPU's cache
SHORTEST, LONGEST = 2.0**-32, 2.0**40  # lengths of rows that are left as they are
SPREAD = 30  # beside the largest row, only the direction of one that is 2^SPREAD times smaller counts


def split_blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """Split the rows of (n, d) into blocks of `BLOCK_BYTES` in float32."""
    blocks: tuple[Tensor, ...] = rows.split(max(1, BLOCK_BYTES // (4 * max(1, rows.shape[1]))))
    return blocks


def measure_rows(rows: Tensor) -> Tensor:
    """Compute the lengths (n,) of the rows (n, d), in float32."""
    return torch.cat([block.float().norm(dim=1) for block in split_blocks(rows)])


def fit_rows(name: str, rows: Tensor) -> Tensor:
    """Return the rows (n, d), multiplied by powers of two if one of them is very long or short.

    All by the same power, so that the largest value is about 1. Rows more than 2^`SPREAD` times smaller are raised to
    that, each in its own direction.

    Raises:
        InputError: There is NaN or infinity among them.
    """
    values = rows.detach()
    lengths = measure_rows(values)
    if bool(((lengths > SHORTEST) & (lengths < LONGEST)).all()):
        return rows
    peaks = values.abs().amax(1, keepdim=True)
    _check_finite(name, peaks)
    exponents = _find_exponents(peaks)
    wanted = (exponents - exponents.amax()).clamp(min=-SPREAD)
    return _shift(values, wanted - exponents).float()


def fit_weights(name: str, weights: Tensor) -> Tensor:
    """Return the weights, by one power of two larger or smaller if the largest one is outside of 2^-30 ... 2^30.

    Raises:
        InputError: There is NaN or infinity among them.
    """
    peak = weights.detach().abs().amax()
    _check_finite(name, peak)
    exponent = _find_exponents(peak)
    shift = exponent.clamp(-SPREAD, SPREAD) - exponent
    return _shift(weights.detach(), shift).float() if bool(shift.any()) else weights


def _check_finite(name: str, peaks: Tensor) -> None:
    if not bool(peaks.isfinite().all()):
        raise InputError(
            f"{name} contains NaN or infinity: run the vision tower in bfloat16 or float32 (float16 overflows)."
        )


def _find_exponents(peaks: Tensor) -> Tensor:
    """Return e for every peak in [2^(e - 1), 2^e); the lowest one of all for 0."""
    exponents = _widen(peaks).frexp().exponent
    return torch.where(peaks > 0, exponents, exponents.amin())


def _shift(values: Tensor, exponents: Tensor) -> Tensor:
    """Multiply by 2^exponents, in two steps: 2^149 is no float32."""
    wide = _widen(values)
    half = exponents.div(2, rounding_mode="floor")
    return wide.ldexp(half.to(wide.dtype)).ldexp((exponents - half).to(wide.dtype))


def _widen(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
