"""Principal components of the tokens of an image."""

import torch
from torch import Tensor


def widen(rows: Tensor) -> Tensor:
    """Return `rows` (n, d) in float64, where eigenvectors of close eigenvalues do not depend on rounding."""
    return rows.to(torch.float32 if rows.device.type == "mps" else torch.float64)  # which MPS does not have


def find_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the singular vectors of centred `rows` (n, d) that belong to the largest singular values.

    They are exact: the eigenvectors of the smaller one of the two Gram matrices. O(n d m + m^3), m = min(n, d).

    Returns:
        (n, c) what each token contributes to a component, columns of length 1, and the (c,) singular values,
        descending; c = min(count, n, d).
    """
    n, d = rows.shape
    values, vectors = torch.linalg.eigh(rows @ rows.T if n <= d else rows.T @ rows)
    size = min(count, n, d)
    sizes, vectors = values.flip(0)[:size].clamp(min=0).sqrt(), vectors.flip(1)[:, :size]
    if n > d:
        limits = torch.finfo(rows.dtype)
        vectors = rows @ vectors / torch.maximum(sizes, limits.eps * sizes[:1] + limits.tiny)  # never by zero
    return vectors, sizes
