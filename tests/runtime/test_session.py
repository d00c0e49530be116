"""A session answers as the same conversation in one piece, encodes each image once, and loses nothing on an error."""

import threading

import pytest
import torch
from PIL import Image

import foveate
from foveate.errors import FoveateError, InputError, KeepError
from foveate.method.foveate import Foveate
from foveate.models import family_of
from foveate.pipeline.earlier import EarlierChoices
from foveate.pipeline.prune import prune
from foveate.pipeline.settings import check_settings
from foveate.runtime.conversation import generate_answers, make_chat_inputs
from foveate.runtime.load import load
from foveate.runtime.turns import POLICIES
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from policies import make_policy

QUESTIONS = ("how many objects are there ?", "what color is the star ?", "what is the biggest thing ?")


@pytest.fixture(scope="module", params=["bundled", "bundled-qwen"])
def loaded(request):
    return load(request.param)


def draw(number):
    return draw_scene(sample_scene(5, number))


def open_session(loaded, **options):
    return foveate.Session(loaded.model, loaded.processor, **{"keep": 0.2, **options})


def answer_at_once(loaded, messages, images, **options):
    """The answer to a whole conversation, and its report, in the ways that existed before."""
    with torch.no_grad():
        inputs = make_chat_inputs(loaded, messages, images)
        short = foveate.prune_inputs(loaded.model, inputs, **{"keep": 0.2, **options})
        return generate_answers(loaded, short, 16)[0], short.report


@pytest.mark.parametrize("system", [None, "be short"])
def test_every_answer_is_that_of_the_whole_conversation(loaded, system):
    images = [draw(0), draw(1)]
    with open_session(loaded, system=system) as session:
        for count, question in ((1, QUESTIONS[0]), (1, QUESTIONS[1]), (2, QUESTIONS[2]), (2, QUESTIONS[1])):
            if count > len(session._images):
                session.see(images[count - 1])
            reply = session.ask(question, max_new_tokens=16, do_sample=False)
            answer = str(reply)
            *before, last = session.messages
            assert last["content"] == [{"type": "text", "text": answer}]
            expected, report = answer_at_once(loaded, before, images[:count])
            assert answer == expected
            for ours, theirs in zip(reply.report.items, report.items, strict=True):
                assert torch.equal(ours.kept, theirs.kept)


def test_images_are_encoded_once(loaded, monkeypatch):
    calls, encode = [], family_of(loaded.model).encode

    def count(self, *arguments, **options):
        calls.append(self)
        return encode(*arguments, **options)

    monkeypatch.setattr(type(family_of(loaded.model)), "encode", count)
    with open_session(loaded) as session:
        session.see(draw(0))
        replies = [session.ask(question) for question in QUESTIONS[:2]]
        session.see(draw(1), draw(0))
        replies += [session.ask(QUESTIONS[2])]
    assert [reply.known for reply in replies] == [0, 1, 2]  # the third image is the first one
    assert len(calls) == 2


def test_a_small_cache_encodes_again(loaded):
    with open_session(loaded) as large, open_session(loaded, cache_bytes=1) as small:
        for session in (large, small):
            session.see(draw(0))
        for question in QUESTIONS:
            assert str(large.ask(question)) == str(small.ask(question))


def test_pieces_come_while_the_answer_is_made(loaded):
    """The first piece is there before the model is asked for the next token."""
    with open_session(loaded, keep=1.0) as session:
        session.see(draw(0))
        reply = session.ask("describe the image", min_new_tokens=8, max_new_tokens=16)
        pieces = list(reply)
        assert len(pieces) > 1
        assert "".join(pieces).strip() == str(reply)
        assert list(reply) == pieces  # again


def test_an_image_has_less_once_a_newer_one_came(loaded):
    recency = foveate.Recency(newest=1.0, older=0.1, fade=0.3)
    with open_session(loaded, keep=recency) as session:
        for count, shares in enumerate(([1.0], [0.3, 1.0], [0.1, 0.3, 1.0])):
            session.see(draw(count))
            reply = session.ask(QUESTIONS[count], max_new_tokens=16, do_sample=False)
            assert [item.keep for item in reply.report.items] == shares
            *before, _ = session.messages
            answer, report = answer_at_once(loaded, before, [draw(n) for n in range(count + 1)], keep=recency)
            assert str(reply) == answer
            for ours, theirs in zip(reply.report.items, report.items, strict=True):
                assert torch.equal(ours.kept, theirs.kept)
            assert reply.known == count


