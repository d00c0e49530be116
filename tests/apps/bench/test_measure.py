import pytest
import torch
from transformers import DynamicCache

from foveate.apps.bench.arms import STAGES
from foveate.apps.bench.measure import REQUESTS, count_turns, measure_case, prepare_case
from foveate.apps.bench.model import open_model
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.method import resolve
from foveate.models import family_of, lookup
from foveate.runtime.timing import kv_bytes
from tiled import TILED, tiled_folder

BUDGETS = [("grid", resolve("grid"), 3), ("divprune", resolve("divprune"), 3), ("grid", resolve("grid"), 0.5)]


def make_case(model_type, rows=((1, 6),), budgets=BUDGETS, rounds=2):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    case = prepare_case(model, make_batch(model, family, rows), budgets, batch=len(rows), size=(32, 32))
    calls = []
    measure_case(case, rounds=rounds, new_tokens=2, on_turn=lambda: calls.append(1))
    assert len(calls) == count_turns(case, rounds)
    return case


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_every_stage_of_every_arm(model_type):
    case = make_case(model_type)
    total, length = case.total, case.unpruned.length
    assert [arm.name for arm in case.arms] == [
        "unpruned", "grid 3", "divprune 3", "limit, 3 tokens", "grid 0.5", f"limit, {(total + 1) // 2} tokens"
    ] or total == 6  # half of six is three, and one limit does for all  # fmt: skip
    for arm in case.arms:
        assert arm.length == length - total + arm.kept
        stages = {*STAGES} - {"glance"} if arm in case.pruned else {"encoder", "prefill"}
        assert set(arm.seconds) == {*stages, "first_token"}
        assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in arm.seconds.values())
        if arm is not case.unpruned:
            assert arm.seconds["first_token"][0] == pytest.approx(sum(arm.seconds[stage][0] for stage in stages))
        assert len(arm.decode) == 2 * min(REQUESTS, 2)
        assert min(arm.decode) > 0


def test_a_first_look_is_a_stage_of_its_own():
    with_look, without = make_case(
        "llava", budgets=[("glance", resolve("glance"), 3), ("grid", resolve("grid"), 3)]
    ).pruned
    assert set(with_look.seconds) == {*STAGES, "first_token"}
    assert set(without.seconds) == {*STAGES, "first_token"} - {"glance"}
    assert min(*with_look.seconds["glance"], *with_look.seconds["selection"]) > 0
    for turn, seconds in enumerate(with_look.seconds["first_token"]):
        assert seconds == pytest.approx(sum(with_look.seconds[stage][turn] for stage in STAGES))


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "gemma3", "llava_next"])
def test_kv_bytes_are_the_limits(model_type):
    case = make_case(model_type, rounds=1)
    for arm in case.pruned:
        assert arm.kv_bytes == case.limits[arm.length].kv_bytes < case.unpruned.kv_bytes


@pytest.mark.parametrize("name", [name for name in TILED if name != "got_ocr2"])
def test_all_tiles_of_a_prompt_are_counted(name, tmp_path):
    """Images at the model's own size, in two rows."""
    opened = open_model(str(tiled_folder(name, tmp_path)))
    inputs, model = opened.make_inputs(2, opened.size), opened.model
    case = prepare_case(
        model, inputs, [("grid", resolve("grid"), keep) for keep in (0.25, 5)], batch=2, size=opened.size
    )
    assert [case.total] * 2 == family_of(model).placeholders(model.config, inputs).sum(1).tolist()
    measure_case(case, rounds=1, new_tokens=2)
    for arm in case.pruned:
        assert arm.length == arm.make_request()["input_ids"].shape[1] == case.unpruned.length - case.total + arm.kept
        assert arm.kv_bytes == case.limits[arm.length].kv_bytes < case.unpruned.kv_bytes


def test_kv_bytes_by_hand():
    """Two layers, two heads of 16, keys and values of float32."""
    case = make_case("llava", rows=((1, 6), (1, 6)), rounds=1)
    assert case.unpruned.kv_bytes == 2 * case.unpruned.length * 2 * 2 * 16 * 2 * 4
    assert case.pruned[0].kv_bytes == 2 * case.pruned[0].length * 2 * 2 * 16 * 2 * 4


def test_the_limit_is_the_stock_model_on_the_same_tokens():
    family = lookup.family("llava")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 6)])
    case = prepare_case(model, inputs, BUDGETS[:1], batch=1, size=(32, 32))
    limit, arm = case.limits[case.pruned[0].length], case.pruned[0]
    with torch.no_grad():
        embeds = model(**arm.make_request(), output_hidden_states=True).hidden_states[0]
    assert torch.equal(limit.make_prompt()["inputs_embeds"], embeds)
    assert set(limit.make_prompt()) == {"inputs_embeds"}
    ids = limit.make_request()["input_ids"]
    assert ids.shape == (1, arm.length)
    assert not (ids == model.config.image_token_id).any()


def test_the_limit_is_words_for_a_model_that_takes_no_embeddings_alone():
    case = make_case("gemma4", rounds=1)
    assert [set(limit.make_prompt()) for limit in case.limits.values()] == [{"input_ids"}]
    assert "The limit is a prompt of as many words" in " ".join(case.notes)


@pytest.mark.parametrize("model_type", ["mllama", "blip-2", "florence2"])
def test_without_a_sequence_there_is_no_limit(model_type):
    case = make_case(model_type, rounds=1, budgets=BUDGETS[:1])
    assert not case.limits
    assert case.pruned[0].length == case.unpruned.length
    notes = " ".join(case.notes)
    assert "No limit" in notes
    assert ("Selection includes the model's own encoder" in notes) == (model_type == "florence2")
    assert case.unpruned.kv_bytes


def test_all_kept_is_collect_warnings():
    with pytest.warns(match="keeps all"):
        case = make_case("llava", budgets=[("grid", resolve("grid"), 99)], rounds=1)
    assert "grid 99 keeps all 16 visual tokens." in case.notes
    assert case.pruned[0].kv_bytes == case.unpruned.kv_bytes


def test_bytes_of_a_cache():
    cache = DynamicCache()
    for layer, dtype in enumerate((torch.float32, torch.float16)):
        cache.update(torch.zeros(1, 2, 5, 8, dtype=dtype), torch.zeros(1, 2, 5, 8, dtype=dtype), layer)
    assert kv_bytes(cache) == 2 * 80 * 4 + 2 * 80 * 2
    assert kv_bytes(DynamicCache()) == 0
    shared = torch.zeros(3)
    assert kv_bytes({"a": [shared, shared], "b": (torch.zeros(2), None, "text")}) == 12 + 8
