"""Clips in a session: the answer of the whole conversation in one piece, with the frames' own times, encoded once."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.utils.import_utils import is_torchvision_available

import foveate
from foveate.conformance.batches import make_tiny_model
from foveate.errors import FoveateError, InputError
from foveate.models import family_of, lookup
from foveate.runtime.conversation import apply_template, generate_answers
from foveate.runtime.load import load, quiet
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.media import Clip
from tiny import tiny_folder, tiny_tokenizer
from videos import load_reader, needs_videos, to_video_arguments

ASK = {"max_new_tokens": 6, "do_sample": False}


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def loaded(request, tmp_path_factory):
    return load_reader(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    with quiet():
        return load(str(tiny_folder("llava", tmp_path_factory.mktemp("llava"))))


def noise(seed, size=(60, 60)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def make_clip(times, seed=0):
    return [(seconds, noise(seed + number)) for number, seconds in enumerate(times)]


def open_session(loaded, **options):
    return foveate.Session(loaded.model, loaded.processor, **{"keep": 0.5, **options})


def answer_at_once(loaded, messages, images, clips, rates, **options):
    """The answer to a whole conversation, and its report, by the processor's own arguments."""
    videos = to_video_arguments(clips, rates)
    prompt = apply_template(loaded, messages)
    inputs = loaded.processor(text=[prompt], return_tensors="pt", **({"images": images} if images else {}), **videos)
    with torch.no_grad():
        short = foveate.prune_inputs(loaded.model, inputs, **{"keep": 0.5, **options})
        return generate_answers(loaded, short, 6)[0], short.report


@needs_videos
@pytest.mark.filterwarnings("ignore:.*cap_pixels")
def test_every_answer_is_that_of_the_whole_conversation(loaded):
    image, first, second = noise(90), make_clip((0, 0.5, 1, 1.5)), make_clip((3, 5, 7), 10)
    with open_session(loaded) as session:
        for shown, images, clips, rates in (
            ([first], [], [first], [2.0]), ([], [], [first], [2.0]),
            ([image, second], [image], [first, second], [2.0, 0.5]),
        ):  # fmt: skip
            session.see(*shown)
            reply = session.ask("what color?", **ASK)
            answer = str(reply)
            *before, _ = session.messages
            expected, report = answer_at_once(loaded, before, images, clips, rates)
            assert answer == expected
            assert [item.modality for item in report.items] == [item.modality for item in reply.report.items]
            for ours, theirs in zip(reply.report.items, report.items, strict=True):
                assert torch.equal(ours.kept, theirs.kept)


@needs_videos
def test_memory_is_shared_by_images_and_clips(loaded):
    image, clip = noise(90), make_clip((0, 1, 2, 3))
    with open_session(loaded, memory=5) as session:
        session.see(image, clip)
        reply = session.ask("what color?", **ASK)
        _, report = answer_at_once(loaded, session.messages[:1], [image], [clip], [1.0], keep=5, per="prompt")
        assert reply.report.kept_count == 5
        for ours, theirs in zip(reply.report.items, report.items, strict=True):
            assert torch.equal(ours.kept, theirs.kept)


@needs_videos
def test_a_clip_is_encoded_once(loaded, monkeypatch):
    calls, encode = [], family_of(loaded.model).encode

    def count(self, *arguments, **options):
        calls.append(self)
        return encode(*arguments, **options)

    monkeypatch.setattr(type(family_of(loaded.model)), "encode", count)
    with open_session(loaded) as session:
        session.see(make_clip((0, 1)))
        replies = [session.ask("what color?", **ASK) for _ in range(3)]
        assert [reply.known for reply in replies] == [0, 1, 1]
        assert len(calls) == 1
        session.see(make_clip((0, 2)))
        assert session.ask("what color?", **ASK).known == 0  # the same frames at other times


