"""The methods as pure functions, against the formulas."""

import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch

import foveate
from foveate import DecoderMethod, FastV, PyramidDrop, SparseVLM
from foveate.conformance.batches import make_batch
from foveate.errors import FoveateError, InputError
from foveate.method import resolve, resolve_any
from foveate.method.in_decoder import select_highest
from foveate.method.registry import METHODS

NAMES = [row.name for row in foveate.methods() if row.prunes == "decoder"]
every_method = pytest.mark.parametrize("method", [resolve_any(name) for name in NAMES], ids=NAMES)


def attention_of(heads=4, rows=3, n=40, seed=0):
    return torch.randn(heads, rows, n + 9, generator=torch.Generator().manual_seed(seed)).softmax(-1)[..., :n]


def slow_choice(attention, k):
    weights = attention.double().tolist()
    score = [sum(row[i] for head in weights for row in head) for i in range(attention.shape[-1])]
    return sorted(sorted(range(len(score)), key=lambda i: (-score[i], i))[:k])


@every_method
def test_the_choice_is_the_formula(method):
    for seed in range(60):
        n = 1 + seed
        attention = attention_of(rows=1 + seed % 4, n=n, seed=seed)
        for k in {1, (n + 2) // 3, n}:
            chosen = method.select(attention, k)
            assert chosen.tolist() == slow_choice(attention, k)
            assert chosen.dtype == torch.long


@every_method
def test_ties_go_to_the_lowest_index(method):
    assert method.select(torch.full((2, 1, 9), 0.1), 4).tolist() == [0, 1, 2, 3]
    assert method.select(torch.zeros(2, 1, 9).half(), 4).tolist() == [0, 1, 2, 3]


@every_method
def test_small_weights_are_told_apart(method):
    """A long prompt's weights are far below what tells two cosines apart."""
    attention = torch.full((1, 1, 50), 1e-9)
    attention[..., 41] = 2e-9
    assert method.select(attention, 1).tolist() == [41]


@every_method
def test_select_checks_its_arguments(method):
    for k in (0, 41, True, 1.0):
        with pytest.raises(InputError, match="cannot stay"):
            method.select(attention_of(), k)
    for wrong in (torch.rand(4, 40), torch.rand(4, 0, 40), torch.ones(4, 3, 40, dtype=torch.long)):
        with pytest.raises(InputError, match="heads, rows, tokens"):
            method.select(wrong, 1)


@every_method
def test_the_last_drop_leaves_the_budget(method):
    for depth in (2, 3, 6, 28, 32, 80):
        layers = replace(method, layer=1).layers(depth) if method.name == "fastv" else method.layers(depth)
        assert list(layers) == sorted(set(layers))
        assert layers[0] >= 1
        assert layers[-1] < depth
        for n, k in ((576, 72), (576, 58), (7, 1), (1, 1), (40, 40)):
            counts = method.counts(n, k, len(layers))
            assert len(counts) == len(layers)
            assert counts[-1] == k
            assert list(counts) == sorted(counts, reverse=True)
            assert counts[0] <= n


def test_the_papers_layers_and_shares():
    assert FastV().layers(32) == (2,)
    assert PyramidDrop().layers(32) == (8, 16, 24)
    assert SparseVLM().layers(32) == (2, 6, 15)
    assert PyramidDrop().layers(2) == (1,)
    assert PyramidDrop().counts(576, 72, 3) == (288, 144, 72)  # half of what is left, three times


def test_raters_are_the_question_tokens_that_fit_the_image():
    visual = torch.tensor([[1.0, 0, 0], [1, 1, 0]])
    question = torch.tensor([[2.0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, -5]])
    means = [
        sum(float(torch.cosine_similarity(word, v, dim=0)) for v in visual) / 2 for word in question
    ]  # about .85, 0, .7, 0
    expected = [i for i, mean in enumerate(means) if mean >= sum(means) / 4]
    assert SparseVLM().raters(visual, question).tolist() == expected == [0, 2]
    assert SparseVLM().raters(visual, question[:1]).tolist() == [0]
    assert SparseVLM().raters(visual, question[1:2].repeat(7, 1)).tolist() == list(range(7))  # none above the average


@pytest.mark.parametrize("layer", [0, -1, 2.0, True, None])
def test_fastv_checks_its_layer(layer):
    with pytest.raises(InputError, match="an int of 1 or more"):
        FastV(layer=layer)


@pytest.mark.parametrize("layers", [(), (0.5, 0.25), (0.0,), (1.0,), (0.5, 0.5), [0.5], (2, 6), "half"])
def test_fractions_are_checked(layers):
    for kind in (PyramidDrop, SparseVLM):
        with pytest.raises(InputError, match="ascending shares of the depth"):
            kind(layers_at=layers)


@every_method
def test_is_a_value_and_registered(method):
    assert METHODS.load(method.name) is type(method)
    assert method == type(method)()
    assert hash(method) == hash(type(method)())
    row = next(row for row in foveate.methods() if row.name == method.name)
    assert (row.paper, row.summary, row.prompt_aware) == (method.paper, method.summary, True)
    with pytest.raises(AttributeError):
        method.layer = 1  # frozen


@every_method
def test_the_input_seam_says_where_to_go(method, llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    for chosen in (method, method.name):
        with pytest.raises(InputError, match=r"foveate\.pruning or foveate\.attach"):
            foveate.prune_inputs(llava, inputs, keep=0.5, method=chosen)
        with pytest.raises(InputError, match=r"foveate\.pruning or foveate\.attach"):
            resolve(chosen)
    with pytest.raises(FoveateError, match="fastv"):
        foveate.attach(llava, keep=0.5, method="fast_v")
    with pytest.raises(FoveateError, match="is a class"):
        foveate.attach(llava, keep=0.5, method=FastV)


def test_methods_do_not_import_transformers():
    code = "import sys, foveate; foveate.methods(); foveate.attach; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@dataclass(frozen=True)
class Loudest(DecoderMethod):
    """A plug-in method is one class."""

    after: tuple[int, ...] = (1, 3)

    name = "loudest"
    paper = "baseline"
    summary = "the tokens that any head of the prompt's last token attends to most"

    def layers(self, depth):
        return self.after

    def counts(self, n, k, drops):
        return (n,) * (drops - 1) + (k,)

    def _select(self, attention, k):
        return select_highest(attention.amax((0, 1)), k)


@torch.no_grad()
def test_a_method_of_ones_own(family):
    from decoder_reference import deep_model

    model = deep_model(family)
    inputs = make_batch(model, family, [(2, 5)])
    with foveate.pruning(model, keep=2, method=Loudest()) as handle:
        model.generate(**inputs, max_new_tokens=2)
        assert [len(k) for k in handle.report.stages[0].kept] == [item.total for item in handle.report.items]
        assert [len(item.kept) for item in handle.report.items] == [2, 2]
        assert handle.report.method == "loudest"
    for after in ((), (0,), (6,), (3, 1), (2, 2)):
        with pytest.raises(InputError, match="this model has 6"):
            foveate.attach(model, keep=2, method=Loudest(after))


@pytest.mark.parametrize(
    "attention", [None, [[[0.5]]], "x", torch.ones(1, 2, 3).to_sparse(), torch.ones(1, 2, 3, device="meta")]
)
def test_attention_is_a_dense_tensor(attention):
    with pytest.raises(InputError, match=r"^attention is"):
        foveate.FastV().select(attention, 1)


@pytest.mark.parametrize(
    ("n", "k", "drops"), [(0, 0, 1), (5, 6, 1), (5, 0, 1), ("5", 2, 1), (5, 2.0, 1), (5, 2, 0), (5, 2, None)]
)
def test_counts_are_integers_in_range(n, k, drops):
    with pytest.raises(InputError, match=r"cannot stay|drops="):
        foveate.FastV().counts(n, k, drops)


def test_depth_and_raters_are_checked():
    with pytest.raises(InputError, match="depth='32'"):
        foveate.PyramidDrop().layers("32")
    for method in (foveate.FastV(), foveate.SparseVLM()):
        with pytest.raises(InputError, match="question is a list"):
            method.raters(torch.ones(3, 4), [[1.0] * 4])


@pytest.mark.parametrize("relevance", [[], {}, None, 5, "pool"])
def test_the_relevance_of_zspaprune_is_a_name(relevance):
    with pytest.raises(InputError, match="is not known: use one of pooled, word_mean, word_max"):
        foveate.ZSPAPrune(relevance=relevance)


def test_numbers_that_torch_cannot_take_are_refused():
    for value in (2**63, 10**400, float("inf")):
        with pytest.raises(InputError, match="out of range"):
            foveate.MMTok(tau_t=value)
