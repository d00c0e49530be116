"""Do the policies that come with the package keep their promise on the test split? Writes results/audits/MODEL.json.

python benchmarks/audits.py --model bundled-qwen --tasks all
python benchmarks/audits.py --model bundled --tasks plain,crowd
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from foveate.apps.calibrate.audit import audit
from foveate.apps.evaluate.examples import sample_examples
from foveate.apps.evaluate.settings import parse_method
from foveate.policy.shipped import find_shipped
from foveate.runtime.load import load, quiet

RESULTS = Path(__file__).parent / "results" / "audits"


def main() -> None:
    """Audit the policy of one model, without and with a retry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tasks", default="plain")
    parser.add_argument("--limit", type=int, default=100, help="questions of each task")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with quiet():
        loaded = load(options.model)
    policy = find_shipped(loaded.model)
    examples = sample_examples(options.tasks.split(","), "test", options.limit, 2)
    record = {
        name: audit(loaded, examples, each, parse_method(each.method), batch=20).to_record()
        for name, each in (("policy", policy), ("with a retry", policy.with_retry()))
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.model}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
