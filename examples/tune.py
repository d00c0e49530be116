"""Tune a model with LoRA while most of its visual tokens are dropped, by TRL and PEFT.

pip install . trl peft datasets
python examples/tune.py                       # the bundled model: some minutes on one core
python examples/tune.py --keep 5 --model bundled-qwen
"""

import argparse
import random

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import foveate
import foveate.tuning
from foveate.world.drawing import draw_scene
from foveate.world.questions import make_question
from foveate.world.scenes import sample_scene


def make_row(index: int) -> dict[str, list]:
    """A drawn scene, a question about it and the answer, as TRL reads them. Put your own data here."""
    scene = sample_scene(3, index, "scene")
    question = make_question(scene, random.Random(index).choice(["existence", "counting"]), random.Random(index))
    return {
        "images": [draw_scene(scene)],
        "prompt": [{"role": "user", "content": question.text}],
        "completion": [{"role": "assistant", "content": question.answer}],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled", help="a bundled model, a hub id or a folder")
    parser.add_argument("--keep", type=int, default=16, help="the fewest visual tokens of an image")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", default="tuned", help="folder for the adapter")
    options = parser.parse_args()

    loaded = foveate.load(options.model)
    # Every batch gets one of these budgets, so that one adapter serves them all.
    foveate.attach(loaded.model, keep=[options.keep, 2 * options.keep, 4 * options.keep], seed=0)
    args = SFTConfig(
        output_dir=options.out,
        max_steps=options.steps,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        max_length=None,  # else TRL cuts prompts off, placeholders too
        bf16=False,  # set by default in TRL
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=options.steps,
        report_to=[],
    )
    trainer = SFTTrainer(
        loaded.model,
        args,
        processing_class=loaded.processor,
        peft_config=LoraConfig(target_modules="all-linear"),  # of the vision tower too: few tokens have to tell all
        train_dataset=Dataset.from_list([make_row(index) for index in range(8 * options.steps)]),
        eval_dataset=Dataset.from_list([make_row(index) for index in range(10**6, 10**6 + 16)]),
    )
    trainer.add_callback(foveate.tuning.BudgetEvaluation(trainer, [options.keep, 1.0]))
    trainer.train()
    trainer.save_model(options.out)
    print(f"foveate ask examples/scene.png 'is there a red star?' --keep {options.keep} --adapter {options.out}")


if __name__ == "__main__":
    main()
