import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from PIL import Image
from transformers.utils import logging

import foveate
from foveate.errors import ModelError, UnknownFamilyError
from foveate.models import family_of
from foveate.models.chat_template import ChatTemplate
from foveate.models.template import Template
from foveate.pipeline.question import find_question, read_template
from foveate.runtime.load import BUNDLED, load, quiet
from tiny import tiny_folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Built once; a test that damages one takes a copy."""
    made = {}

    def folder(model_type):
        if model_type not in made:
            made[model_type] = tiny_folder(model_type, tmp_path_factory.mktemp(model_type))
        return made[model_type]

    return folder


@pytest.fixture
def copy(folders, tmp_path):
    return shutil.copytree(folders("llava"), tmp_path / "copy")


def test_load_is_public(folders):
    loaded = foveate.load(str(folders("llava")))
    assert isinstance(loaded, foveate.LoadedModel)
    model, processor = loaded
    assert (model, processor) == (loaded.model, loaded.processor)
    short = foveate.prune_inputs(loaded.model, inputs_of(loaded), keep=3)
    assert len(short.report.items[0].kept) == 3


def inputs_of(loaded):
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what color is it?"}]}
    text = loaded.processor.apply_chat_template([turn], add_generation_prompt=True)
    return loaded.processor(text=[text], images=[Image.new("RGB", (40, 24), "red")], return_tensors="pt")


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_a_folder(folders, model_type):
    loaded = load(str(folders(model_type)))
    assert loaded.name == str(folders(model_type))
    assert loaded.model.config.model_type == model_type
    assert not loaded.model.training
    inputs = inputs_of(loaded).to(loaded.model.device)
    with torch.no_grad():
        logits = loaded.model(**inputs).logits
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_the_question_is_found_by_the_chat_template_of_the_folder(folders, model_type):
    loaded = load(str(folders(model_type)))
    template = read_template(loaded.model, family_of(loaded.model))
    assert isinstance(template, ChatTemplate)
    ids = inputs_of(loaded)["input_ids"][0].tolist()
    where = find_question(ids, ids.index(loaded.model.config.image_token_id), template, [False] * len(ids))
    assert loaded.processor.tokenizer.decode([ids[i] for i in where]).replace(" ", "") == "whatcolorisit?"


def test_a_learned_template_is_not_saved(folders, tmp_path):
    loaded = load(str(folders("llava")))
    assert loaded.model.foveate_template["specials"]
    loaded.model.save_pretrained(tmp_path)
    assert "foveate_template" not in (tmp_path / "config.json").read_text()
    assert not hasattr(loaded.model.config, "foveate_template")


def test_models_that_share_a_configuration_share_no_template(folders):
    loaded = load(str(folders("llava")))
    other = type(loaded.model)(loaded.model.config)
    assert other.config is loaded.model.config
    assert isinstance(read_template(loaded.model, family_of(loaded.model)), ChatTemplate)
    assert isinstance(read_template(other, family_of(other)), Template)


def test_a_template_of_the_checkpoint_is_left_alone():
    assert not hasattr(load("bundled").model, "foveate_template")
    assert load("bundled").model.config.foveate_template["roles"]


def test_a_folder_without_a_chat_template_notes_how_the_question_is_found(copy):
    (copy / "chat_template.jinja").unlink()
    loaded = load(str(copy))
    assert any("found by special tokens alone" in note for note in loaded.notes)


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
def test_without_torchvision(folders, model_type, monkeypatch):
    """The parts are put together by hand, with the settings of the files, and a note says so."""
    import transformers

    def fails(*args, **kwargs):
        raise ImportError("Qwen2VLVideoProcessor requires the Torchvision library")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", fails)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    loaded = load(str(folders(model_type)))
    assert "torchvision is not installed" in loaded.notes[0]
    processor = loaded.processor
    stock = {"qwen2_5_vl": transformers.Qwen2_5_VLProcessor, "qwen3_vl": transformers.Qwen3VLProcessor}[model_type]
    assert isinstance(processor, stock)
    assert type(processor.image_processor).__name__ == "Qwen2VLImageProcessorPil"
    assert processor.image_processor.patch_size == loaded.model.config.vision_config.patch_size
    assert processor.chat_template.startswith("{% for message in messages %}<|im_start|>")
    inputs = inputs_of(loaded)
    tokens = int((inputs["input_ids"] == loaded.model.config.image_token_id).sum())
    assert tokens == int(inputs["image_grid_thw"].prod()) // 4 > 1


def test_a_broken_torchvision_is_an_error(folders, monkeypatch):
    import transformers

    def fails(*args, **kwargs):
        raise ImportError("operator torchvision::nms does not exist")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", fails)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ModelError, match="nms does not exist"):
        load(str(folders("qwen2_5_vl")))


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_models(name):
    loaded = load(name)
    assert loaded.name == name
    if loaded.model.device.type == "cpu":
        assert loaded.model.dtype == torch.float32
    stored = json.loads((BUNDLED[name] / "config.json").read_text())
    assert stored["dtype"] == "float16"


@pytest.mark.parametrize(
    ("name", "text"),
    [("/no/such/folder", "no folder"), ("./models/none", "no folder"), ("a/b/c", "no folder"), ("", "holds no config")],
)
def test_no_such_folder(name, text):
    with pytest.raises(ModelError, match=text):
        load(name)


def test_a_file(copy):
    with pytest.raises(ModelError, match="is a file"):
        load(str(copy / "config.json"))


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing"])
def test_no_hub(monkeypatch, name):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=f"hf download {name}.*or pass a local folder"):
        load(name)


def test_folder_without_parts(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load(str(copy))
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load(str(copy))


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "llava", "text_config": 3}'])
def test_odd_config(copy, content):
    (copy / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json of"):
        load(str(copy))


def test_unknown_to_transformers(copy):
    (copy / "config.json").write_text('{"model_type": "not_yet_written"}')
    with pytest.raises(ModelError, match="not_yet_written"):
        load(str(copy))


def test_family_is_checked_before_the_weights(copy):
    (copy / "config.json").write_text('{"model_type": "bert"}')
    (copy / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(UnknownFamilyError, match="'bert' are not supported"):
        load(str(copy))


def test_damaged_weights(copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"version https://git-lfs.github.com/spec/v1\n", b"\0" * 1000):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged"):
            load(str(copy))


def test_weights_with_a_hole(copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    name = next(name for name in tensors if "mlp" in name)
    save_file({k: v for k, v in tensors.items() if k != name}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 of the model's tensors"):
        load(str(copy))
    save_file({**tensors, name: tensors[name][:-1].clone()}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="another model's"):
        load(str(copy))


@pytest.mark.parametrize("broken", ["processor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_processor_with_broken_parts(copy, broken):
    (copy / broken).write_text('{"a": ')
    with pytest.raises(ModelError, match="processor"):
        load(str(copy))


@pytest.mark.parametrize("lost", ["processor_config.json", "tokenizer.json"])
def test_processor_without_parts(copy, lost):
    (copy / lost).unlink()
    with pytest.raises(ModelError, match="processor"):
        load(str(copy))


def test_quiet_puts_everything_back(copy, capfd):
    from huggingface_hub.utils import are_progress_bars_disabled

    before = logging.get_verbosity(), logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    with quiet():
        load(str(copy))
        assert not logging.is_progress_bar_enabled()
        assert are_progress_bars_disabled() == before[2]  # downloads still show theirs
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == before
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == before


def test_a_package_that_a_processor_needs_is_named(folders, monkeypatch):
    import transformers

    def fails(*args, **kwargs):
        raise ImportError("Package `num2words` is required to run SmolVLM processor.")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", fails)
    with pytest.raises(ModelError, match="needs another package: Package `num2words` is required"):
        load(str(folders("llava")))


def test_without_torchvision_videos_are_refused(folders, monkeypatch):
    import transformers

    def fails(*args, **kwargs):
        raise ValueError("/models/qwen requires `torchvision` to be installed")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", fails)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    processor = load(str(folders("qwen2_5_vl"))).processor
    with pytest.raises(ModelError, match="without torchvision"):
        processor(text=["<|video_pad|>"], videos=[torch.zeros(2, 3, 56, 56)])
    assert "video_processor" not in processor.to_dict()
