"""The parts of the plug-in that need vLLM's names but no engine: a plain model stands where the stock one does."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from foveate.conformance.registry import to_tiny_family
from foveate.errors import FoveateWarning, ModelError
from foveate.integrations.vllm import engine
from foveate.integrations.vllm.settings import ImagePlan
from foveate.method import resolve
from foveate.method.tokens import VisualTokens
from foveate.models.llava import Llava
from foveate.models.lookup import family

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from foveate.integrations.vllm import model
from foveate.integrations.vllm.features import FeatureStore


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_offsets_survive_half_precision(dtype):
    offsets = torch.stack((torch.arange(2**16), torch.arange(2**16).flip(0), torch.zeros(2**16, dtype=torch.long)))
    rows = model.append_offsets(torch.randn(2**16, 2).to(dtype), offsets)
    assert rows.dtype == dtype
    assert torch.equal(model.read_offsets(rows), offsets)


def test_steps_of_the_encoder():
    assert list(model.split_into_steps([4, 4, 9, 1, 1], 8)) == [(0, 2), (2, 3), (3, 5)]
    assert list(model.split_into_steps([30], 8)) == [(0, 1)]
    assert list(model.split_into_steps([], 8)) == []


def test_steps_of_the_encoder_are_as_full_as_they_may_be():
    draw = random.Random(2)
    for _ in range(200):
        totals, most = [draw.randint(1, 9) for _ in range(draw.randint(1, 8))], draw.randint(1, 20)
        steps = list(model.split_into_steps(totals, most))
        assert [n for start, stop in steps for n in range(start, stop)] == list(range(len(totals)))
        for start, stop in steps:
            assert sum(totals[start:stop]) <= most or stop == start + 1
            assert stop == len(totals) or sum(totals[start : stop + 1]) > most


def feature(offset, kept, total, positions="original"):
    """An image in a prompt."""
    from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

    packed = SimpleNamespace(data=ImagePlan(kept, total, "grid", positions, ()).pack())
    span = PlaceholderRange(offset=offset, length=kept)
    return MultiModalFeatureSpec(data={"foveate": packed}, modality="image", identifier=str(offset), mm_position=span)


def test_text_goes_on_after_the_whole_image():
    pruned = object.__new__(model.PrunedRopeModel)
    tokens = [1, 2, 9, 9, 3, 9, 4, 5]
    positions, delta = pruned.get_mrope_input_positions(tokens, [feature(5, 1, 4), feature(2, 2, 10)])
    assert positions.tolist() == [[0, 1, 2, 2, 12, 13, 17, 18]] * 3
    assert len(tokens) + delta == 19
    positions, delta = pruned.get_mrope_input_positions(
        tokens, [feature(2, 2, 10, "compact"), feature(5, 1, 4, "compact")]
    )
    assert positions.tolist() == [[0, 1, 2, 2, 4, 5, 6, 7]] * 3
    assert delta == 0
    positions, delta = pruned.get_mrope_input_positions([1, 2, 3], [])
    assert (positions.tolist(), delta) == ([[0, 1, 2]] * 3, 0)


# -- on top of a plain model ------------------------------------------------------------------------------------------

WIDTH, IMAGE, BATCHED = 64, 9, 32  # of the text model; a placeholder; tokens of a step


@dataclass(frozen=True)
class GraphConfig:
    """What a stock model says about CUDA graphs of its encoder."""

    modalities: list
    other: int


class Plain:
    """A model without layers: its features are the pixels, its words a table, and `forward` returns what it gets."""

    def __init__(self, *, vllm_config, prefix=""):
        self.config, self.prefix, self.steps = vllm_config.config, prefix, []
        self.table = torch.randn(512, WIDTH, generator=torch.Generator().manual_seed(8))

    def embed_multimodal(self, *, pixel_values):
        self.steps.append(len(pixel_values))
        return [pixels * 2 for pixels in pixel_values]

    def embed_input_ids(self, input_ids, multimodal_embeddings=None, *, is_multimodal=None):
        words = self.table[input_ids]
        if multimodal_embeddings:
            words[is_multimodal] = torch.cat(list(multimodal_embeddings))
        return words

    def forward(self, input_ids, positions, intermediate_tensors, inputs_embeds, **kwargs):
        return SimpleNamespace(
            ids=input_ids, positions=positions, intermediate=intermediate_tensors, embeds=inputs_embeds, rest=kwargs
        )

    def load_weights(self, weights):
        return {weights}

    def get_encoder_cudagraph_config(self):
        return GraphConfig(["image", "video"], 7)

    def get_mrope_input_positions(self, input_tokens, mm_features):
        """As Qwen2-VL counts them, of images (1, n / 2, 2) and videos (n / 2, 1, 2): a plain loop."""
        spans = {f.mm_position.offset: (f.modality, f.mm_position.length) for f in mm_features}
        positions, column, start = [], 0, 0
        while column < len(input_tokens):
            if column in spans:
                modality, length = spans[column]
                cells = [(n // 2, 0, n % 2) if modality == "video" else (0, n // 2, n % 2) for n in range(length)]
            else:
                cells = [(0, 0, 0)]
            positions += [[start + step for step in cell] for cell in cells]
            column, start = column + len(cells), max(map(max, positions)) + 1
        return torch.tensor(positions).view(-1, 3).T, start - len(input_tokens)


class PrunedGrid(model.PrunedMRopeModel, Plain):
    """Images are two tokens wide."""

    def make_offsets(self, count, grid):
        return torch.tensor([(0, n // 2, n % 2) for n in range(count)]).T


class PrunedLine(model.PrunedRopeModel, Plain):
    """One axis of positions."""


def make(kind, **settings):
    return kind(vllm_config=make_settings(**settings), prefix="language")


def make_settings(*, encoder=64, batched=BATCHED, last=100, gib=1, processor_cache=4, prefix_caching=True):
    config = to_tiny_family(family("llava")).make_config()
    config.foveate = {"keep": 0.3, "feature_cache_gib": gib}
    scheduler = SimpleNamespace(max_num_encoder_input_tokens=encoder, max_num_batched_tokens=batched)
    text = SimpleNamespace(max_position_embeddings=last)
    multimodal = SimpleNamespace(mm_processor_cache_gb=processor_cache)
    model_config = SimpleNamespace(hf_text_config=text, max_model_len=50, multimodal_config=multimodal)
    cache = SimpleNamespace(enable_prefix_caching=prefix_caching)
    return SimpleNamespace(config=config, scheduler_config=scheduler, model_config=model_config, cache_config=cache)


def pixels_of(sizes, width=WIDTH, dtype=torch.float32):
    rows = torch.randn(sum(sizes), width, generator=torch.Generator().manual_seed(4)).to(dtype)
    return list(rows.split(sizes))


def encode(pruned, pixels, plans):
    return pruned.embed_multimodal(pixel_values=pixels, foveate=[plan.pack() for plan in plans])


def choose(pruned, pixels, plan):
    """The kept tokens of an image, by the method itself."""
    if plan.kept == plan.total:
        return list(range(plan.total))
    tokens = VisualTokens(2 * pixels[:, :WIDTH], pruned.table[list(plan.question)].to(pixels))
    return resolve(plan.method).select(tokens, plan.kept).tolist()


PLANS = [
    ImagePlan(3, 12, "divprune", "original", (1, 2)), ImagePlan(10, 10, "divprune", "original", ()),
    ImagePlan(4, 12, "foveate", "original", (5, 6, 7)), ImagePlan(1, 7, "divprune", "compact", (8,)),
    ImagePlan(6, 12, "foveate", "compact", ()), ImagePlan(5, 12, "random", "original", (9,)),
]  # fmt: skip


@pytest.mark.parametrize("kind", [PrunedGrid, PrunedLine])
@pytest.mark.parametrize("encoder", [1, 20, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_image_is_pruned_by_its_own_plan(kind, encoder, dtype):
    pruned = make(kind, encoder=encoder)
    pixels = pixels_of([plan.total for plan in PLANS], WIDTH + 5, dtype)  # five columns of DeepStack
    results = encode(pruned, pixels, PLANS)
    assert sum(pruned.steps) == len(PLANS)
    for rows, own, plan in zip(results, pixels, PLANS, strict=True):
        kept = choose(pruned, own, plan)
        assert rows.dtype == dtype
        assert not rows.requires_grad
        assert torch.equal(rows[:, :-6], 2 * own[kept])  # what stands beside the tokens goes with them
        offsets = model.read_offsets(rows).T.tolist()
        if plan.is_whole:  # its tokens have their places in the prompt
            assert offsets == [[0] * 3] * plan.total
        elif plan.positions == "compact":
            assert offsets == [[n] * 3 for n in range(plan.kept)]
        else:
            assert offsets == [[0, n // 2, n % 2] if kind is PrunedGrid else [n] * 3 for n in kept]


class Ended(Llava):
    """Rows of four tokens end in a protected one."""

    def protected(self, model, inputs, features, modality="image"):
        assert model.base_model is model
        return [torch.arange(len(rows)) % 4 == 3 for rows in features]


def test_protected_tokens_stay_and_are_counted():
    pruned = make(PrunedLine)
    pruned._family = Ended("llava")
    pixels = pixels_of([12, 16])
    plans = [ImagePlan(5, 12, "divprune", "original", ()), ImagePlan(6, 16, "divprune", "original", ())]
    for rows, own, plan in zip(encode(pruned, pixels, plans), pixels, plans, strict=True):
        kept = model.read_offsets(rows)[0].tolist()
        ends = [n for n in range(plan.total) if n % 4 == 3]
        free = [n for n in range(plan.total) if n % 4 != 3]
        tokens = VisualTokens(2 * own[free], pruned.table[:0])
        expected = [free[n] for n in resolve("divprune").select(tokens, plan.kept - len(ends)).tolist()]
        assert kept == sorted(ends + expected)


def test_the_encoder_sees_no_more_tokens_in_a_step_than_it_was_made_for():
    for encoder, batched, steps in ((8, 4, [2, 1, 2]), (4, 8, [2, 1, 2]), (64, 4, [5]), (1, 1, [1] * 5)):
        pruned = make(PrunedLine, encoder=encoder, batched=batched)
        sizes = [4, 4, 9, 1, 1]
        plans = [ImagePlan(1, size, "divprune", "original", ()) for size in sizes]
        assert len(encode(pruned, pixels_of(sizes), plans)) == 5
        assert pruned.steps == steps


def encode_one_by_one(pixels, plans, **settings):
    """Every image by a model that knows none."""
    return [encode(make(PrunedLine, **settings), [own], [plan])[0] for own, plan in zip(pixels, plans, strict=True)]


def test_an_image_that_is_known_is_not_encoded_again():
    """Whatever is asked about it: another question, method, number or positions."""
    sizes = [12, 10, 12, 7]
    pixels = pixels_of(sizes)
    draw = random.Random(5)
    for gib in (1, 0, 25 * WIDTH * 4 / 2**30):  # all, none, or at most two images
        pruned, encoded = make(PrunedLine, gib=gib), 0
        for _ in range(60):
            numbers = [draw.randrange(4) for _ in range(draw.randint(1, 5))]
            plans = [
                ImagePlan(
                    draw.randint(1, sizes[n]), sizes[n], draw.choice(["foveate", "divprune"]),
                    draw.choice(["original", "compact"]), (draw.randint(0, 99),), f"image {n}",
                )
                for n in numbers
            ]  # fmt: skip
            own = [pixels[n] for n in numbers]
            for rows, expected in zip(encode(pruned, own, plans), encode_one_by_one(own, plans), strict=True):
                assert torch.equal(rows, expected)
            assert pruned._features.bytes <= max(gib * 2**30, 0)
            encoded += len(set(numbers)) if not gib else 0
        if gib == 1:
            assert sum(pruned.steps) == pruned._features.encoded == 4
        elif gib == 0:
            assert sum(pruned.steps) == encoded  # once in a step
        else:
            assert 4 < sum(pruned.steps) < pruned._features.encoded + pruned._features.reused


def test_images_without_a_name_are_all_encoded():
    """vLLM measures its memory with copies of one image."""
    pruned = make(PrunedLine)
    for _ in range(2):
        encode(pruned, pixels_of([4, 4]), [ImagePlan(4, 4, "foveate", "original", ())] * 2)
    assert sum(pruned.steps) == pruned._features.encoded == 4
    assert pruned._features.bytes == 0


@pytest.mark.parametrize(("caches", "kept"), [((4, False), True), ((0, True), True), ((0, False), False)])
def test_nothing_is_kept_where_images_have_no_names(caches, kept):
    """With both caches off vLLM numbers images instead of reading them."""
    pruned = make(PrunedLine, processor_cache=caches[0], prefix_caching=caches[1])
    encode(pruned, pixels_of([4]), [ImagePlan(2, 4, "foveate", "original", (), "renderer0-mm-1-image-0")])
    assert bool(pruned._features.bytes) == kept


def test_other_weights_make_other_features():
    pruned = make(PrunedLine)
    encode(pruned, pixels_of([4]), [ImagePlan(2, 4, "foveate", "original", (), "image")])
    assert pruned._features.bytes == 4 * WIDTH * 4
    assert pruned.load_weights("new") == {"new"}
    assert pruned._features.bytes == 0


def test_a_known_image_costs_the_memory_of_its_own_rows():
    """Not that of the batch in which it was encoded."""
    store, batch = FeatureStore(10**6), torch.randn(3, 5, 8)
    parts = store.read(["a", "b", "c"], lambda numbers: [batch[n] for n in numbers])
    assert all(torch.equal(rows, batch[n]) for n, rows in enumerate(parts))
    kept = store.read(["a", "b", "c"], None)
    assert [rows.untyped_storage().nbytes() for rows in kept] == [5 * 8 * 4] * 3
    assert store.bytes == batch.numel() * 4
    assert (store.encoded, store.reused) == (3, 3)


def test_videos_stay_whole():
    pruned, pixels = make(PrunedGrid), pixels_of([12, 4])
    for rows, own in zip(pruned.embed_multimodal(pixel_values=pixels), pixels, strict=True):
        assert torch.equal(rows[:, :-6], 2 * own)
        assert not model.read_offsets(rows).any()


def test_a_stock_model_is_made_as_always():
    pruned = make(PrunedLine)
    assert pruned.prefix == "language"
    assert [kind(vllm_config=make_settings()).prefix for kind in (PrunedLine, PrunedGrid)] == ["", ""]
    assert pruned.base_model is pruned
    with pytest.raises(NotImplementedError):
        make(type("Bare", (model.PrunedMRopeModel, Plain), {})).make_offsets(4, None)


def test_graphs_of_the_encoder_are_off():
    """They would bypass `embed_multimodal`."""
    assert make(PrunedGrid).get_encoder_cudagraph_config() == GraphConfig([], 7)


# -- positions ---------------------------------------------------------------------------------------------------------


def run(pruned, ids, embeddings, positions):
    """A step of the decoder as vLLM makes it: what the stock model's `forward` gets."""
    marks = torch.tensor([i == IMAGE for i in ids])
    embeds = pruned.embed_input_ids(torch.tensor(ids), embeddings, is_multimodal=marks)
    return pruned.forward(torch.tensor(ids), positions, "stage", embeds, more=1)


