"""Images that come again are not encoded again, and their tokens are those that a fresh process would have."""

import hashlib

import pytest
import torch
from PIL import Image

import foveate
from foveate.errors import FoveateError
from foveate.models import family_of
from foveate.runtime.conversation import apply_template, process_chat
from foveate.runtime.image_cache import ImageCache, LazyImage
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from tiled import MORE_TILED, TILED, tiled_folder

MIB = 2**20


def cached(image):
    return LazyImage(hashlib.sha256(image.tobytes()).hexdigest(), lambda: image)


def unopened(image):
    """The image, known by its key alone."""

    def fail():
        raise AssertionError("a known image was decoded")

    return LazyImage(cached(image).key, fail)


def ask(loaded, question, count):
    content = [*[{"type": "image"}] * count, {"type": "text", "text": question}]
    return apply_template(loaded, [{"role": "user", "content": content}])


def draw(count, kind="scene"):
    return [draw_scene(sample_scene(3, n, kind)) for n in range(count)]


def prune(loaded, prepared, **options):
    options = {"keep": 0.3, "method": "foveate", **options}
    with torch.no_grad():
        return foveate.prune_inputs(loaded.model, prepared.inputs, encoded=prepared.encoded, **options)


def features_of(loaded, short):
    family = family_of(loaded.model)
    return torch.cat(
        [rows.reshape(-1, rows.shape[-1]) for rows in family.features(short["mm_encoder_outputs"]["image"])]
    )


def same(loaded, one, two):
    """Whether two pruned prompts are the same, bit for bit."""
    rest = one.keys() - {"mm_encoder_outputs"}
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in rest) and torch.equal(
        features_of(loaded, one), features_of(loaded, two)
    )


@pytest.fixture(scope="module")
def qwen():
    return load("bundled-qwen")


@pytest.fixture(params=["bundled", "qwen"])
def loaded(request):
    return request.getfixturevalue(request.param)


def test_a_known_image_is_neither_decoded_nor_encoded(loaded, monkeypatch):
    images, cache = draw(2), ImageCache(loaded, MIB * 16)
    first = cache.prepare(ask(loaded, "how many ?", 2), [*map(cached, images)], "foveate")
    assert (first.known, first.seconds > 0) == (0, True)
    monkeypatch.setattr(type(family_of(loaded.model)), "encode", None)
    again = cache.prepare(ask(loaded, "what color is the circle ?", 2), [*map(unopened, images)], "foveate")
    assert (again.known, again.seconds) == (2, 0)


def test_tokens_do_not_depend_on_what_came_before(loaded):
    """The third question of a conversation, in a process that saw it grow and in a fresh one."""
    images, old = draw(3), ImageCache(loaded, MIB * 16)
    for count in (1, 2):
        old.prepare(ask(loaded, "how many ?", count), [*map(cached, images[:count])], "foveate")
    prompt, fresh = ask(loaded, "what color is the star ?", 3), ImageCache(loaded, MIB * 16)
    prepared = [cache.prepare(prompt, [*map(cached, images)], "foveate") for cache in (old, fresh)]
    assert [one.known for one in prepared] == [2, 0]
    assert same(loaded, *(prune(loaded, one) for one in prepared))


def test_tokens_are_those_of_the_encoder(loaded):
    """Beside all images in one call of the encoder, the stock way."""
    images, prompt = draw(3), ask(loaded, "what color is the star ?", 3)
    with torch.no_grad():
        inputs = process_chat(loaded, prompt, images)
        stock = foveate.prune_inputs(loaded.model, inputs, keep=1.0, encoded=foveate.encode(loaded.model, inputs))
    ours = prune(loaded, ImageCache(loaded, MIB * 16).prepare(prompt, [*map(cached, images)], "foveate"), keep=1.0)
    assert torch.equal(ours["input_ids"], stock["input_ids"])
    torch.testing.assert_close(features_of(loaded, ours), features_of(loaded, stock), rtol=2e-5, atol=2e-5)


def test_a_small_cache_forgets_and_stays_small(loaded):
    images, big = draw(6), ImageCache(loaded, MIB * 64)
    one = big.prepare(ask(loaded, "how many ?", 1), [cached(images[0])], "foveate")
    small = ImageCache(loaded, limit := int(2.5 * big.bytes))
    for image in images:
        small.prepare(ask(loaded, "how many ?", 1), [cached(image)], "foveate")
        assert 0 < small.bytes <= limit
    again = small.prepare(ask(loaded, "how many ?", 1), [cached(images[0])], "foveate")
    assert again.known == 0
    assert same(loaded, prune(loaded, one), prune(loaded, again))
    assert small.prepare(ask(loaded, "how many ?", 1), [unopened(images[0])], "foveate").known == 1


