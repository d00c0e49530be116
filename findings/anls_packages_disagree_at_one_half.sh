#!/usr/bin/env bash
# Two packages for ANLS give 0 and 0.5 to the same answer.
#
# Package: anls 0.0.2 and anls-star 1.0.1 (Python 3.11)
# Guess: ANLS with its threshold of 0.5 is one formula: two packages give one number.
# Instead: At a similarity of exactly one half anls gives 0 and anls-star 0.5. Short answers land there all the
#   time: one of two characters, two of four. Over all two-digit readings with one wrong digit the means are 0
#   and 0.5.
# Why it matters: Table numbers, page numbers and sizes are two or four characters long. A DocVQA result that
#   was scored with one package cannot be set beside a result of the other, though both call it ANLS at 0.5.
# Seen: 81 two-digit readings, one digit wrong: anls 0.0, anls-star 0.5
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet anls==0.0.2 anls-star==1.0.1
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir" TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import sys
from anls import anls_score
from anls_star import anls_score as anls_star_score

pairs = [(str(gold), str(gold + 1)) for gold in range(10, 99) if gold % 10 < 9]
first = sum(anls_score(reply, [gold]) for gold, reply in pairs) / len(pairs)
second = sum(anls_star_score(gold, reply) for gold, reply in pairs) / len(pairs)
if anls_score("42", ["42"]) != 1 or anls_star_score("42", "42") != 1:
    sys.exit("Changed: an equal answer does not score 1.")
if (first, second) != (0, 0.5):
    sys.exit(f"Changed: one wrong digit of two scores {first} and {second}.")
print(f"{len(pairs)} two-digit readings, one digit wrong: anls {first}, anls-star {second}")
PY
