"""Frames come one by one: the prompt is the stock model on what is remembered, in bounded memory, in order of time."""

import threading

import pytest
import torch
from PIL import Image

import foveate
from foveate.conformance.reference import relative_error, run_reference
from foveate.conformance.registry import to_tiny_family
from foveate.errors import InputError, KeepError
from foveate.models import family_of
from foveate.runtime.conversation import generate_answers, make_chat_inputs
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from tiled import tiled_folder
from tiny import tiny_folder

TINY = ("llava", "qwen2_5_vl", "qwen3_vl")
TILES = ("internvl", "gemma3", "aya_vision")
ASK = {"max_new_tokens": 2, "do_sample": False}


@pytest.fixture(scope="module", params=[*TINY, *TILES])
def loaded(request, tmp_path_factory):
    folder, make = tmp_path_factory.mktemp(request.param), tiny_folder if request.param in TINY else tiled_folder
    with quiet():
        loaded = load(str(make(request.param, folder)))
    with torch.no_grad():
        to_tiny_family(family_of(loaded.model)).randomize_zeros(loaded.model)
    return loaded


@pytest.fixture(scope="module")
def qwen():
    return load("bundled-qwen")


def noise(seed, size=(60, 60)):
    pixels = torch.randint(0, 255, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def change(image, seed):
    """The image with another patch in a corner."""
    other = image.copy()
    other.paste(noise(seed, (image.width // 2, image.height // 2)), (0, 0))
    return other


def open_session(loaded, **options):
    """A session, and a list of the inputs of each of its answers."""
    session = foveate.Session(loaded.model, loaded.processor, **{"keep": 0.5, **options})
    prune, calls = session._prune, []

    def record(prepared):
        calls.append(prune(prepared))
        return calls[-1]

    session._prune = record
    return session, calls


def frame(at):
    return [{"type": "text", "text": f"at {at} s:"}, {"type": "image"}]


def check_prompt(loaded, short, messages, images):
    """The logits of the prompt are those of the stock model on the whole conversation, with dropped tokens masked."""
    with torch.no_grad():
        inputs = make_chat_inputs(loaded, messages, images)
        reference = run_reference(loaded.model, family_of(loaded.model), inputs, short)
        logits = loaded.model(**short).logits[0]
    assert relative_error(logits, reference) < 2e-4
    return inputs


def test_the_prompt_is_the_stock_model_on_what_is_remembered(loaded):
    """Frames of which a part repeats, images between them, another size, and a second question."""
    first, image, wide = noise(0), noise(1), noise(5, (90, 60))
    second, third = change(first, 2), change(first, 3)
    image_part, asked = [{"type": "image"}], [{"type": "text", "text": "word"}]
    session, calls = open_session(loaded, stream=foveate.StreamSettings(detail=1.0))
    with session:
        session.see(first, at=0)
        session.see(image)
        session.see(second, at=1.25)
        str(session.ask("word", **ASK))
        content = [*frame(0), *image_part, *frame(1.25), *asked]
        inputs = check_prompt(loaded, calls[0][0], [{"role": "user", "content": content}], [first, image, second])
        assert 0 < calls[0][0].report.kept_count < calls[0][0].report.total_count
        session.see(third, at=3)
        session.see(wide, at=4)
        reply = session.ask("word", **ASK)
        turns = [{"role": "user", "content": content}, session.messages[1]]
        turns.append({"role": "user", "content": [*frame(3), *frame(4), *asked]})
        shown = dict(zip((0, 1.25, 3, 4), (first, second, third, wide), strict=True))
        assert reply.times == tuple(at for at in shown if at in reply.times)
        if len(reply.times) == len(shown):
            check_prompt(loaded, calls[1][0], turns, [first, image, second, third, wide])
    assert inputs["input_ids"].shape[1] > calls[0][0]["input_ids"].shape[1]


def test_a_stream_of_one_frame_is_an_image(loaded):
    answers, kept = [], []
    for at in (None, 7.5):
        session, calls = open_session(loaded, keep=0.25)
        with session:
            session.see(noise(3), at=at)
            answers.append(str(session.ask("word", max_new_tokens=8, do_sample=False)))
            kept.append(calls[0][0])
    assert answers[0] == answers[1]
    assert torch.equal(kept[0]["input_ids"], kept[1]["input_ids"])
    assert all(torch.equal(one.kept, two.kept) for one, two in zip(*(each.report.items for each in kept), strict=True))


def test_equal_frames_cost_nothing(loaded):
    with open_session(loaded)[0] as session:
        session.see(noise(0), at=0)
        before = session.stream.tokens, session.stream.bytes
        for at in range(1, 5):
            session.see(noise(0), at=at)
        assert (session.stream.tokens, session.stream.bytes) == before
        assert session.stream.times == (4,)


def test_methods_that_read_more_of_the_encoder(bundled):
    """The extras of the tokens that are remembered; all tokens are there of an only frame."""
    kept = []
    for at in (None, 0):
        session, calls = open_session(bundled, keep=0.1, method="visionzip")
        with session:
            session.see(draw_scene(sample_scene(5, 0)), at=at)
            str(session.ask("how many ?", **ASK))
            session.see(draw_scene(sample_scene(5, 1)), at=None if at is None else 1)
            str(session.ask("how many ?", **ASK))
            kept.append([call[0].report for call in calls])
    assert torch.equal(kept[0][0].items[0].kept, kept[1][0].items[0].kept)
    assert torch.equal(kept[0][1].items[-1].kept, kept[1][1].items[-1].kept)


def test_answers_are_those_of_a_prompt_with_the_same_frames(qwen):
    """With room for everything: beside the conversation in one piece, and the same tokens for the same question."""
    images = [draw_scene(sample_scene(5, n)) for n in range(3)]
    session, calls = open_session(qwen, keep=1.0, stream=foveate.StreamSettings(detail=1.0))
    with session:
        for at, image in enumerate(images):
            session.see(image, at=at)
        answer = str(session.ask("what color is the star ?", max_new_tokens=8, do_sample=False))
    if any(len(item.kept) < item.total for item in calls[0][0].report.items):
        pytest.fail("three scenes have no place in common")
    content = [*frame(0), *frame(1), *frame(2), {"type": "text", "text": "what color is the star ?"}]
    with torch.no_grad():
        inputs = make_chat_inputs(qwen, [{"role": "user", "content": content}], images)
        assert answer == generate_answers(qwen, inputs, 8)[0]


def test_words_that_name_times_are_no_question(qwen):
    """The same tokens are chosen whatever the times are, and other ones for another question."""
    kept, star = [], "what color is the star ?"
    for start, question in ((0, star), (12345.5, star), (0, "read the sign")):
        session, calls = open_session(qwen, keep=0.1)
        with session:
            for n in range(3):
                session.see(draw_scene(sample_scene(5, n)), at=start + n)
            str(session.ask(question, **ASK))
            kept.append(torch.cat([item.kept for item in calls[0][0].report.items]).tolist())
    assert kept[0] == kept[1] != kept[2]


def test_memory_and_prompt_are_bounded(tmp_path):
    """Something new comes all the time. A thousand frames are in tests/method/test_memory.py."""
    with quiet():
        loaded = load(str(tiny_folder("qwen2_5_vl", tmp_path)))
    session, calls = open_session(loaded, keep=1.0, stream=foveate.StreamSettings(tokens=60, frames=6))
    sizes = []
    with session:
        for at in range(160):
            image = Image.new("RGB", (48, 48), "grey")
            image.paste(noise(at, (24, 24)), (at * 7 % 25, at * 13 % 25))
            session.see(image, at=at)
            if at + 1 in (40, 160):
                str(session.ask("word", **ASK))
                stream, report = session.stream, calls[-1][0].report
                sizes.append((stream.tokens, len(stream.times), stream.bytes, report.kept_count))
        assert stream.times[-1] == 159
    for before, after in zip(*sizes, strict=True):
        assert 0.9 * before <= after <= 1.1 * before
    assert sizes[1][0] <= 60
    assert sizes[1][1] <= 6


def test_what_was_forgotten_is_named_by_the_reply(qwen):
    session, _ = open_session(qwen, stream=foveate.StreamSettings(frames=2))
    with session:
        for at in range(4):
            session.see(draw_scene(sample_scene(5, at)), at=at)
        reply = session.ask("what color is the star ?", **ASK)
        assert len(reply.times) == 2
        assert reply.times == session.stream.times
        assert reply.times[-1] == 3
        assert len(reply.report.items) == 2


def test_memory_limits_the_prompt_and_leaves_frames_out(qwen):
    session, calls = open_session(qwen, keep=0.5, memory=40)
    with session:
        session.see(draw_scene(sample_scene(5, 9)))
        for at in range(8):
            session.see(draw_scene(sample_scene(5, at)), at=at)
        reply = session.ask("what color is the star ?", **ASK)
        assert reply.report.kept_count == 40
        assert len(reply.times) == 4  # and the image: eight tokens for each of five
        assert reply.times[-1] == 7
        assert len(session.stream.times) > 4
        assert len(calls[0][0].report.items) == 5


def test_keep_is_a_share_of_whole_frames(qwen):
    """Of what is left of a frame too: an object that is gone is not thinned out again."""
    session, _ = open_session(qwen, keep=0.1, stream=foveate.StreamSettings(detail=0.08))
    with session:
        for at in range(3):
            session.see(draw_scene(sample_scene(5, 0)).rotate(90 * at), at=at)
        items = session.ask("what color is the star ?", **ASK).report.items
        left = [len(each.indices) for each in session.stream._memory.frames]
        assert left[0] < 0.1 * items[0].total
        assert [len(item.kept) for item in items] == [*left[:2], int(0.1 * items[2].total)]


def test_a_failed_answer_loses_no_frame(qwen):
    class Failing(torch.nn.Module):
        def __call__(self, ids, scores):
            raise RuntimeError("out of memory")

    image = draw_scene(sample_scene(5, 0))
    with open_session(qwen)[0] as session:
        session.see(image, at=0)
        reply = session.ask("what color is the star ?", logits_processor=[Failing()])
        session.see(draw_scene(sample_scene(5, 1)), at=1)
        with pytest.raises(RuntimeError, match="out of memory"):
            str(reply)
        assert session.messages == []
        again = session.ask("what color is the star ?", **ASK)
        assert str(again)
        assert again.times == (0, 1)
        session.close()
        assert (session.stream.times, session.stream.tokens, session.stream.bytes) == ((), 0, 0)
    with open_session(qwen)[0] as session:
        session.see(image, at=0)  # a new conversation has times of its own


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (1, "A frame at 1 s came after one at 1.5 s: show frames in order"), (1.5, "in order of time"),
        (float("nan"), "no time: give a finite number"), (float("inf"), "no time"), ("2", "no time"), (True, "no time"),
        (torch.tensor(2.0), "no time"),
    ],
)  # fmt: skip
def test_wrong_times_change_nothing(qwen, at, message):
    with open_session(qwen)[0] as session:
        session.see(draw_scene(sample_scene(5, 0)), at=1.5)
        before = session.stream.times, session.stream.bytes
        with pytest.raises(InputError, match=message):
            session.see(draw_scene(sample_scene(5, 1)), at=at)
        assert (session.stream.times, session.stream.bytes) == before
        session.see(draw_scene(sample_scene(5, 1)), at=2)


def test_frames_come_one_by_one_and_are_images(qwen):
    with open_session(qwen)[0] as session:
        for wrong in ((), (noise(0), noise(1))):
            with pytest.raises(InputError, match="show frames one by one"):
                session.see(*wrong, at=1)
        with pytest.raises(InputError, match="open it with PIL"):
            session.see("frame.png", at=1)
        with pytest.raises(InputError, match="give keep a number"):
            open_session(qwen, keep="auto")[0].see(noise(0), at=1)
        with pytest.raises(InputError, match=r"no foveate.StreamSettings"):
            open_session(qwen, stream=100)
        assert session.stream.times == ()


def test_a_memory_smaller_than_one_frame(qwen):
    with open_session(qwen, stream=foveate.StreamSettings(tokens=20))[0] as session:
        with pytest.raises(KeepError, match="less than the 144 tokens of one frame"):
            session.see(Image.new("RGB", (192, 192)), at=0)
        session.see(Image.new("RGB", (64, 64)), at=0)
        assert session.stream.tokens == 16


def load_tiled(name, folder):
    with quiet():
        return load(str(tiled_folder(name, folder)))


@pytest.mark.filterwarnings("ignore")
def test_families_that_read_no_image_alone(tmp_path):
    with open_session(load_tiled("idefics3", tmp_path))[0] as session:
        with pytest.raises(InputError, match=r"encoded frame by frame.*see\(image\), without a time"):
            session.see(noise(0), at=0)
        session.see(noise(0))
        assert len(session.ask("word", **ASK).report.items) == 1


@pytest.mark.filterwarnings("ignore")
def test_processors_that_make_something_else_of_images_of_two_sizes(tmp_path):
    """Those of one size are a stream; another size is refused, and changes nothing."""
    loaded, images = load_tiled("llava_next", tmp_path), [noise(0), change(noise(0), 1)]
    session, calls = open_session(loaded, stream=foveate.StreamSettings(detail=1.0))
    with session:
        for at, image in enumerate(images):
            session.see(image, at=at)
        with pytest.raises(InputError, match=r"60 x 60 and 130 x 60 pixels together: use images of one size"):
            session.see(noise(3, (130, 60)), at=2)
        with pytest.raises(InputError, match=r"60 x 60 and 130 x 60 pixels together: use images of one size"):
            session.see(noise(3, (130, 60)))
        str(session.ask("word", **ASK))
        content = [*frame(0), *frame(1), {"type": "text", "text": "word"}]
        check_prompt(loaded, calls[0][0], [{"role": "user", "content": content}], images)


def test_a_frame_beside_an_image_of_another_size(tmp_path):
    loaded = load_tiled("llava_next", tmp_path)
    with open_session(loaded)[0] as session:
        session.see(noise(3, (130, 60)))
        with pytest.raises(InputError, match=r"60 x 60 and 130 x 60 pixels together: use images of one size"):
            session.see(noise(0), at=0)
        assert session.stream.times == ()
        assert len(session.ask("word", **ASK).report.items) == 1


def test_two_threads(qwen):
    """One shows frames while the other asks: every answer is about frames in order of time."""
    replies, errors = [], []
    with open_session(qwen, keep=0.1)[0] as session:
        session.see(draw_scene(sample_scene(5, 0)), at=0)

        def ask():
            try:
                for _ in range(3):
                    replies.append(session.ask("what color is the star ?", **ASK))
                    str(replies[-1])
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        for at in range(1, 6):
            session.see(draw_scene(sample_scene(5, at)), at=at)
        thread.join()
    assert not errors
    assert len(replies) == 3
    assert all(list(reply.times) == sorted(set(reply.times)) for reply in replies)