@pytest.mark.parametrize("size", [0, 1])
def test_a_cache_without_room_keeps_nothing(loaded, size):
    image, cache = draw(1)[0], ImageCache(loaded, size)
    for _ in range(2):
        assert cache.prepare(ask(loaded, "how many ?", 1), [cached(image)], "foveate").known == 0
    assert cache.bytes == 0


def test_methods_that_read_more_of_the_encoder_have_it(bundled):
    image, cache = draw(1)[0], ImageCache(bundled, MIB * 16)
    prompt = ask(bundled, "how many ?", 1)
    cache.prepare(prompt, [cached(image)], "foveate")
    prepared = cache.prepare(prompt, [cached(image)], "visionzip")
    assert prepared.known == 0  # without the attention of the [CLS] token
    assert cache.prepare(prompt, [unopened(image)], "visionzip").known == 1
    with torch.no_grad():
        direct = foveate.prune_inputs(
            bundled.model, process_chat(bundled, prompt, [image]), keep=0.3, method="visionzip"
        )
    assert same(bundled, prune(bundled, prepared, method="visionzip"), direct)


def test_the_same_image_twice_is_encoded_once(loaded):
    image, cache = draw(1)[0], ImageCache(loaded, MIB * 16)
    prepared = cache.prepare(ask(loaded, "how many ?", 2), [cached(image)] * 2, "foveate")
    features = family_of(loaded.model).features(prepared.encoded.outputs["image"])
    assert torch.equal(*features)


def test_images_that_are_processed_otherwise_beside_others(loaded, monkeypatch):
    """Each is known alone, which is of no use in a prompt with both."""
    processor = loaded.processor.image_processor

    class Inverting(type(processor)):
        def __call__(self, images, **options):
            output = super().__call__(images, **options)
            if sum(map(len, images)) > 1:
                output["pixel_values"] = -output["pixel_values"]
            return output

    monkeypatch.setattr(loaded.processor, "image_processor", Inverting(**processor.to_dict()))
    images, cache, prompt = draw(2), ImageCache(loaded, MIB * 16), ask(loaded, "how many ?", 2)
    for image in images:
        cache.prepare(ask(loaded, "how many ?", 1), [cached(image)], "foveate")
    with torch.no_grad():
        stock = foveate.prune_inputs(loaded.model, process_chat(loaded, prompt, images), keep=0.3)
    for known in (0, 2):
        prepared = cache.prepare(prompt, [*map(cached, images)], "foveate")
        assert prepared.known == known
        assert same(loaded, prune(loaded, prepared), stock)
    cache._cache.remove((tuple(cached(image).key for image in images), frozenset()))  # forgotten, but known alone
    assert same(loaded, prune(loaded, cache.prepare(prompt, [*map(cached, images)], "foveate")), stock)


def test_a_prompt_without_an_image(qwen):
    prepared = ImageCache(qwen, MIB).prepare(ask(qwen, "how many ?", 0), [], "foveate")
    assert (prepared.encoded, prepared.known) == (None, 0)


def test_a_refused_prompt_encodes_nothing(loaded):
    def refuse(inputs):
        raise FoveateError(f"{inputs['input_ids'].shape[1]} tokens")

    cache = ImageCache(loaded, MIB)
    for _ in range(2):
        with pytest.raises(FoveateError, match="tokens"):
            cache.prepare(ask(loaded, "how many ?", 1), [cached(draw(1)[0])], "foveate", refuse)
    assert cache.bytes == 0


@pytest.mark.parametrize("name", sorted({*TILED, *MORE_TILED} - {"got_ocr2"}))  # whose processor reads no chats
@pytest.mark.filterwarnings("ignore")
def test_families_of_tiles(name, tmp_path):
    """With real processors: one, then two images of other sizes, asked about twice, beside the stock way."""
    with quiet():
        loaded = load(str(tiled_folder(name, tmp_path)))
    images = [Image.effect_noise((width, 60), 90).convert("RGB") for width in (60, 130)]
    cache, known = ImageCache(loaded, MIB * 64), []
    for count in (1, 2, 2):
        prompt = ask(loaded, "word", count)
        with torch.no_grad():
            direct = foveate.prune_inputs(loaded.model, process_chat(loaded, prompt, images[:count]), keep=0.5)
            prepared = cache.prepare(prompt, [*map(cached, images[:count])], "foveate")
            known.append(prepared.known)
            short = foveate.prune_inputs(loaded.model, prepared.inputs, keep=0.5, encoded=prepared.encoded)
        assert torch.equal(short["input_ids"], direct["input_ids"])
        ours, theirs = (loaded.model(**prompt).logits[:, -1] for prompt in (short, direct))
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)
    assert known == ([0, 1, 2] if name in ("aya_vision", "gemma3", "internvl") else [0, 0, 2])
