"""Models inside the wrappers of other libraries are pruned as they are alone, or refused by name."""

import pytest
import torch
import torch.distributed
from peft import IA3Config, LoHaConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn

import foveate
from decoder_reference import deep_model
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import FoveateError, ModelError
from foveate.models import lookup
from foveate.models.wrappers import unwrap
from kinds import KINDS

# PEFT asks the model by a name that transformers gives up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.usefixtures("no_grad"),
]
METHODS = ("foveate", "fastv", "glance")
NEW = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}


@pytest.fixture
def model(family):
    return deep_model(family)


@pytest.fixture
def inputs(model, family):
    return make_batch(model, family, [(2, 6), (1, 3)])


def run(model, inputs, method):
    """Logits and answer under pruning, and the logits of `prune_inputs`."""
    with foveate.pruning(model, keep=0.3, method=method):
        logits, answer = model(**inputs).logits, model.generate(**inputs, **NEW)
    ready = "glance" if method == "glance" else "foveate"  # fastv prunes no input
    short = model(**foveate.prune_inputs(model, inputs, keep=0.3, method=ready)).logits
    return logits, answer, short


def equal(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-5


# Compilation takes most of the time of these tests, and what it does to hooks is the same in every family.
@pytest.mark.parametrize("method", ["foveate", "fastv"])
@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("llava", "attached first"),
        ("llava", "compiled first"),
        ("llava", "compiled and called first"),
        pytest.param("qwen3_vl", "compiled and called first", marks=pytest.mark.wide),
    ],
)
def test_compiled(name, order, method):
    torch.compiler.reset()
    model = deep_model(lookup.family(name))
    inputs = make_batch(model, lookup.family(name), [(2, 6), (1, 3)])
    expected = run(model, inputs, method)[:2]
    compiled = torch.compile(model, backend="eager", dynamic=True)
    if order == "compiled and called first":
        compiled(**inputs)
    with foveate.pruning(model if order == "attached first" else compiled, keep=0.3, method=method):
        if method == "fastv":  # torch may take the layers as they were compiled before, and does not look for new hooks
            torch.compiler.reset()
        equal((compiled(**inputs).logits, compiled.generate(**inputs, **NEW)), expected)
    equal([compiled(**inputs).logits], [model(**inputs).logits])


@pytest.mark.parametrize("method", ["foveate", "glance"])
@pytest.mark.parametrize("name", ["llava", *(pytest.param(name, marks=pytest.mark.wide) for name in KINDS[1:])])
def test_compiled_in_place(name, method):
    model = deep_model(lookup.family(name))
    inputs = make_batch(model, lookup.family(name), [(2, 6), (1, 3)])
    expected = run(model, inputs, method)
    model.compile(backend="eager", dynamic=True)
    model(**inputs)
    equal(run(model, inputs, method), expected)


ADAPTERS = {
    "lora": LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    "lora for causal models": LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False),
    "lora on every linear layer": LoraConfig(target_modules="all-linear", init_lora_weights=False),
    "loha": LoHaConfig(target_modules=["q_proj"], init_weights=False),
    "ia3": IA3Config(target_modules=["v_proj"], feedforward_modules=[], init_ia3_weights=False),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("adapter", list(ADAPTERS))
def test_peft(family, inputs, adapter, method):
    """Against the same model with the adapter merged into its weights."""
    torch.manual_seed(0)
    tuned = get_peft_model(deep_model(family), ADAPTERS[adapter]).eval()
    own = run(tuned, inputs, method)
    with tuned.disable_adapter():
        equal(run(tuned, inputs, method), run(deep_model(family), inputs, method))
    equal(own, run(tuned.merge_and_unload(), inputs, method))


@pytest.mark.parametrize("adapter", ["lora", "lora for causal models"])
def test_an_adapter_after_attach(family, inputs, adapter):
    torch.manual_seed(0)
    plain = deep_model(family)
    with foveate.pruning(plain, keep=0.3):
        tuned = get_peft_model(plain, ADAPTERS[adapter]).eval()
        own = tuned(**inputs).logits, tuned.generate(**inputs, **NEW)
    equal(own, run(tuned, inputs, "foveate")[:2])