def test_memory_is_a_limit_for_shares_by_age_too(loaded):
    with open_session(loaded, keep=foveate.Recency(), memory=40) as session:
        session.see(draw(0), draw(1))
        assert session.ask(QUESTIONS[0]).report.kept_count == 40


def test_memory_is_a_limit_for_all_images(loaded):
    with open_session(loaded, keep=0.5, memory=40) as session:
        session.see(draw(0), draw(1))
        reply = session.ask(QUESTIONS[0])
        assert reply.report.kept_count == 40
        messages = session.messages[:1]
        _, report = answer_at_once(loaded, messages, [draw(0), draw(1)], keep=40, per="prompt")
        for ours, theirs in zip(reply.report.items, report.items, strict=True):
            assert torch.equal(ours.kept, theirs.kept)
    with open_session(loaded, keep=10, memory=40) as session:
        session.see(draw(0), draw(1))
        assert [len(item.kept) for item in session.ask(QUESTIONS[0]).report.items] == [10, 10]


def test_a_memory_smaller_than_the_images(loaded):
    with open_session(loaded, memory=1) as session:
        session.see(draw(0))
        assert session.ask(QUESTIONS[0]).report.kept_count == 1
        session.see(draw(1))
        with pytest.raises(KeepError, match="each needs one"):
            session.ask(QUESTIONS[0])


def test_a_conversation_that_is_too_long_is_refused_and_nothing_is_lost(bundled):
    """Three images of 576 positions fit into 2,048, four do not; with compact positions they do."""
    with open_session(bundled) as session:
        session.see(draw(0), draw(1), draw(2))
        first = str(session.ask(QUESTIONS[0]))
        session.see(draw(3))
        with pytest.raises(InputError, match=r'use compact positions \(positions="compact", in commands --pos'):
            session.ask(QUESTIONS[1])
        assert [turn["role"] for turn in session.messages] == ["user", "assistant"]
        assert session.messages[1]["content"][0]["text"] == first
    with open_session(bundled, positions="compact") as session:
        session.see(*map(draw, range(4)))
        assert len(session.ask(QUESTIONS[1]).report.items) == 4


def test_a_failed_answer_takes_its_question_back(loaded):
    class Failing(torch.nn.Module):
        def __call__(self, ids, scores):
            raise RuntimeError("out of memory")

    with open_session(loaded) as session:
        session.see(draw(0))
        with pytest.raises(RuntimeError, match="out of memory"):
            str(session.ask(QUESTIONS[0], logits_processor=[Failing()]))
        assert session.messages == []
        again = session.ask(QUESTIONS[0], max_new_tokens=16)
        assert str(again) == answer_at_once(loaded, session.messages[:1], [draw(0)])[0]


def test_a_turn_that_is_not_remembered(loaded):
    """Its answer is that of the first turn, and the next one is, too: only the image stays."""
    with open_session(loaded) as session:
        session.see(draw(0))
        replies = [session.ask(QUESTIONS[n], max_new_tokens=16, remember=False) for n in (0, 1)]
        assert session.messages == []
        session.see(draw(1))
        replies.append(session.ask(QUESTIONS[2], max_new_tokens=16))
        for reply, number, count in zip(replies, range(3), (1, 1, 2), strict=True):
            content = [*[{"type": "image"}] * count, {"type": "text", "text": QUESTIONS[number]}]
            expected = answer_at_once(loaded, [{"role": "user", "content": content}], [draw(0), draw(1)][:count])
            assert str(reply) == expected[0]
        assert [turn["role"] for turn in session.messages] == ["user", "assistant"]
        assert [reply.known for reply in replies] == [0, 1, 1]


def test_cancelled_answers_end(loaded):
    with open_session(loaded, keep=1.0) as session:
        session.see(draw(0))
        reply = session.ask("describe the image", min_new_tokens=200, max_new_tokens=200)
        next(iter(reply))
        reply.cancel()
        text = str(reply)
        assert len(loaded.processor.tokenizer(text)["input_ids"]) < 150
        assert session.messages[-1]["content"][0]["text"] == text


