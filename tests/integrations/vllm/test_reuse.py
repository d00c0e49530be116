"""What an image's tokens are chosen for: in the engine, and by plain loops."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from foveate.errors import FoveateError
from foveate.method import resolve
from foveate.method.blind import make_blind
from integrations.vllm.models import chat, make_image
from integrations.vllm.sides import Answer, Engine, assert_same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from prometheus_client import REGISTRY

from foveate.integrations.vllm.reuse import FirstQuestions

QUESTIONS = (
    "how many circles are there in the image answer with one word yes no what is a red square",
    "what is in the image a red square answer with one word how many circles are there yes no",
    "are there circles yes no how many answer with one word what is in the image a red square",
)


def read_choices() -> dict[str, float]:
    """The metric, as vLLM's server shows it."""
    names = ("question", "picture", "whole")
    return {name: REGISTRY.get_sample_value("foveate_choices_total", {"by": name}) or 0 for name in names}


@pytest.fixture
def counted():
    """What the metric grew by."""
    before = read_choices()
    return lambda: {name: value - before[name] for name, value in read_choices().items()}


def test_the_metric_is_the_sum_of_the_api_servers(tmp_path, monkeypatch):
    """vLLM shows the sum of its processes, which each write their counts into a folder."""
    from prometheus_client import generate_latest
    from vllm.v1.metrics.prometheus import get_prometheus_registry

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    script = "from foveate.integrations.vllm.reuse import count_choices; count_choices([[7], []], whole=False)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], check=True)
    assert len(list(tmp_path.iterdir())) == 2
    shown = generate_latest(get_prometheus_registry()).decode()
    for line in ('foveate_choices_total{by="question"} 2.0', 'foveate_choices_total{by="picture"} 2.0'):
        assert line in shown.splitlines()


def expect_blind(engine: Engine, talk: list[dict], *media: list, method: str = "foveate", **settings: object):
    """The library's answer where tokens are chosen without the question."""
    rule = resolve(method)
    return engine.reference.answer(talk, *media, method=make_blind(rule) or rule, **settings)


def test_picture_is_the_choice_without_the_question(engine, counted):
    for method in ("foveate", "cdpruner", "zspaprune", "coin", "mmtok", "grid"):
        settings = {"keep": 0.3, "method": method}
        answer = engine.answer(chat(QUESTIONS[0]), [make_image(80)], reuse="picture", **settings)
        assert_same(answer, expect_blind(engine, chat(QUESTIONS[0]), [make_image(80)], **settings))
    assert counted() == {"question": 0, "picture": 6, "whole": 0}


