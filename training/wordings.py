"""Many wordings of the world's questions, so that the model learns the question and not its form."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from foveate.world.plain_questions import Question

WORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"is there (an? .+)\?", (
        "can you see {0} in the image?", "does the picture show {0}?", "is {0} in this picture?",
        "do you see {0}? answer yes or no.", "tell me whether there is {0}.", "does {0} appear here?",
    )),
    (r"what color is the (.+)\?", (
        "what is the color of the {0}?", "which color does the {0} have?", "the {0} has what color?",
        "name the color of the {0}.", "tell me the {0}'s color.", "in which color is the {0} drawn?",
    )),
    (r"what shape is the (.+)\?", (
        "what is the shape of the {0}?", "which shape does the {0} have?", "what is the {0}?",
        "name the shape of the {0}.", "which kind of shape is the {0}?", "the {0} is what shape?",
    )),
    (r"is the (.+?) (left of|right of|above|below) the (.+)\?", (
        "is the {0} to be seen {1} the {2}?", "does the {0} lie {1} the {2}?", "would you say the {0} is {1} the {2}?",
        "is it true that the {0} is {1} the {2}?",
    )),
    (r"what (color|shape) is the object (.+)\?", (
        "what is the {0} of the object {1}?", "name the {0} of the object that is {1}.",
        "there is one object {1}. what is its {0}?",
    )),
    (r"how many (.+) are there\?", (
        "how many {0} does the picture show?", "what is the number of {0}?", "count the {0}.",
        "how many {0} can you see?", "tell me how many {0} are in the image.",
    )),
    (r"(?:what does the (.+) say\?|read the (.+))", (
        "what is written on the {0}?", "which text is on the {0}?", "read what the {0} says.",
        "what text does the {0} show?", "please read the {0}.",
    )),
    (r"where is the (.+)\?", (
        "in which cell is the {0}?", "give the cell of the {0}.", "locate the {0}.", "where can I find the {0}?",
    )),
    (r"what is the most common (color|shape)\?", (
        "which {0} is the most common?", "which {0} comes most often?", "which {0} do most objects have?",
    )),
    (r"which number stands right of the (.+)\?", (
        "what number is beside the {0}?", "read the number next to the {0}.", "the {0} has which number?",
    )),
    (r"what is the (\w+)\?", (
        "give the {0}.", "which {0} is written here?", "tell me the {0}.", "what does it say for the {0}?",
    )),
    (r"what is the (\w+) of (.+)\?", (
        "give the {0} of {1}.", "tell me the {0} of {1}.", "read the {0} of {1}.", "which {0} does {1} have?",
    )),
    (r"which shop is this receipt from\?", ("what is the name of the shop?", "where was this bought?")),
    (r"what is in the (\w+) field\?", (
        "what does the {0} field say?", "read the {0} field.", "which text is in the field {0}?",
    )),
    (r"is (.+) ticked\?", ("is the box of {0} ticked?", "is {0} turned on?", "has {0} been chosen?")),
    (r"which (bar|part) is the (largest|smallest)\?", (
        "name the {1} {0}.", "what is the {1} {0}?", "which {0} has the {1} value?",
    )),
    (r"does the line of (.+) rise or fall\?", (
        "is it rise or fall for the line of {0}?", "how does the line of {0} go, rise or fall?",
    )),
)  # fmt: skip
PLAIN = 0.4  # share of the questions that keep the world's own words


def reword(question: Question, rng: random.Random) -> Question:
    """Ask the same in other words, in most cases, and begin with a capital letter, in half of them."""
    text = question.text
    if rng.random() > PLAIN:
        for pattern, forms in WORDINGS:
            if match := re.fullmatch(pattern, text):
                text = rng.choice(forms).format(*(part for part in match.groups() if part is not None))
                break
    return replace(question, text=text[0].upper() + text[1:] if rng.random() < 0.5 else text)
