"""An agent clicks the buttons of a drawn screen, one a step, and sees its last screenshots pruned.

python examples/agent.py                 # ten steps on the bundled model: some seconds
python examples/agent.py --keep 0.1
"""

import argparse
import random
from dataclasses import replace

from PIL import Image

import foveate
from foveate.runtime.conversation import generate_answers
from foveate.runtime.loaded import LoadedModel
from foveate.world.clip_inputs import make_history_inputs
from foveate.world.clips import SLOTS, name_cell
from foveate.world.screens import draw_shots, sample_screens

SEEN = 4  # screenshots that the model sees, the newest last


class DrawnScreen:
    """A small user interface: a click lights a button, and every third click puts the buttons elsewhere."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.screens = sample_screens(5, seed)
        self.layout = [button.places[0] for button in self.screens.buttons]
        self.layouts, self.pressed = [self.layout], [self.rng.randrange(len(self.layout))]

    def click(self, cell: str) -> int | None:
        """Click into a cell; returns the number of the button there, if there is one."""
        hit = next((n for n, place in enumerate(self.layout) if place and name_cell(place) == cell), None)
        if hit is not None:
            if len(self.pressed) % 3 == 0:
                cells = [((column + 0.5) / SLOTS, (row + 0.5) / SLOTS) for row in (1, 2) for column in range(SLOTS)]
                self.layout = self.rng.sample(cells, len(self.layout))
            self.layouts.append(self.layout)
            self.pressed.append(hit)
        return hit

    def look(self) -> list[Image.Image]:
        """Draw the last screenshots."""
        layouts, pressed = self.layouts[-SEEN:], self.pressed[-SEEN:]
        sign = self.screens.sign
        buttons = [
            replace(button, places=tuple(layout[n] for layout in layouts), texts=("",) * len(layouts))
            for n, button in enumerate(self.screens.buttons)
        ]
        sign = replace(sign, places=sign.places[:1] * len(layouts), texts=sign.texts[:1] * len(layouts))
        return draw_shots(replace(self.screens, buttons=tuple(buttons), sign=sign, pressed=tuple(pressed)))


def run_episode(loaded: LoadedModel, steps: int, keep: float, seed: int) -> int:
    """Ask for one button a step; returns how many clicks were right."""
    screen, right = DrawnScreen(seed), 0
    for step in range(steps):
        wanted = screen.rng.randrange(len(screen.layout))
        thing = screen.screens.buttons[wanted].thing
        question = f"click on the {thing.color} {thing.form}"
        inputs = make_history_inputs(loaded, [screen.look()], [question])
        short = foveate.prune_inputs(loaded.model, inputs, keep=keep, per="prompt")
        cell = generate_answers(loaded, short, 4)[0]
        hit = screen.click(cell)
        right += hit == wanted
        kept, total = short.report.kept_count, short.report.total_count
        print(f"{step + 1}. {question}: {cell}, {'right' if hit == wanted else 'wrong'}, {kept} of {total} tokens")
    print(f"{right} of {steps} clicks were right.")
    return right


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--keep", type=float, default=0.25, help="share of the tokens of all screenshots together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run_episode(foveate.load("bundled-clips"), options.steps, options.keep, options.seed)


if __name__ == "__main__":
    main()
