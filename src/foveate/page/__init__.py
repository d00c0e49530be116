"""The page of `foveate demo`. It stands on the worker and the answers of `foveate.serve`; so it needs its extra."""
