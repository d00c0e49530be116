"""The kernel, run by Triton's interpreter on a CPU: `make test-kernel`. On a GPU the laws of tests/method run it."""

import os

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: make test-kernel")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("runs in Triton's interpreter: make test-kernel", allow_module_level=True)

from foveate.method import methods, resolve, selection
from foveate.method.selection import FarthestProblem, kernel, select_farthest
from foveate.method.tokens import VisualTokens

NONE = torch.empty(0, dtype=torch.long)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def choices(seed):
    """Ragged: sizes, budgets, starts, copies, weights that are far from one, a single token, nothing to choose."""
    clusters = randn(9, 16, seed=seed)[torch.arange(130) % 9] + randn(130, 16, seed=seed + 9) / 5
    copies = randn(20, 16, seed=seed)[torch.arange(64) % 20]
    places = torch.cartesian_prod(torch.arange(8), torch.arange(8)).float() / 3
    return [
        FarthestProblem(clusters, 40, NONE),
        FarthestProblem(clusters, 7, torch.tensor([3, 99]), randn(130, seed=seed).exp()),
        FarthestProblem(copies, 64, NONE, randn(64, seed=seed).exp()),
        FarthestProblem(copies, 30, NONE, places.sum(1).exp() / 100, places, 0.3),
        FarthestProblem(torch.ones(33, 4), 12, NONE, torch.ones(33)),
        FarthestProblem(clusters[:1], 1, NONE),
        FarthestProblem(clusters, 0, NONE),
    ]


@pytest.fixture
def on_kernel(monkeypatch):
    used = []
    right = kernel.launch_many

    def counted(rules, counts, free):
        used.append(len(rules))
        return right(rules, counts, free)

    monkeypatch.setattr(selection.kernel, "is_usable", lambda rule: True)
    monkeypatch.setattr(selection.kernel, "launch_many", counted)
    return used


def test_the_kernel_chooses_what_the_loop_chooses(monkeypatch, on_kernel):
    for seed in range(6):
        with monkeypatch.context() as patch:
            patch.setattr(selection.kernel, "is_usable", lambda rule: False)
            expected = [select_farthest([choice])[0].tolist() for choice in choices(seed)]
        assert [chosen.tolist() for chosen in select_farthest(choices(seed))] == expected
        assert [select_farthest([choice])[0].tolist() for choice in choices(seed)] == expected
    assert on_kernel[0] == 7


@pytest.mark.parametrize("name", [row.name for row in methods() if row.name in ("foveate", "divprune", "score")])
def test_several_images_are_one_launch(name, monkeypatch, on_kernel):
    grids = [(1, 5, 8), (1, 9, 9), (1, 2, 3)]
    images = [
        VisualTokens(x, x[:3], grid, encoder=x.flip(1), cls_attention=x[:, 0].softmax(0))
        for seed, grid in enumerate(grids)
        for x in [randn(grid[1] * grid[2], 24, seed=seed)]
    ]
    many = resolve(name).select_many(images, [13, 4, 6])
    assert on_kernel == [3]
    monkeypatch.setattr(selection.kernel, "is_usable", lambda rule: False)
    for tokens, k, chosen in zip(images, [13, 4, 6], many, strict=True):
        assert resolve(name).select(tokens, k).tolist() == chosen.tolist()