def prompts(count, kind):
    """(pruned ids, features, images' rows, for each pruned token its place in the unpruned prompt, unpruned ids)."""
    draw = random.Random(11)
    for _ in range(count):
        short, whole, features, unpruned, rows, places = [], [], [], [], [], []
        for _ in range(draw.randint(0, 4)):
            text = [draw.randint(20, 90) for _ in range(draw.randint(0, 3))]
            places += range(len(whole), len(whole) + len(text))
            short, whole = short + text, whole + text
            total = 2 * draw.randint(1, 6)
            kept = sorted(draw.sample(range(total), draw.randint(1, total)))
            if draw.random() < 0.3:
                kept, modality, data = list(range(total)), "video", {}
            else:
                plan = ImagePlan(len(kept), total, "divprune", "original", ())
                modality, data = "image", {"foveate": SimpleNamespace(data=plan.pack())}
            own = torch.zeros(3, total).long() if len(kept) == total else kind.make_offsets(None, total, None)[:, kept]
            rows.append(model.append_offsets(torch.full((len(kept), WIDTH), float(len(rows))), own))
            for prompt, offset, length, into in (
                (short, len(short), len(kept), features), (whole, len(whole), total, unpruned),
            ):  # fmt: skip
                into.append(make_feature(modality, data, offset, length))
                prompt += [IMAGE] * length
            places += [len(whole) - total + n for n in kept]
        tail = [draw.randint(20, 90) for _ in range(draw.randint(1, 3))]
        places += range(len(whole), len(whole) + len(tail))
        draw.shuffle(features)
        yield short + tail, features, rows, places, whole + tail, unpruned


