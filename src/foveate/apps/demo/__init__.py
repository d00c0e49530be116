"""The page of `foveate demo`. It shares the worker and the generation of `foveate.apps.serve`, and needs its extra."""