@needs_videos
def test_clips_and_frames_of_a_stream_do_not_mix(loaded):
    with open_session(loaded) as session:
        session.see(make_clip((0, 1)))
        with pytest.raises(InputError, match="not both"):
            session.see(noise(1), at=2.0)
        assert session.stream.times == ()
    with open_session(loaded) as session:
        session.see(noise(1), at=2.0)
        with pytest.raises(InputError, match="not both"):
            session.see(make_clip((0, 1)))
        assert str(session.ask("what color?", **ASK)) is not None


@needs_videos
def test_wrong_clips(loaded):
    image = noise(0)
    with open_session(loaded) as session:
        for wrong, message in (
            ([], "has no frames"), ([image, image], "Frame 0 of the clip is"),
            ([(0, image), (0, image)], "order of time"),
            ([(0, image), (1, noise(1, (30, 60)))], "another size"), ([(-1.0, image)], "Frame 0"),
            ([(float("nan"), image)], "Frame 0"), ([("0", image)], "Frame 0"), ([(0, "image")], "Frame 0"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=message):
                session.see(wrong)
        with pytest.raises(InputError, match="one by one"):
            session.see(image, image, at=1)
        with pytest.raises(InputError, match="is no image"):
            session.see([(0, image)], at=1)
        assert session._shown == []


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
def test_without_torchvision(loaded):
    with open_session(loaded) as session, pytest.raises(InputError, match="install torchvision, or show frames one by"):
        session.see(make_clip((0, 1)))


def test_a_model_without_videos_and_sounds(llava):
    with open_session(llava) as session:
        with pytest.raises(InputError, match="reads no video here: show frames one by one, with their times"):
            session.see(make_clip((0, 1)))
        with pytest.raises(InputError, match="reads no audio here: leave it out"):
            session.hear(np.zeros(16), 16000)
        session.see(noise(0))
        str(session.ask("what color?", **ASK))


@needs_videos
def test_a_template_that_shows_no_videos(loaded):
    template, processor = loaded.processor.chat_template, loaded.processor
    try:
        processor.chat_template = "{% for message in messages %}{{ message['role'] }}{% endfor %}"
        with open_session(loaded) as session, pytest.raises(FoveateError, match="shows no video"):
            session.see(make_clip((0, 1)))
    finally:
        processor.chat_template = template


@pytest.mark.parametrize(
    ("times", "rate", "places"),
    [
        ((0.0, 0.5, 1.0), 2.0, [0, 1, 2]), ((12.0, 14.0), 0.5, [6, 7]), ((3.0,), 1.0, [3]),
        ((0.0, 1.0, 4.0), 0.5, [0, 0.5, 2]), ((0.0, 1 / 24, 2 / 24), 24.0, [0, 1, 2]),
    ],
)  # fmt: skip
def test_times_reach_the_processor(times, rate, places):
    """Its own way back, place / rate, gives them again."""
    metadata = Clip("", times, ()).metadata
    assert metadata["fps"] == pytest.approx(rate)
    assert metadata["frames_indices"] == places
    assert [place / metadata["fps"] for place in metadata["frames_indices"]] == pytest.approx(list(times))


OMNI = (
    "<|AUDIO|>", "<|IMAGE|>", "<|VIDEO|>", "<|audio_bos|>", "<|audio_eos|>", "<|user|>", "<|im_start|>", "<|im_end|>",
    "<|endoftext|>", *(f"<|unused{n}|>" for n in range(7)), "<|vision_bos|>", "<|vision_eos|>",
)  # fmt: skip


@pytest.fixture(scope="module")
def omni():
    """A tiny thinker of Qwen2.5-Omni with its processor."""
    model = make_tiny_model(lookup.family("qwen2_5_omni_thinker"))
    names = {
        name: f"<|{name.removesuffix('_token').upper()}|>" for name in ("image_token", "audio_token", "video_token")
    }
    marks = {f"{name}_token": f"<|{name}|>" for name in ("vision_bos", "vision_eos", "audio_bos", "audio_eos")}
    tokenizer = tiny_tokenizer(OMNI, eos_token="<|im_end|>", pad_token="<|endoftext|>", **names, **marks)
    vision, sizes = model.config.vision_config, {"shortest_edge": 4 * 8**2, "longest_edge": 36 * 8**2}
    patches = {"patch_size": vision.patch_size, "merge_size": vision.spatial_merge_size, "size": sizes}
    hearing = transformers.WhisperFeatureExtractor(
        feature_size=model.config.audio_config.num_mel_bins, chunk_length=2, return_attention_mask=True
    )
    shows = {"image": "<|vision_bos|><|IMAGE|><|vision_eos|>", "video": "<|vision_bos|><|VIDEO|><|vision_eos|>"}
    shows["audio"] = "<|audio_bos|><|AUDIO|><|audio_eos|>"
    parts = "".join(f"{{% elif part['type'] == '{each}' %}}{text}" for each, text in shows.items())
    template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}" + parts + "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    processor = transformers.Qwen2_5OmniProcessor(
        transformers.Qwen2VLImageProcessor(**patches), transformers.Qwen2VLVideoProcessor(**patches), hearing,
        tokenizer, template,
    )  # fmt: skip
    return LoadedModel(model, processor, (), "omni")