def make_feature(modality, data, offset, length):
    from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

    span = PlaceholderRange(offset=offset, length=length)
    return MultiModalFeatureSpec(data=data, modality=modality, identifier=str(offset), mm_position=span)


@pytest.mark.parametrize("kind", [PrunedGrid, PrunedLine])
def test_every_token_has_the_position_it_has_in_the_whole_prompt(kind):
    pruned = make(kind)
    for ids, features, rows, places, whole, unpruned in prompts(60, kind):
        stock, stock_delta = Plain.get_mrope_input_positions(pruned, whole, unpruned)
        if kind is PrunedLine:
            stock, stock_delta = torch.arange(len(whole)).expand(3, -1), 0
        positions, delta = pruned.get_mrope_input_positions(list(ids), features)
        assert positions.shape == (3, len(ids))
        assert len(ids) + delta == len(whole) + stock_delta  # where the answer goes on
        step = run(pruned, ids, rows, positions.clone())
        expected = stock[:, places]
        assert step.positions.dtype == torch.long
        assert step.positions.tolist() == (expected if kind is PrunedGrid else expected[0]).tolist()


class Listening(PrunedGrid):
    """Keeps the prompt that the stock model numbers."""

    def number_unpruned(self, tokens, features):
        self.heard = tokens, [(one.mm_position.offset, one.mm_position.length) for one in features]
        return super().number_unpruned(tokens, features)


