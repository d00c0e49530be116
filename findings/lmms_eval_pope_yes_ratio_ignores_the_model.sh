#!/usr/bin/env bash
# lmms-eval's yes ratio on POPE is the same for a model that always says yes and for one that always says no.
#
# Package: lmms-eval 0.7.3 (Python 3.11)
# Guess: POPE's yes ratio is the share of questions that the model answers with yes; it shows whether the model
#   leans towards yes.
# Instead: It is the share of references that are yes, whatever the model answers: 0.5 on POPE's balanced sets.
# Why it matters: The ratio is printed beside accuracy and F1 as the model's own. A pruned model that turned to
#   answering yes to everything shows the ideal 0.5, and any two models compare as equal.
# Seen: yes ratio of a model that always says yes: 0.5, always no: 0.5, always right: 0.5
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-deps lmms-eval==0.7.3
cd "$dir"
venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import importlib.metadata
import importlib.util
import sys

path = importlib.metadata.distribution("lmms-eval").locate_file("lmms_eval/tasks/pope/utils.py")
spec = importlib.util.spec_from_file_location("pope", path)
pope = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pope)

references = ["yes", "no"] * 50
models = {"yes": ["yes"] * 100, "no": ["no"] * 100, "right": references}
ratios, accuracies = {}, {}
for name, replies in models.items():
    rows = [
        pope.pope_process_results({"question_id": i, "answer": reference}, [reply])
        for i, (reference, reply) in enumerate(zip(references, replies))
    ]
    ratios[name] = pope.pope_aggregate_yes_ratio([row["pope_yes_ratio"] for row in rows])
    accuracies[name] = pope.pope_aggregate_accuracy([row["pope_accuracy"] for row in rows])
if accuracies != {"yes": 0.5, "no": 0.5, "right": 1.0}:
    sys.exit(f"Changed: the accuracies are {accuracies}.")
if set(ratios.values()) != {0.5}:
    sys.exit(f"Changed: the yes ratios are {ratios}.")
print("yes ratio of a model that always says yes: {yes}, always no: {no}, always right: {right}".format(**ratios))
PY