def sound(seed, seconds=0.6):
    return np.random.default_rng(seed).normal(size=int(16000 * seconds)).astype(np.float32) / 4


def answer_with_sound(omni, messages, images, sounds, clips=(), fps=2.0, **options):
    """The answer to a whole conversation, and its report, by the processor's own arguments."""
    media = {"images": images} if images else {}
    media |= {"videos": [[image for _, image in clip] for clip in clips], "fps": fps} if clips else {}
    prompt = omni.processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = omni.processor(text=[prompt], audio=sounds, sampling_rate=16000, return_tensors="pt", **media)
    with torch.no_grad():
        short = foveate.prune_inputs(omni.model, inputs, **{"keep": 0.5, **options})
        return generate_answers(omni, short, 6)[0], short.report


@needs_videos
@pytest.mark.parametrize("options", [{}, {"modalities": ("image", "video", "audio")}])
def test_sounds_in_a_conversation(omni, options):
    """The answers of the whole conversation, where sounds are whole and where they are pruned."""
    image = noise(1)
    with open_session(omni, **options) as session:
        for show, images, sounds in (
            (lambda: session.hear(sound(0), 16000), [], [sound(0)]), (lambda: None, [], [sound(0)]),
            (lambda: (session.see(image), session.hear(sound(1, 0.3), 16000)), [image], [sound(0), sound(1, 0.3)]),
        ):  # fmt: skip
            show()
            reply = session.ask("what color?", **ASK)
            answer = str(reply)
            expected, report = answer_with_sound(omni, session.messages[:-1], images, sounds, **options)
            assert answer == expected
            assert [item.modality for item in reply.report.items] == [item.modality for item in report.items]
            for ours, theirs in zip(reply.report.items, report.items, strict=True):
                assert torch.equal(ours.kept, theirs.kept)


@needs_videos
def test_all_modalities_share_the_memory(omni):
    options = {"modalities": ("image", "video", "audio")}
    clip = make_clip((0, 4, 8, 12), 7)
    with open_session(omni, memory=9, **options) as session:
        session.see(noise(1), clip)
        session.hear(sound(0), 16000)
        reply = session.ask("what color?", **ASK)
        answer = str(reply)
        expected, report = answer_with_sound(
            omni, session.messages[:1], [noise(1)], [sound(0)], [clip], 0.25, keep=9, per="prompt", **options
        )
    assert (answer, reply.report.kept_count) == (expected, 9)
    assert {item.modality for item in reply.report.items} == {"image", "video", "audio"}
    for ours, theirs in zip(reply.report.items, report.items, strict=True):
        assert torch.equal(ours.kept, theirs.kept)


@needs_videos
def test_wrong_sounds(omni):
    with open_session(omni) as session:
        for wrong in ("sound.wav", None, [], np.zeros((2, 8)), [float("nan")]):
            with pytest.raises(InputError, match="is no sound"):
                session.hear(wrong, 16000)
        for rate in (8000, None, "16000"):
            with pytest.raises(InputError, match="resample it to 16000"):
                session.hear(sound(0), rate)
        assert session._shown == []