def test_the_stock_model_numbers_the_whole_prompt():
    """A video's tokens are its own, such as timestamps between its frames; an image's are placeholders."""
    pruned = make(Listening)
    image = feature(1, 2, 6)
    video = make_feature("video", {}, 4, 6)
    pruned.get_mrope_input_positions([1, IMAGE, IMAGE, 2, 30, IMAGE, 31, 32, IMAGE, 33, 3], [video, image])
    assert pruned.heard == ([1, *[IMAGE] * 6, 2, 30, IMAGE, 31, 32, IMAGE, 33, 3], [(1, 6), (8, 6)])


def test_questions_are_embedded_on_the_device_of_the_model():
    pruned = make(PrunedGrid)
    with torch.device("meta"):  # what is not made on the device of the model has no values
        first, none, last = pruned._embed_ids([(1, 2), (), (3,)])
    assert torch.equal(first, pruned.table[[1, 2]])
    assert torch.equal(last, pruned.table[[3]])
    assert none.shape == (0, WIDTH)


def test_compact_positions_count_the_kept_tokens():
    pruned = make(PrunedGrid)
    for ids, features, rows, *_ in prompts(60, PrunedGrid):
        if all(f.modality == "video" for f in features):
            continue
        rows = [model.append_offsets(part[:, :-6], torch.arange(len(part)).expand(3, -1)) for part in rows]
        compact = []
        for one in features:
            plan = ImagePlan.unpack(one.data["foveate"].data) if one.modality == "image" else None
            if plan is not None:
                compacted = replace(plan, positions="compact")
                one = replace(one, data={"foveate": SimpleNamespace(data=compacted.pack())})
            if plan is None or plan.is_whole:
                rows[sorted(f.mm_position.offset for f in features).index(one.mm_position.offset)][:, -6:] = 0
            compact.append(one)
        positions, delta = pruned.get_mrope_input_positions(list(ids), compact)
        assert delta == 0
        positions += 1  # vLLM writes into them
        positions -= 1
        assert run(pruned, ids, rows, positions).positions.tolist() == [list(range(len(ids)))] * 3


