import pytest
import torch

from apps.bench.cases import SMALL
from foveate.apps.bench import published, shapes
from foveate.apps.bench.shapes import SHAPES, ShapeScale, build, find_shape, make_example
from foveate.errors import InputError
from foveate.models import family_of
from foveate.pipeline.prune import prune_inputs

TOKENS = {
    "llava-1.5-7b": 16, "llava-next-7b": 4 + 16 + 4,  # 4: ends of rows
    "internvl3-8b": 4 + 1, "smolvlm-2.2b": 16 + 1, "qwen2.5-vl-3b": 4, "qwen2.5-vl-7b": 4,
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_published_models(name):
    """Parameters of the checkpoints, embeddings and vision tower included."""
    sizes = {
        "llava-1.5-7b": 7.06e9, "llava-next-7b": 7.06e9, "internvl3-8b": 7.94e9, "qwen2.5-vl-3b": 3.75e9,
        "qwen2.5-vl-7b": 8.29e9, "smolvlm-2.2b": 2.25e9,
    }  # fmt: skip
    published_size = sizes[name]
    layers, tower = SHAPES[name].count_layers()
    config = SHAPES[name].make_config(layers)
    assert shapes._count_parameters(config) == pytest.approx(published_size, rel=0.005)
    assert (config.text_config.num_hidden_layers, getattr(config.vision_config, SHAPES[name].depth)) == (layers, tower)


@pytest.mark.parametrize("name", SMALL)
def test_a_shape_runs(name):
    model, scale = build(SMALL[name], 4)
    assert scale == ShapeScale(4, 4, SMALL[name].count_layers()[1], SMALL[name].count_layers()[1])
    assert not model.training
    inputs = make_example(model, SMALL[name], (56, 56), batch=2, words=6)
    short = prune_inputs(model, inputs, keep=3)
    assert tuple(item.total for item in short.report.items) == (TOKENS[name], TOKENS[name])
    with torch.no_grad():
        logits, stock = model(**short).logits, model(**inputs).logits
    assert logits.isfinite().all()
    assert logits.std() > 0
    whole = prune_inputs(model, inputs, keep=1.0)
    assert torch.allclose(model(**whole).logits, stock, atol=1e-5)


def test_dtype_and_ties():
    model, _ = build(SMALL["qwen2.5-vl-3b"], 1, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.lm_head.weight is model.get_input_embeddings().weight
    with torch.no_grad():
        assert model(**make_example(model, SMALL["qwen2.5-vl-3b"], (56, 56))).logits.isfinite().all()


def test_a_share_of_both():
    config = SHAPES["llava-1.5-7b"].make_config(8)
    assert (config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers) == (8, 6)
    assert SHAPES["llava-1.5-7b"].make_config(1).vision_feature_layer == -1
    vision = SHAPES["qwen2.5-vl-3b"].make_config(18).vision_config
    assert (vision.depth, vision.fullatt_block_indexes) == (16, [7, 15])
    assert SHAPES["qwen2.5-vl-3b"].make_config(36).vision_config.fullatt_block_indexes == [7, 15, 23, 31]


def test_a_scale_is_described():
    exact, near = ShapeScale(4, 32, 3, 24).describe(), ShapeScale(1, 32, 1, 24).describe()
    assert "4 of 32 decoder layers (12.5%) and 3 of 24 of the vision tower (12.5%), which keeps" in exact
    assert "weighs 1.33 times as much as it should (multiples of 4 are exact)" in near
    assert ShapeScale(32, 32, 24, 24).describe() == "Random weights, all layers of the published model."


def test_images_of_other_sizes():
    model, _ = build(SMALL["qwen2.5-vl-3b"], 1)
    wide = make_example(model, SMALL["qwen2.5-vl-3b"], (56, 112), words=6)
    assert wide["image_grid_thw"].tolist() == [[1, 4, 8]]
    assert len(wide["input_ids"][0]) == 8 + 2 + 7
    assert [item.grid for item in prune_inputs(model, wide, keep=3).report.items] == [(1, 2, 4)]


def test_a_fixed_size_is_refused():
    model, _ = build(SMALL["llava-1.5-7b"], 4)
    with pytest.raises(InputError, match="scales every image to 56x56"):
        make_example(model, SMALL["llava-1.5-7b"], (28, 28))


def test_names():
    assert find_shape("llava-1.5-7b shape") == find_shape("LLaVA-1.5-7b") == ("llava-1.5-7b", SHAPES["llava-1.5-7b"])
    assert find_shape("bundled") is None
    with pytest.raises(InputError, match=r"There is no shape 'llava-2': there are llava-1.5-7b"):
        find_shape("llava-2 shape")


def test_as_many_layers_as_fit(monkeypatch):
    shape, whole = SMALL["llava-1.5-7b"], 4
    one, two = (shapes._count_parameters(shape.make_config(n)) * 4 for n in (1, whole))
    assert build(shape)[1].layers == min(whole, shapes.CPU_LAYERS)
    monkeypatch.setattr(shapes, "read_free_memory", lambda device: int((one + two) / 2 / shapes.MEMORY_SHARE))
    assert build(shape)[1].layers == 2
    with pytest.raises(InputError, match=r"4 layers of this shape take .* give --layers 2"):
        build(shape, 4)
    monkeypatch.setattr(shapes, "read_free_memory", lambda device: one)
    with pytest.raises(InputError, match="Not even one layer"):
        build(shape)
    with pytest.raises(InputError, match="give 1 to 4"):
        build(shape, 5)


def test_transformers_can_be_told_not_to_initialize():
    """`build` fills weights itself; without this context of transformers, several gigabytes are filled twice."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        layer = torch.nn.Linear(4, 4)
    assert layer.weight.shape == (4, 4)


def test_tiles_are_counted_as_the_model_counts_them():
    """`published.make_tiles` reads from the modelling code how many tiles an image gives."""
    config = SHAPES["llava-next-7b"].make_config(1)
    made = published.make_tiles(config, (672, 672), torch.Generator().manual_seed(0))
    assert made["pixel_values"].shape == (1, 5, 3, 336, 336)
    config = SHAPES["internvl3-8b"].make_config(1)
    for size, count in (
        ((1344, 1792), 13),
        ((448, 448), 1),
        ((500, 1300), 11),
    ):  # 2 x 5 tiles are the nearest to its proportions
        made = published.make_crops(config, size, torch.Generator().manual_seed(0))
        assert made["pixel_values"].shape == (count, 3, 448, 448)
    config = SHAPES["smolvlm-2.2b"].make_config(1)
    for size, count in (((1152, 1536), 13), ((400, 400), 17), ((300, 1536), 5)):  # scaled up to four tiles
        made = published.make_split(config, size, torch.Generator().manual_seed(0))
        assert made["pixel_values"].shape == (1, count, 3, 384, 384)
        assert made["pixel_attention_mask"].shape == (1, count, 384, 384)
    assert family_of(build(SMALL["llava-next-7b"], 1)[0]).model_type == "llava_next"


def test_smolvlm_marks_every_tile():
    model, _ = build(SMALL["smolvlm-2.2b"], 1)
    ids = make_example(model, SMALL["smolvlm-2.2b"], (56, 56), words=6)["input_ids"][0].tolist()
    assert ids[1:-6] == [token for n in range(17) for token in (49189, 49188 - n, 49190)] + [49189]