def count_shared(engine: Engine, answer: Answer) -> int:
    """Tokens of the whole blocks that prompts about one image begin with: words, and the kept tokens."""
    one, other = (engine.reference.ids(chat(question)) for question in QUESTIONS[:2])
    same = next(n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    kept = answer.prompt - len(engine.reference.ids(chat(QUESTIONS[-1]))) + 1  # in the place of a placeholder
    return (same - 1 + kept) // 32 * 32


def test_questions_share_the_kv_of_a_picture(engine):
    """Another question reads the KV of the image from the cache, up to its last whole block."""
    images, settings = [make_image(81)], {"keep": 0.9}
    for n, question in enumerate(QUESTIONS):
        answer = engine.answer(chat(question), images, reuse="picture", **settings)
        assert_same(answer, expect_blind(engine, chat(question), images, **settings))
        if n == len(QUESTIONS) - 1:
            assert answer.cached == count_shared(engine, answer)
        exact = engine.answer(chat(question), images, **settings)
        assert_same(exact, engine.reference.answer(chat(question), images, **settings))
        assert exact.cached == 0


def test_auto(engine, counted):
    """The first question has its own choice, also when it comes again; all others share one."""
    images, settings, encoded = [make_image(82)], {"keep": 0.9}, engine.features.encoded
    for n in (0, 1, 2, 0, 1):
        talk = chat(QUESTIONS[n])
        answer = engine.answer(talk, images, reuse="auto", **settings)
        expected = (
            expect_blind(engine, talk, images, **settings) if n else engine.reference.answer(talk, images, **settings)
        )
        assert_same(answer, expected)
    assert counted() == {"question": 2, "picture": 3, "whole": 0}
    assert engine.features.encoded == encoded + 1


def test_auto_at_once(engine):
    """Of requests that are sent together, the first one of an image has its own choice."""
    images = [[make_image(83)], [make_image(84, 90, 120)]]
    sent = [(n, chat(question)) for question in QUESTIONS for n in range(2)]
    answers = engine.answers([engine.prompt(talk, images[n], reuse="auto", keep=0.5) for n, talk in sent])
    for place, (answer, (n, talk)) in enumerate(zip(answers, sent, strict=True)):
        own = engine.reference.answer(talk, images[n], keep=0.5)
        assert_same(answer, own if place < 2 else expect_blind(engine, talk, images[n], keep=0.5))


def test_auto_in_a_chat(engine):
    """From the second turn on, all turns share one choice, and so does the KV of the chat."""
    images, talk, cached = [make_image(85)], chat(QUESTIONS[0]), []
    for turn, question in enumerate((*QUESTIONS[1:], QUESTIONS[0][::-1])):
        answer = engine.answer(talk, images, keep=0.9, reuse="auto")
        own = engine.reference.answer(talk, images, keep=0.9)
        assert_same(answer, expect_blind(engine, talk, images, keep=0.9) if turn else own)
        cached.append(answer.cached)
        talk = [*talk, {"role": "assistant", "content": "yes"}, {"role": "user", "content": question}]
    assert cached[:2] == [0, 0]
    assert cached[2] >= 32


@pytest.mark.parametrize("reuse", ["always", 1, None])
def test_what_is_no_reuse(engine, reuse):
    with pytest.raises(FoveateError, match=f"reuse={reuse!r} is unknown: use question, picture, auto"):
        engine.answer(chat(QUESTIONS[0]), [make_image(86)], reuse=reuse)


def test_a_refused_question_is_not_the_first_one(engine, counted):
    images, talk = [make_image(88)], chat(QUESTIONS[1])
    with pytest.raises(FoveateError, match="is more than the"):
        engine.answer(chat(QUESTIONS[0]), images, keep=5000, reuse="auto")
    assert_same(engine.answer(talk, images, keep=0.3, reuse="auto"), engine.reference.answer(talk, images, keep=0.3))
    assert counted() == {"question": 1, "picture": 0, "whole": 0}


def test_whole_images_are_counted(engine, counted):
    engine.answer(chat(QUESTIONS[0], 2), [make_image(87)] * 2, keep=1.0, reuse="auto")
    engine.answer(chat(QUESTIONS[0], 0), [])
    assert counted() == {"question": 0, "picture": 0, "whole": 2}


# -- the memory of first questions -------------------------------------------------------------------------------------


def ask(memory: FirstQuestions, image: str, question: tuple) -> tuple:
    chosen = tuple(memory.choose(image, question))
    memory.remember(image, chosen)
    return chosen


def test_the_first_question_of_a_known_image_is_its_own():
    draw = random.Random(6)
    memory, first = FirstQuestions(), dict[str, tuple]()
    for _ in range(2000):
        image, question = f"image {draw.randrange(20)}", tuple(draw.choices(range(3), k=draw.randrange(4)))
        if question:
            first.setdefault(image, question)
        assert ask(memory, image, question) == (question if first.get(image) == question else ())


def test_images_are_forgotten_where_there_is_no_room():
    memory = FirstQuestions(max_bytes=1000)  # two images
    for image in "abc":
        assert ask(memory, image, (1,))
    assert not ask(memory, "c", (2,))
    assert ask(memory, "a", (2,))  # forgotten: the first one again
    assert ask(memory, "a", (2,))
    assert not ask(memory, "a", (1,))