def test_a_step_gives_the_stock_model_rows_without_offsets():
    pruned = make(PrunedGrid)
    rows = [model.append_offsets(torch.full((2, WIDTH), 3.0), torch.tensor([[0, 300], [1, 2], [5, 70000 % 65536]]))]
    positions = torch.arange(5).expand(3, -1).clone()
    step = run(pruned, [20, IMAGE, IMAGE, 21, 22], rows, positions)
    assert step.positions.tolist() == [[0, 1, 302, 3, 4], [0, 2, 4, 3, 4], [0, 6, 2 + 4464, 3, 4]]
    assert torch.equal(step.embeds[1:3], torch.full((2, WIDTH), 3.0))
    assert torch.equal(step.embeds[[0, 3, 4]], pruned.table[[20, 21, 22]])
    assert (step.intermediate, step.rest, step.ids.tolist()) == ("stage", {"more": 1}, [20, IMAGE, IMAGE, 21, 22])
    assert positions.tolist() == [[0, 1, 2, 3, 4]] * 3  # vLLM's own buffer is left alone


@pytest.mark.parametrize("nothing", [None, []])
def test_text_behind_an_image_step_is_not_moved(nothing):
    pruned = make(PrunedGrid)
    rows = [model.append_offsets(torch.zeros(2, WIDTH), torch.tensor([[7, 7]] * 3))]
    positions = torch.arange(4).expand(3, -1).clone()
    assert run(pruned, [IMAGE, IMAGE, 21, 22], rows, positions).positions[0].tolist() == [7, 8, 2, 3]
    assert run(pruned, [20, 21, 22, 23], nothing, positions).positions.tolist() == positions.tolist()
    embeds = pruned.embed_input_ids(torch.tensor([20, 21]))
    assert torch.equal(embeds, pruned.table[[20, 21]])


