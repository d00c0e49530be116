"""Rows of attention, against those that a stock layer of each kind computes and against plain sums."""

import pytest
import torch
from transformers.models.auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from foveate.errors import ModelError
from foveate.hooks.attention import KNOWN, Keys, check_stack, make_step_logits

SIZES = {
    "vocab_size": 32, "hidden_size": 24, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
KINDS = {"llama": {}, "mistral": {"sliding_window": None}, "qwen2": {}, "qwen3": {}}


def make_decoder(kind, **settings):
    config = CONFIG_MAPPING[kind](**SIZES, **KINDS[kind], **settings, attn_implementation="eager")
    torch.manual_seed(0)
    decoder = MODEL_MAPPING[type(config)](config).eval()
    for parameter in decoder.layers.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3  # sharper attention; norms and biases that matter
    return decoder


@pytest.fixture(params=KINDS)
def decoder(request):
    return make_decoder(request.param)


def make_inputs(decoder, dtype=torch.float32):
    """Hidden states of three rows, the rotary embedding of each row's own positions, and which slots are real."""
    real = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1]]).bool()
    hidden = torch.randn(3, 7, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float32).to(dtype)
    positions = torch.tensor([[0, 0, 0, 1, 2, 3, 4], [0, 1, 2, 7, 8, 9, 20], [0, 2, 4, 6, 8, 10, 12]])
    return hidden, decoder.rotary_emb(hidden, positions), real


@torch.no_grad()
def test_rows_are_the_stock_layers(decoder):
    hidden, rotary, real = make_inputs(decoder)
    layer = decoder.layers[1]
    keys = Keys(layer, hidden, rotary, real)
    bias = torch.zeros(3, 1, 7, 7).masked_fill(
        ~(real[:, None, None] & torch.ones(7, 7, dtype=torch.bool).tril()), -torch.inf
    )
    _, weights = layer.self_attn(layer.input_layernorm(hidden), position_embeddings=rotary, attention_mask=bias)
    for row, queries in enumerate([[2, 6], [0, 3, 4], [6, 1, 0]]):
        rows = keys.rows(row, torch.tensor(queries))
        assert rows.shape == (6, len(queries), 7)
        torch.testing.assert_close(rows, weights[row][:, queries])
        with torch.device("meta"):  # what is not made on the device of the queries has no values
            assert torch.equal(keys.rows(row, torch.tensor(queries, device="cpu")), rows)


@torch.no_grad()
def test_step_logits_are_those_of_the_stock_layer(decoder):
    """A new token behind six cached ones: the stock layer's own weights are the softmax of the logits."""
    hidden, rotary, real = make_inputs(decoder)
    layer = decoder.layers[1]
    bias = torch.zeros(3, 1, 7, 7).masked_fill(
        ~(real[:, None, None] & torch.ones(7, 7, dtype=torch.bool).tril()), -torch.inf
    )
    _, weights = layer.self_attn(layer.input_layernorm(hidden), position_embeddings=rotary, attention_mask=bias)
    cached = Keys(layer, hidden, rotary, real).keys[:, :, :6]
    logits = make_step_logits(layer, hidden[:, 6:], tuple(part[:, 6:] for part in rotary), cached)
    assert logits.shape == (3, 6, 7)
    torch.testing.assert_close(logits.masked_fill(~real[:, None], -torch.inf).softmax(-1), weights[:, :, 6])
    half = make_step_logits(layer.bfloat16(), hidden[:, 6:].bfloat16(), [p[:, 6:].bfloat16() for p in rotary], cached)
    assert half.dtype == torch.float32


@torch.no_grad()
def test_rows_are_plain_softmaxes_over_what_came_before():
    decoder = make_decoder("llama")
    hidden, rotary, real = make_inputs(decoder)
    layer, (cos, sin) = decoder.layers[0], rotary

    def head(linear, row, slot, number):
        """One head of one slot, rotated by pairs of numbers that are half a head apart."""
        vector = linear(layer.input_layernorm(hidden[row, slot]))[8 * number : 8 * number + 8]
        turned = [
            vector[i] * cos[row, slot, i] + (-vector[i + 4] if i < 4 else vector[i - 4]) * sin[row, slot, i]
            for i in range(8)
        ]
        return torch.stack(turned)

    keys, attention = Keys(layer, hidden, rotary, real), layer.self_attn
    for row, query in ((0, 6), (1, 4), (2, 5)):
        rows = keys.rows(row, torch.tensor([query]))
        for number in range(6):
            seen = [slot for slot in range(query + 1) if real[row, slot]]
            wanted = head(attention.q_proj, row, query, number)
            logits = [wanted @ head(attention.k_proj, row, slot, number // 3) / 8**0.5 for slot in seen]
            expected = torch.zeros(7)
            expected[seen] = torch.stack(logits).softmax(0)
            torch.testing.assert_close(rows[number, 0], expected)


@torch.no_grad()
def test_rows_of_a_model_in_half_precision_are_float32():
    decoder = make_decoder("qwen3").bfloat16()
    hidden, rotary, real = make_inputs(decoder, torch.bfloat16)
    rows = Keys(decoder.layers[0], hidden, rotary, real).rows(1, torch.tensor([6]))
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.sum(-1), torch.ones(6, 1))  # sums of eight-bit weights would be off by a percent


def test_a_stack_is_known_by_its_text_model():
    for kind in KNOWN:
        if kind in KINDS:
            check_stack(CONFIG_MAPPING[kind](**SIZES, **KINDS[kind]))
    vision = {"qwen2_5_vl": "qwen2_5_vl_text", "qwen3_vl": "qwen3_vl_text"}
    for kind, text in vision.items():
        config = CONFIG_MAPPING[kind]()
        assert config.get_text_config().model_type == text
        check_stack(config)
    for kind in ("gemma", "phi3", "qwen2_moe"):
        with pytest.raises(ModelError, match=f"do not know the attention of '{kind}' .known: llama, mistral, "):
            check_stack(CONFIG_MAPPING[kind]())


def test_windows_of_attention_are_refused():
    for config in (
        CONFIG_MAPPING["mistral"](**SIZES, sliding_window=8),
        CONFIG_MAPPING["qwen2"](**SIZES, layer_types=["full_attention", "sliding_attention"], sliding_window=8),
        CONFIG_MAPPING["qwen3"](**SIZES, layer_types=["sliding_attention"] * 2, sliding_window=8),
        CONFIG_MAPPING["mistral"](**SIZES, sliding_window=None, layer_types=["sliding_attention"] * 2),
    ):
        with pytest.raises(ModelError, match="sliding-window attention"):
            check_stack(config)
    check_stack(CONFIG_MAPPING["qwen2"](**SIZES, sliding_window=8, use_sliding_window=False))  # not used
    check_stack(CONFIG_MAPPING["qwen3"](**SIZES, layer_types=["full_attention"] * 2))
    bare = CONFIG_MAPPING["llama"](**SIZES)
    bare.layer_types = None
    check_stack(bare)