def test_two_threads(loaded):
    """Both are answered, one after the other."""
    with open_session(loaded) as session:
        session.see(draw(0))
        answers = {}

        def ask(question):
            answers[question] = str(session.ask(question))

        threads = [threading.Thread(target=ask, args=(question,)) for question in QUESTIONS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        turns = [turn["content"][-1]["text"] for turn in session.messages]
        assert dict(zip(turns[::2], turns[1::2], strict=True)) == answers
        assert sorted(answers) == sorted(QUESTIONS)


def test_close_frees_everything(loaded):
    session = open_session(loaded)
    session.see(draw(0))
    reply = session.ask("describe the image", min_new_tokens=200, max_new_tokens=200)
    session.close()
    assert (session._cache.bytes, session.messages) == (0, [])
    assert len(str(reply)) < 2000
    for use in (lambda: session.see(draw(0)), lambda: session.ask("what color is the star?")):
        with pytest.raises(InputError, match="The session is closed: open a new one"):
            use()


class Held:
    """A session, and every answer beside the one without a cache to the tokens that the session kept."""

    def __init__(self, loaded, turns, **options):
        self.loaded = loaded
        self.session = open_session(loaded, turns=turns, **options)
        self.images, self.kept = [], ()

    def ask(self, question, *images, **options):
        """The reply, and the report's items of the turn before."""
        self.session.see(*images)
        self.images += images
        before, messages = self.kept, self.session.messages
        reply = self.session.ask(question, **{"max_new_tokens": 16, "do_sample": False, **options})
        content = [*[{"type": "image"}] * len(images), {"type": "text", "text": question}]
        self.messages = [*messages, {"role": "user", "content": content}]
        self.kept = reply.report.items
        return reply, before

    def answer_uncached(self):
        """To the same tokens, in the order of the prompt."""
        settings = check_settings(0.2, "foveate")
        with torch.no_grad():
            inputs = make_chat_inputs(self.loaded, self.messages, self.images)
            short = prune(self.loaded.model, inputs, settings, earlier=EarlierChoices(self.kept))
            return generate_answers(self.loaded, short, 16)[0]


@pytest.mark.parametrize("turns", ["frozen", "picture"])
def test_earlier_choices_stay_and_are_not_computed_again(loaded, turns):
    held = Held(loaded, turns, system="be short")
    with held.session:
        for number, images in enumerate(([draw(0)], [], [draw(1)], [])):
            reply, before = held.ask(QUESTIONS[number % 3], *images)
            for ours, theirs in zip(reply.report.items, before, strict=False):
                assert torch.equal(ours.kept, theirs.kept)
            assert str(reply) == held.answer_uncached()
            assert reply.cached > sum(len(item.kept) for item in before) or not before
    assert held.session._prompts.length == 0


def test_two_conversations_take_turns(loaded):
    """What one of them leaves on the model, such as the offset of Qwen's positions, changes nothing in the other."""

    def talk(*sessions):
        answers = [[] for _ in sessions]
        for turn in range(3):
            for number, session in enumerate(sessions):
                reply = session.ask(QUESTIONS[turn], max_new_tokens=8, do_sample=False)
                answers[number].append((str(reply), reply.cached > 0))
        return answers

    def start(number):
        session = open_session(loaded, turns="frozen")
        session.see(*[draw(n) for n in range(number + 1)])  # one image, and two
        return session

    alone = [talk(start(number))[0] for number in range(2)]
    assert talk(start(0), start(1)) == alone
    assert [cached for _, cached in alone[0]] == [False, True, True]


def test_a_picture_is_chosen_without_the_question(loaded):
    kept = []
    for question in QUESTIONS[:2]:
        with open_session(loaded, turns="picture") as session:
            session.see(draw(0))
            kept.append(session.ask(question).report.items[0].kept)
    assert torch.equal(*kept)
    blind = answer_at_once(loaded, session_messages(QUESTIONS[0]), [draw(0)], method=Foveate(focus=0.0))[1]
    assert torch.equal(kept[0], blind.items[0].kept)


def session_messages(question):
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]