def test_buffers_have_one_address_and_grow_where_a_step_is_larger():
    pruned = make(PrunedGrid, batched=6)
    places = []
    for count in (1, 6, 3, 7):
        positions = torch.arange(count).expand(3, -1).clone()
        step = run(pruned, [20] * count, None, positions)
        assert step.positions.tolist() == positions.tolist()
        assert count in (1, 7) or not step.positions.is_contiguous()  # like vLLM's own: a graph is compiled for strides
        places.append((step.positions.data_ptr(), step.positions.stride()))
    assert len(set(places)) == 1
    for count in (7, 8, 20):
        rows = [model.append_offsets(torch.zeros(1, WIDTH), torch.tensor([[5]] * 3))]
        positions = torch.arange(count).expand(3, -1).clone()
        step = run(pruned, [20] * (count - 1) + [IMAGE], rows, positions)
        assert step.positions.tolist() == [[*range(count - 1), count + 4]] * 3
        assert count == 7 or not step.positions.is_contiguous()
        positions = torch.arange(2 * count).expand(3, -1).clone()
        assert (
            pruned.forward(None, positions).positions.tolist()
            == [[*range(count - 1), count + 4, *range(count, 2 * count)]] * 3
        )


def test_an_answer_that_runs_past_the_last_position_stays_there():
    for last in (10, 60):
        pruned = make(PrunedLine, last=last)
        limit = max(last, 50) - 1  # vLLM may be told to go further than the configuration
        positions = torch.tensor([[0, limit - 1, limit, limit + 1, limit + 9]] * 3)
        step = run(pruned, [20, 21, 22, 23, 24], None, positions)
        assert step.positions.tolist() == [0, limit - 1, limit, limit, limit]
    assert make(PrunedGrid).to_decoder_positions(positions) is positions


def test_this_version():
    engine.check_version()


def test_another_version(monkeypatch):
    monkeypatch.setattr(engine, "read_version", lambda: "0.99.1")
    said = r"tested with vLLM 0.32 or later, below 0.33, and this is 0.99.1. \(Of 0.33 the source was read.\)"
    with pytest.warns(FoveateWarning, match=said):
        engine.check_version()


@pytest.mark.parametrize("missing", ["module", "name", "method"])
def test_a_name_is_missing(monkeypatch, missing):
    if missing == "method":
        monkeypatch.setattr(engine, "PROCESSOR_METHODS", ("no_such_step",))
    else:
        where = "vllm.nowhere" if missing == "module" else "vllm.multimodal"
        monkeypatch.setattr(engine, "REQUIRED_NAMES", {where: ("NO_SUCH_NAME",)})
    with pytest.raises(ModelError, match=r"which foveate needs: install vLLM 0\.32 or later"):
        engine.check_version()
