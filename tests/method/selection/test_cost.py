"""What the rules cost, counted: the same on every machine, so that nothing here can fail on a busy one."""

import pytest
import torch

from cost import Cost, exponent
from foveate.method import resolve, selection
from foveate.method.selection import FarthestProblem, loop, select_dpp, select_farthest, select_log_volume
from foveate.method.tokens import VisualTokens

NONE = torch.empty(0, dtype=torch.long)


def farthest_point(x, k, selected):
    return select_farthest([FarthestProblem(x, k, selected)])[0]


def weighted_farthest_point(x, weight, k, selected, places=None, place=0.0):
    return select_farthest([FarthestProblem(x, k, selected, weight, places, place)])[0]


def image(n, d=256, seed=0):
    """As real ones: many tokens that are nearly one of a few, and every twentieth like no other."""
    seeded = torch.Generator().manual_seed(seed)
    plain = torch.randn(12, d, generator=seeded)[torch.randint(12, (n,), generator=seeded)]
    odd = (torch.arange(n) % 20 == 0)[:, None]
    return plain + torch.randn(n, d, generator=seeded) * torch.where(odd, 2.0, 0.3)


RULES = {
    "farthest_point": lambda x, k: farthest_point(x, k, NONE),
    "weighted": lambda x, k: weighted_farthest_point(x, x[:, 0].abs().exp(), k, NONE),
    "dpp": lambda x, k: select_dpp(x, x[:, 0].abs(), k, NONE),
    "log_volume": lambda x, k: select_log_volume(x, x[:, 0], k, NONE, share=0.5, ridge=0.01),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def cost_of(rule, n, k):
    x = image(n)
    with Cost() as cost:
        rule(x, k)
    return cost


@every_rule
def test_products_grow_as_n_times_k(rule):
    sizes = [1000, 2000, 4000, 8000]
    assert exponent(sizes, [cost_of(rule, n, 100).products for n in sizes]) < 1.15
    budgets = [50, 100, 200, 400]
    # Volumes: a basis of k vectors beside, and fewer choices that are certain once all that is left looks alike.
    assert exponent(budgets, [cost_of(rule, 4000, k).products for k in budgets]) < 1.3


@every_rule
def test_memory_grows_as_n(rule):
    sizes = [4000, 8000, 16000, 32000]
    peaks = [cost_of(rule, n, 60).peak for n in sizes]
    assert exponent(sizes, peaks) < 1.1
    assert peaks[-1] < 32000 * 4 * 200  # a block of columns, and a few numbers a token


def test_the_default_makes_no_copy_of_its_tokens():
    x = torch.randn(4000, 2000, generator=torch.Generator().manual_seed(0))
    tokens = VisualTokens(x, x[:20], (1, 40, 100))
    with Cost() as cost:
        resolve("foveate").select(tokens, 40)
    assert cost.peak < x.numel() * 4 / 2


@every_rule
def test_a_choice_takes_a_fraction_of_a_pass_over_all_tokens(rule):
    # The number of passes is what counts on a CPU: each reads all embeddings.
    passes = []

    class Passes(Cost):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket.__name__ == "mm" and len(args[0]) == 3000:
                passes.append(args[1].shape[1])
            return super().__torch_dispatch__(func, types, args, kwargs)

    x = image(3000)
    with Passes():
        rule(x, 300)
    assert len(passes) < 60
    assert sum(passes) < 300 * 3 + 256  # columns: those chosen, for the farthest point's start some more


@every_rule
def test_step_by_step_nothing_is_read_back(rule, monkeypatch):
    monkeypatch.setattr(selection, "select_greedily", loop.select_in_steps)
    monkeypatch.setattr(
        selection, "find_most_isolated", lambda cosines: torch.zeros(1, dtype=torch.long)
    )  # reads, on a CPU
    few, many = (cost_of(rule, 500, k) for k in (10, 110))
    assert few.reads == many.reads == []
    assert (many.ops - few.ops) / 100 < 60  # calls for each choice, each of them a launch


@pytest.mark.parametrize("method", ["foveate", "zspaprune", "divprune", "cdpruner", "coin"])
def test_python_does_not_count_for_each_token(method):
    costs = []
    for n in (500, 4000):
        x = image(n)
        with Cost() as cost:
            resolve(method).select(VisualTokens(x, x[:20], None), 50)
        costs.append(cost.ops)
    assert costs[1] < 2 * costs[0] + 200
