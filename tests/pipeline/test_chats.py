"""The question in the prompts of published chat templates, against marks made by hand (`chat_corpus`)."""

from dataclasses import dataclass

import pytest

from chat_corpus import CONVERSATIONS, PublishedConfig, read_templates
from foveate.models.template import default_template
from foveate.pipeline.question import find_question
from foveate.runtime.chat_template import read_chat_template

TEMPLATES = read_templates()


def strip(text):
    """Without blanks, which are no words."""
    return "".join(text.split())


@dataclass(frozen=True)
class Reading:
    """What was read in one prompt, and what its author marked."""

    name: str
    tokens: str
    marked: str
    doubt: str

    @property
    def is_exact(self):
        return strip(self.tokens) == strip(self.marked)


def read_corpus(make_template):
    readings = []
    for published in TEMPLATES:
        template = make_template(published)
        for conversation in CONVERSATIONS:
            if published.is_for(conversation):
                ids = published.render(conversation)
                image = ids.index(published.image_id())
                dialog = template.split(ids, image, [token == published.image_id() for token in ids])
                tokens = published.tokenizer.decode([ids[c] for c in dialog.find_question()])
                name = f"{published}: {conversation['name']}"
                readings.append(Reading(name, tokens, conversation["question"], dialog.doubt))
    return readings


def describe(readings):
    return "\n".join(f"{reading.name}: {reading.tokens!r}, not {reading.marked!r}" for reading in readings)


def test_the_corpus_is_large():
    assert len(TEMPLATES) >= 40
    assert len({str(published) for published in TEMPLATES}) == len(TEMPLATES)
    for conversation in CONVERSATIONS:
        assert sum(published.is_for(conversation) for published in TEMPLATES) >= 5, conversation["name"]


def test_marks_are_the_users_words():
    """The question is spelled in a message of the user, and nowhere else."""
    for conversation in CONVERSATIONS:
        messages = conversation["messages"]
        said = [strip("".join(part.get("text", "") for part in message["content"])) for message in messages]
        marked = strip(conversation["question"])
        places = [n for n, words in enumerate(said) if words.replace("OPEN", "").replace("CLOSE", "") == marked]
        assert [messages[n]["role"] for n in places] == ["user"], conversation["name"]
        later = [message for message in messages[places[0] + 1 :] if message["role"] == "user"]
        assert not any(part["type"] == "text" for message in later for part in message["content"])


def test_learned_templates_are_read_exactly():
    """At least 99 % of all prompts; where it is not exact, a warning says so."""
    readings = read_corpus(lambda published: read_chat_template(published))
    wrong = [reading for reading in readings if not reading.is_exact]
    assert len(wrong) <= 0.01 * len(readings), describe(wrong)
    assert not [reading for reading in wrong if not reading.doubt], describe(wrong)
    assert sum(bool(reading.doubt) for reading in readings) <= 0.01 * len(readings)


def test_ids_alone_are_read_exactly_or_with_a_warning():
    """Without the template at least 95 % of the prompts are exact or warned of."""
    readings = read_corpus(lambda published: default_template(PublishedConfig(published), published.stop_ids()))
    silent = [reading for reading in readings if not reading.is_exact and not reading.doubt]
    assert len(silent) <= 0.05 * len(readings), describe(silent)
    assert sum(reading.is_exact for reading in readings) >= 0.4 * len(readings)


@pytest.mark.parametrize("learn", [True, False], ids=["learned", "ids alone"])
def test_padding_that_ends_generation_changes_nothing(learn):
    for published in TEMPLATES[::4]:
        plain = default_template(PublishedConfig(published), published.stop_ids())
        template = read_chat_template(published) if learn else plain
        for conversation in CONVERSATIONS[:6]:
            if published.is_for(conversation):
                ids, pads = published.render(conversation), published.stop_ids()[:1] * 3
                image = ids.index(published.image_id())
                hidden = [token == published.image_id() for token in ids]
                alone = find_question(ids, image, template, hidden)
                left = find_question(pads + ids, image + 3, template, [True] * 3 + hidden)
                right = find_question(ids + pads, image, template, hidden + [True] * 3)
                assert [column - 3 for column in left] == right == alone
