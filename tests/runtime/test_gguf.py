"""GGUF files: the name goes on to transformers, which reads language models alone from them (`make test-load`)."""

import numpy as np
import pytest
import transformers

import foveate
from foveate.errors import ModelError
from foveate.runtime.load import load, quiet

gguf = pytest.importorskip("gguf", reason="gguf is not installed: make test-load")
WIDTH, LAYERS, WORDS, INNER = 32, 1, 300, 64
NUMBERS = (
    (
        "context_length", "embedding_length", "block_count", "attention.head_count", "attention.head_count_kv",
        "attention.key_length", "feed_forward_length", "full_attention_interval", "ssm.conv_kernel", "ssm.state_size",
        "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size", "rope.dimension_count", "expert_feed_forward_length",
        "expert_shared_feed_forward_length", "expert_count", "expert_used_count",
    ),
    ("attention.layer_norm_rms_epsilon", "rope.freq_base"),
)  # fmt: skip
"""The integers and the reals in a file's metadata, for every architecture."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A tiny Qwen2, which is the language model of Qwen2-VL."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer, random = gguf.GGUFWriter(path, "qwen2"), np.random.default_rng(0)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(WORDS)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{n}" for n in range(WORDS)])
    writer.add_token_types([1] * WORDS)
    shapes = {"token_embd.weight": (WORDS, WIDTH), "output_norm.weight": (WIDTH,), "output.weight": (WORDS, WIDTH)}
    for n in range(LAYERS):
        square = {f"blk.{n}.attn_{x}.weight": (WIDTH, WIDTH) for x in ("q", "k", "v", "output")}
        biases = {f"blk.{n}.attn_{x}.bias": (WIDTH,) for x in "qkv"}
        norms = {f"blk.{n}.{x}_norm.weight": (WIDTH,) for x in ("attn", "ffn")}
        mlp = {f"blk.{n}.ffn_{x}.weight": (INNER, WIDTH) for x in ("gate", "up")}
        shapes |= square | biases | norms | mlp | {f"blk.{n}.ffn_down.weight": (WIDTH, INNER)}
    for name, shape in shapes.items():
        writer.add_tensor(name, random.standard_normal(shape).astype(np.float32) * 0.1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_transformers_reads_the_file(file):
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    assert model.config.hidden_size == WIDTH


def test_a_language_model_is_refused_in_a_sentence(file):
    with pytest.raises(ModelError, match=r"reads tiny\.gguf as 'qwen2', a model without images: give the folder"):
        load(str(file.parent), gguf_file=file.name)


@pytest.mark.parametrize("architecture", ["gemma3", "gemma4", "qwen35", "qwen35moe"])
def test_language_models_of_families_with_images(tmp_path, architecture):
    """When this fails, transformers reads one with images, and so does `load`: the docs should say so then."""
    writer, (whole, real) = gguf.GGUFWriter(tmp_path / "tiny.gguf", architecture), NUMBERS
    for name in whole:
        writer.add_uint32(f"{architecture}.{name}", 32)
    for name in real:
        writer.add_float32(f"{architecture}.{name}", 1.0)
    writer.add_array(f"{architecture}.rope.dimension_sections", [4, 4, 8, 0])
    writer.add_token_list([f"t{n}" for n in range(WORDS)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"reads tiny\.gguf as '\w+_text', a model without images"):
        load(str(tmp_path), gguf_file="tiny.gguf")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no such format" * 20])
def test_a_damaged_file(tmp_path, content):
    (tmp_path / "tiny.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"The tiny\.gguf of .* (is not one|cannot be read)"):
        foveate.load(str(tmp_path), gguf_file="tiny.gguf")


def test_an_architecture_that_transformers_does_not_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "clip.gguf", "clip")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"The clip\.gguf of .* is not one that transformers knows: .*clip"):
        load(str(tmp_path), gguf_file="clip.gguf")