def test_several_adapters(family, inputs):
    torch.manual_seed(0)
    mixed = get_peft_model(deep_model(family), ADAPTERS["lora"], mixed=True).eval()
    mixed.add_adapter("other", ADAPTERS["loha"])
    mixed.set_adapter(["default", "other"])
    own = run(mixed, inputs, "foveate")
    equal(own, run(mixed.merge_and_unload(), inputs, "foveate"))


def test_one_adapter_a_row(family, inputs):
    torch.manual_seed(0)
    config = LoraConfig(target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    tuned = get_peft_model(deep_model(family), config).eval()
    tuned.add_adapter("other", config)
    with foveate.pruning(tuned, keep=0.3):
        rows = tuned(**inputs, adapter_names=["default", "other"]).logits
        for row, name in enumerate(("default", "other")):
            tuned.set_adapter(name)
            equal([tuned(**inputs).logits[row, -2:]], [rows[row, -2:]])


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_adapters_that_replace_the_ids_are_refused(kind):
    tuned = get_peft_model(make_tiny_model(lookup.family("llava")), kind(task_type="CAUSAL_LM", num_virtual_tokens=4))
    with pytest.raises(ModelError, match="learned embeddings"):
        foveate.attach(tuned, keep=2)


class Around(nn.Module):
    """A module of the user's own."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, **inputs):
        return self.model(**inputs)


@pytest.mark.parametrize("wrap", [Around, nn.DataParallel, lambda model: Around(torch.compile(model, backend="eager"))])
def test_wrapped_by_others(model, inputs, wrap):
    expected = run(model, inputs, "foveate")
    wrapped = wrap(model)
    with foveate.pruning(wrapped, keep=0.3):
        equal([wrapped(**inputs).logits], expected[:1])
    equal([model(**foveate.prune_inputs(wrapped, inputs, keep=0.3)).logits], expected[2:])
    assert foveate.encode(wrapped, inputs).outputs


def test_a_template_is_learned_for_the_model_inside(bundled, llava):
    """`prune_inputs` reads it there."""
    foveate.learn_template(Around(llava), bundled.processor)
    assert llava.foveate_template["openings"] == {"user:": "user"}


@pytest.mark.parametrize("wrong", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), object(), None, "llava"])
def test_what_holds_no_model_is_refused(llava, wrong):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 5)])
    for call in (lambda: foveate.attach(wrong, keep=2), lambda: foveate.prune_inputs(wrong, inputs, keep=2)):
        with pytest.raises(FoveateError, match=type(wrong).__name__):
            call()


def test_the_model_itself_comes_back(llava):
    assert unwrap(llava) is llava
    assert unwrap(Around(Around(llava))) is llava


@pytest.fixture
def group(tmp_path):
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("method", ["foveate", "glance"])
def test_over_processes(model, inputs, method):
    """DDP and FSDP on one process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    expected = run(model, inputs, method)
    ddp = nn.parallel.DistributedDataParallel(model)
    with foveate.pruning(ddp, keep=0.3, method=method):
        equal([ddp(**inputs).logits], expected[:1])
    mesh = init_device_mesh("cpu", (1,))
    for layer in model.base_model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    equal(run(model, inputs, method), expected)


@pytest.mark.usefixtures("group")
def test_shards_are_gathered_before_the_first_forward(llava):
    """The encoders run in `prune_inputs`, which no hook of the shards sees."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    inputs = make_batch(llava, lookup.family("llava"), [(1, 5)])
    expected = foveate.prune_inputs(llava, inputs, keep=2)
    fully_shard(llava, mesh=init_device_mesh("cpu", (1,)))
    short = foveate.prune_inputs(llava, inputs, keep=2)
    equal(*(own["mm_encoder_outputs"]["image"].pooler_output for own in (short, expected)))


@pytest.mark.usefixtures("group")
@pytest.mark.filterwarnings("ignore:.*NO_SHARD.*")  # what it does on one process
def test_shards_that_the_wrapper_keeps_are_refused(llava):
    from torch.distributed.fsdp import FullyShardedDataParallel

    sharded = FullyShardedDataParallel(llava, device_id=torch.device("cpu"))
    for wrapped in (sharded, Around(sharded)):
        with pytest.raises(ModelError, match=r"^FullyShardedDataParallel holds .*: shard the model with .*fully_shard"):
            foveate.attach(wrapped, keep=2)
