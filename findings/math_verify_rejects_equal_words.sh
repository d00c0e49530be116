#!/usr/bin/env bash
# A reply that equals the reference is judged wrong when it is a word or a bare option letter.
#
# Package: math-verify 0.9.0 (Python 3.11)
# Guess: verify(parse(x), parse(x)) is true for every x: equal text is equal, and mathematics widens that.
# Instead: "yes", "B" and "red" parse to an empty list without a warning, and two empty lists are not equal. A
#   number in a sentence is the last one, so "5 of the 12 cars" is 12.
# Why it matters: This is the usual judge and reward for visual mathematics. Yes/no and multiple-choice rows of
#   a mixed set get reward 0 whatever the model says, which looks like a model that cannot learn them.
# Seen: each text against itself: {'12': True, '1/3': True, '$x^2$': True, 'yes': False, 'B': False, 'red':
#   False}; '5 of the 12 cars' is 5: False, is 12: True
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet math-verify==0.9.0
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir" TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import sys
from math_verify import parse, verify

texts = ["12", "1/3", "$x^2$", "yes", "B", "red"]
seen = {text: verify(parse(text), parse(text)) for text in texts}
count = verify(parse("5"), parse("5 of the 12 cars")), verify(parse("12"), parse("5 of the 12 cars"))
if not all(seen[text] for text in texts[:3]):
    sys.exit(f"Changed: equal mathematics is judged {seen}.")
if any(seen[text] for text in texts[3:]) or count != (False, True):
    sys.exit(f"Changed: equal words are judged {seen}, the count {count}.")
print(f"each text against itself: {seen}; '5 of the 12 cars' is 5: {count[0]}, is 12: {count[1]}")
PY
