"""How right an answer is: the usual metrics of visual question answering, by name.

Each takes an answer and the references, and returns a score from 0 to 1, a bool where there is nothing between.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

from foveate.errors import InputError

Metric = Callable[[str, Sequence[str]], float]

NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)")
LETTER_FIRST = re.compile(r"\W*([A-Z])(?:\W|$)")
LETTER_NAMED = re.compile(r"(?:answer|option|choice)(?:\s+is)?\s*:?\s*\W?([A-Z])\b|\(([A-Z])\)", re.IGNORECASE)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(WORDS)} | {"none": "0"}
ARTICLES = {"a", "an", "the"}
TOLERANCE, THRESHOLD = 0.05, 0.5
VQA_MATCHES, VQA_LEAST = 3, 4  # so many others must agree; with fewer references none could be right


def match_exact(answer: str, references: Sequence[str]) -> bool:
    """The answer is a reference, apart from case, extra blanks and a final full stop."""
    return _normalize(answer) in {_normalize(text) for text in references}


def match_contained(answer: str, references: Sequence[str]) -> bool:
    """A reference occurs in the answer, as whole words."""
    text = _normalize(answer)
    return any(re.search(rf"(?<!\w){re.escape(_normalize(each))}(?!\w)", text) for each in references if each.strip())


def match_number(answer: str, references: Sequence[str], tolerance: float = TOLERANCE) -> bool:
    """The last number of the answer is that of a reference, within `tolerance` of its size; other references exactly.

    The relaxed accuracy of ChartQA (arXiv 2203.10244), where the tolerance is 0.05.
    """
    number = read_number(answer)
    for reference in references:
        target = read_number(reference, whole=True)
        if target is None:
            if match_exact(answer, [reference]):
                return True
        elif number is not None and abs(number - target) <= tolerance * abs(target):
            return True
    return False


def read_number(text: str, *, whole: bool = False) -> float | None:
    """The last number in a text, or of a text that is `whole` one (with a currency or a unit of percent); else None."""
    if whole and not re.fullmatch(rf"\s*[$€£]?\s*{NUMBER.pattern}\s*[%.]?\s*", text):
        return None
    numbers = [each for each in NUMBER.findall(text) if each]
    return float(numbers[-1].replace(",", "").replace("\u2212", "-")) if numbers else None


def score_anls(answer: str, references: Sequence[str]) -> float:
    """Average normalized Levenshtein similarity, ANLS (arXiv 1905.13648): the best of the references.

    1 - d / n, where d is the edit distance and n the length of the longer text; 0 where d / n is 0.5 or more.
    """
    scores = []
    for reference in references:
        one, two = " ".join(answer.lower().split()), " ".join(reference.lower().split())
        share = count_edits(one, two) / max(len(one), len(two), 1)
        scores.append(1 - share if share < THRESHOLD else 0.0)
    return max(scores, default=0.0)


def count_edits(one: str, two: str) -> int:
    """The Levenshtein distance: insertions, deletions and replacements of single characters."""
    row = list(range(len(two) + 1))
    for i, left in enumerate(one, start=1):
        above, row[0] = row[0], i
        for j, right in enumerate(two, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (left != right))
    return row[-1]


def match_choice(answer: str, references: Sequence[str]) -> bool:
    """The letter of a multiple choice: at the start of the answer, behind "answer is", or in brackets.

    A reference is a letter ("B"), or a letter with its text ("B. red"), of which either is right.
    """
    for reference in references:
        head = re.fullmatch(r"\W*([A-Z])(?:[.):\s]+(.*))?\W*", reference.strip(), re.DOTALL)
        if match_exact(answer, [reference]) or (head and head[2] and match_exact(answer, [head[2]])):
            return True
        if head and read_letter(answer) == head[1]:
            return True
    return False


def read_letter(answer: str) -> str | None:
    """The letter that an answer chooses, None without one."""
    first = LETTER_FIRST.match(answer)
    named = LETTER_NAMED.findall(answer)
    if named:
        return "".join(named[-1]).upper()
    return first[1] if first and not re.match(r"\W*A\s+[a-z]", answer) else None  # "A red car" chooses nothing


def score_vqa(answer: str, references: Sequence[str]) -> float:
    """VQA accuracy (arXiv 1505.00468): min(agreeing references / 3, 1), the mean over all ways to leave one out.

    Without case, punctuation and articles, numbers up to ten as digits.
    """
    answer = _simplify(answer)
    equal = [answer == _simplify(text) for text in references]
    return sum(min((sum(equal) - one) / VQA_MATCHES, 1.0) for one in equal) / len(equal)


METRICS: dict[str, Metric] = {
    "exact": match_exact,
    "contains": match_contained,
    "numeric": match_number,
    "anls": score_anls,
    "choice": match_choice,
    "vqa": score_vqa,
}


def choose_metric(name: str, tolerance: float | None = None) -> Metric:
    """The metric of this name; a `tolerance` is for numeric. Raises `InputError` for another name or tolerance."""
    if name not in METRICS:
        raise InputError(f"There is no metric {name!r}: use one of {', '.join(METRICS)}.")
    if tolerance is None:
        return METRICS[name]
    if name != "numeric" or not 0 <= tolerance < 1:
        raise InputError(f"--tolerance {tolerance} is a share of the number, from 0 to below 1, for --metric numeric.")
    return partial(match_number, tolerance=tolerance)


def check_references(name: str, counts: Sequence[int]) -> None:
    """Raise `InputError` where questions have too few references for the metric: `counts` of each question."""
    if name == "vqa" and min(counts) < VQA_LEAST:
        raise InputError(
            f"VQA accuracy needs {VQA_LEAST} references or more (usually ten), and a question has {min(counts)}: "
            "use another metric."
        )


def _normalize(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(".").strip()


def _simplify(text: str) -> str:
    """Lower case without punctuation and articles, with numbers as digits."""
    bare = re.sub(r"(?<=\d),(?=\d)", "", text.lower())
    bare = re.sub(r"(?<!\d)\.|\.(?!\d)|['\u2019]", "", bare)
    words = re.sub(r"[^\w\s.:-]", " ", bare).split()
    return " ".join(DIGITS.get(word, word) for word in words if word not in ARTICLES)
