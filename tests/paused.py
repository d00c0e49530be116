"""`foveate`, but every answer stops at its 100th token while a file exists.  usage: paused.py FILE COMMAND ..."""

import sys
import time
from pathlib import Path

from foveate.apps import cli
from foveate.apps.serve.generation import StopWhen

PAUSE_TOKEN = 100
pause = Path(sys.argv.pop(1))


class PausedStopWhen(StopWhen):
    calls = 0

    def __call__(self, input_ids, scores, **more):
        self.calls += 1
        while self.calls == PAUSE_TOKEN and pause.exists() and not self.condition():
            time.sleep(0.01)
        return super().__call__(input_ids, scores, **more)


if __name__ == "__main__":
    from foveate.apps.serve import generation

    generation.StopWhen = PausedStopWhen
    cli.main()