def test_what_a_question_needs_is_added(loaded):
    held = Held(loaded, "recall")
    with held.session:
        held.ask(QUESTIONS[0], draw(0))
        reply, before = held.ask(QUESTIONS[1])
        _, chosen = answer_at_once(loaded, held.messages, [draw(0)])
        needed = set(before[0].kept.tolist()) | set(chosen.items[0].kept.tolist())
        assert set(reply.report.items[0].kept.tolist()) == needed
        assert reply.cached > len(before[0].kept)


@pytest.mark.parametrize("turns", POLICIES)
def test_a_question_after_a_cancelled_or_failed_answer(loaded, turns):
    class Failing(torch.nn.Module):
        def __call__(self, ids, scores):
            raise RuntimeError("out of memory")

    held = Held(loaded, turns)
    with held.session as session:
        reply, _ = held.ask(QUESTIONS[0], draw(0), min_new_tokens=200, max_new_tokens=200)
        next(iter(reply))
        reply.cancel()
        again, _ = held.ask(QUESTIONS[1])
        expected = held.answer_uncached() if turns != "recall" else str(again)
        assert str(again) == expected
        turn, kept = session.messages, held.kept
        with pytest.raises(RuntimeError, match="out of memory"):
            str(session.ask(QUESTIONS[2], logits_processor=[Failing()]))
        assert session.messages == turn
        held.kept = kept
        last, _ = held.ask(QUESTIONS[2])
        assert last.cached == 0  # the cache of a failed answer is given up
        assert str(last) == held.answer_uncached()


def test_a_session_under_attach(loaded):
    """Nothing is pruned twice."""
    held, plain = Held(loaded, "frozen"), Held(loaded, "frozen")
    with foveate.pruning(loaded.model, keep=0.05), held.session:
        pruned = [held.ask(QUESTIONS[0], draw(0))[0], held.ask(QUESTIONS[1])[0]]
        texts = [(str(each), each.cached) for each in pruned]
    assert texts[1][1]
    with plain.session:
        others = [plain.ask(QUESTIONS[0], draw(0))[0], plain.ask(QUESTIONS[1])[0]]
        assert texts == [(str(each), each.cached) for each in others]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turns": "last"}, "turns='last' is unknown: use one of 'rechoose', 'frozen'"),
        ({"turns": "frozen", "method": "visionzip"}, "merges dropped tokens"),
        ({"turns": "picture", "keep": "auto"}, "give a number"),
        ({"turns": "frozen", "keep": foveate.Recency()}, "Recency thins an image out once a newer one came"),
        ({"keep": 0.0}, "keep"), ({"method": "none"}, "none"), ({"positions": "new"}, "positions"),
        ({"memory": 0}, "memory=0 is not a number of at least 1"), ({"memory": 0.5}, "memory"),
        ({"memory": True}, "memory"), ({"cache_bytes": -1}, "cache_bytes"),
    ],
)  # fmt: skip
def test_wrong_settings(loaded, options, message):
    with pytest.raises(FoveateError, match=message):
        open_session(loaded, **options)


def test_wrong_images_and_questions(loaded):
    with open_session(loaded) as session:
        for wrong in ("scene.png", None, torch.zeros(3, 8, 8)):
            with pytest.raises(InputError, match="open it with PIL"):
                session.see(draw(0), wrong)
        for wrong in ("", "  ", None, 3):
            with pytest.raises(InputError, match="ask with a text"):
                session.ask(wrong)
        with pytest.raises(FoveateError, match="image"):
            session.ask(f"what {loaded.processor.image_token} is it?")
        assert (session.messages, session._shown) == ([], [])


def test_a_policy_is_for_whole_images(loaded):
    with open_session(loaded, keep=make_policy(loaded.model)) as session:
        with pytest.raises(InputError, match="A policy was calibrated on whole images"):
            session.see(draw(0), at=0.0)
        assert session.stream.times == ()


def test_images_of_any_mode(loaded):
    with open_session(loaded) as session:
        session.see(draw(0).convert("P"), Image.new("LA", (64, 48)), Image.new("I;16", (30, 30)))
        assert len(session.ask(QUESTIONS[0]).report.items) == 3
