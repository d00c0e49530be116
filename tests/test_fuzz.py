"""Anything in place of an input or an option: it works, or a `FoveateError` says in a sentence what is wrong.

Deterministic and bounded: the examples are the same in every run. The models are the tiny ones of the laws.
"""

import contextlib
import dataclasses
import functools
import warnings

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import FoveateError
from foveate.method.registry import METHODS
from foveate.models import lookup

BOUNDED = settings(
    max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
FAMILIES = ("llava", "qwen2_5_vl", "llava_next", "smolvlm", "mllama")
NAMES = [
    "attention_mask", "position_ids", "labels", "token_type_ids", "mm_token_type_ids", "past_key_values", "cache",
    "mm_encoder_outputs", "inputs_embeds", "logits_to_keep", "encoder_outputs", "image_grid_thw", "image_sizes",
    "cross_attention_mask",
]  # fmt: skip
ODD = [
    None, 0, -1, 2**70, 0.5, float("nan"), True, "", "image", b"x", [], [1], (), {}, {"image": 1}, {1}, object(), len,
    1j, slice(1), np.zeros(3), np.int64(2), torch.tensor(3), torch.zeros(0), torch.ones(2, device="meta"),
    torch.ones(2, 2).to_sparse(),
]  # fmt: skip
CHANGES = {
    "list": torch.Tensor.tolist, "array": lambda x: x.numpy(), "empty": lambda x: x[:0], "first": lambda x: x[0],
    "none left": lambda x: x[..., :0], "number": lambda x: x.flatten()[0], "more axes": lambda x: x[None],
    "strided": lambda x: x.mT.contiguous().mT, "turned": lambda x: x.transpose(0, -1), "short": lambda x: x[..., 1:],
    "rows": lambda x: x[1:], "doubled": lambda x: torch.cat([x, x]), "float16": torch.Tensor.half,
    "double": torch.Tensor.double, "int32": torch.Tensor.int, "bool": torch.Tensor.bool, "byte": torch.Tensor.byte,
    "complex": lambda x: x.to(torch.complex64), "sparse": torch.Tensor.to_sparse, "meta": lambda x: x.to("meta"),
    "nan": lambda x: x * float("nan"), "infinite": lambda x: x / 0.0, "negative": lambda x: -x, "ones": torch.ones_like,
    "huge": lambda x: x + 10**6, "parts": list, "gradient": lambda x: x.float().requires_grad_(),
}  # fmt: skip
OPTIONS = {
    "keep": [0.5, 1.0, 1, 3, 10**6], "method": METHODS.names(), "positions": ["original", "compact"],
    "per": ["image", "frame", "prompt"], "modalities": [("image",), ["image", "video"], ("audio",)],
    "explain": [True, False],
}  # fmt: skip


@functools.cache
def make(name):
    """A tiny model of a family, and a batch of two rows."""
    family = lookup.family(name)
    model = make_tiny_model(family)
    return model, make_batch(model, family, [(2, 6), (1, 4)])


@contextlib.contextmanager
def only_sentences():
    messages = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except FoveateError as error:
            messages.append(str(error))
    assert all(20 < len(message) < 600 and "\n" not in message for message in messages)


@st.composite
def changed(draw, tensors):
    """The mapping with one or two values changed, by the name of the change or to something odd."""
    values = dict(tensors)
    for name in draw(st.lists(st.sampled_from([*tensors, *NAMES]), min_size=1, max_size=2)):
        change = draw(st.sampled_from([*CHANGES, "odd"]))
        value = tensors.get(name)
        is_tensor = isinstance(value, torch.Tensor) and value.ndim
        values[name] = CHANGES[change](value) if is_tensor and change != "odd" else draw(st.sampled_from(ODD))
    return values


def some_options():
    odd = st.sampled_from(ODD)
    return st.fixed_dictionaries(
        {"keep": st.sampled_from(OPTIONS["keep"]) | odd},
        optional={name: st.sampled_from(OPTIONS[name]) | odd for name in OPTIONS if name != "keep"},
    )


@BOUNDED
@given(st.data(), st.sampled_from(FAMILIES))
def test_prune_inputs_and_encode(data, family):
    model, inputs = make(family)
    values = data.draw(changed(inputs))
    with torch.no_grad(), only_sentences():
        foveate.encode(model, values)
    with torch.no_grad(), only_sentences():
        foveate.prune_inputs(model, values, keep=0.5)


@BOUNDED
@given(some_options(), st.sampled_from(FAMILIES))
def test_options(options, family):
    model, inputs = make(family)
    with torch.no_grad(), only_sentences():
        foveate.prune_inputs(model, inputs, **options)
    with only_sentences():
        foveate.attach(model, **options).remove()
    with only_sentences():
        foveate.prune_inputs(options["keep"], options["keep"], keep=0.5)


TOKENS = {
    "embeds": torch.linspace(-1, 2, 48).cos().reshape(12, 4), "question": torch.linspace(0, 1, 8).reshape(2, 4),
    "encoder": torch.linspace(-1, 1, 36).sin().reshape(12, 3), "keys": torch.linspace(-1, 1, 36).reshape(12, 3),
    "cls_attention": torch.linspace(0, 1, 12), "attention": torch.linspace(0, 1, 12),
    "cross_attention": torch.linspace(0, 1, 24).reshape(12, 2),
}  # fmt: skip


@BOUNDED
@given(st.data(), st.sampled_from(METHODS.names()), st.sampled_from([3, 0.4, 12, 1.0]) | st.sampled_from(ODD))
def test_select(data, method, k):
    values = data.draw(changed(TOKENS))
    values = {name: values[name] for name in TOKENS}
    with only_sentences():
        kept = foveate.select(values.pop("embeds"), values.pop("question"), k=k, method=method, **values)
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert len(kept) >= 1


@BOUNDED
@given(
    st.sampled_from([name for name in METHODS.names() if issubclass(METHODS.load(name), foveate.Method)]),
    st.integers(-100, 100), st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)  # fmt: skip
def test_any_scale(method, power, dtype):
    rows = {name: value.to(dtype) for name, value in TOKENS.items()}
    scaled = {name: value * 2.0**power if value.ndim == 2 else value for name, value in rows.items()}
    expected, kept = (METHODS.load(method)().select(foveate.VisualTokens(**some), 5) for some in (rows, scaled))
    assert kept.tolist() == expected.tolist()
    assert len(set(kept.tolist())) == 5


@BOUNDED
@given(st.sampled_from(METHODS.names()), st.data())
def test_hyper_parameters(name, data):
    kind = METHODS.load(name)
    fields = [field.name for field in dataclasses.fields(kind)]
    values = {name: data.draw(st.sampled_from(ODD)) for name in fields}
    with only_sentences():
        method = kind(**values)
        if isinstance(method, foveate.Method):
            method.select(foveate.VisualTokens(**TOKENS), 5)
