#!/usr/bin/env bash
# lmms-eval scores "The answer is option C: DNA" on MMMU as option A, with the A of DNA.
#
# Package: lmms-eval 0.7.3, numpy 2.3.5 (Python 3.11)
# Guess: A reply that names one letter and repeats that option's text is that letter.
# Instead: A letter with a blank behind it counts as a choice even as the end of a word, and one with a colon
#   or a comma behind it does not. A reply without any such letter gets a letter by chance.
# Why it matters: DNA, RNA, USA, NBA, ABC and PVC are words of MMMU's subjects. Chatty models lose points at
#   them, and a pruned and an unpruned model that write the same but for a colon get different marks.
# Seen: "The answer is option C: DNA" is read as A, "The answer is option (C): DNA" as C; 400 times "unsure": A B C D
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet numpy==2.3.5
"$dir/venv/bin/pip" install --quiet --no-deps lmms-eval==0.7.3
cd "$dir"
venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import importlib.metadata
import importlib.util
import sys

path = importlib.metadata.distribution("lmms-eval").locate_file("lmms_eval/tasks/_task_utils/mmmu_mcq_utils.py")
spec = importlib.util.spec_from_file_location("mmmu", path)
mmmu = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mmmu)

texts, letters = mmmu.get_multi_choice_info(["a lipid", "a protein", "DNA", "a sugar"])


def read(reply):
    return {mmmu.parse_mmmu_multi_choice_response(reply, letters, texts) for _ in range(400)}


plain, bracket = "The answer is option C: DNA", "The answer is option (C): DNA"
if read("C") != {"C"} or read(bracket) != {"C"}:
    sys.exit("Changed: a bare letter or one in brackets is read in another way.")
if read(plain) != {"A"}:
    sys.exit(f"Changed: {plain!r} is read as {sorted(read(plain))}.")
if read("unsure") != {*letters}:
    sys.exit(f"Changed: a reply without a letter is read as {sorted(read('unsure'))}.")
print(f'"{plain}" is read as A, "{bracket}" as C; 400 times "unsure": {" ".join(letters)}')
PY
