"""The page of `foveate demo`, on the worker and the answers of `foveate.apps.serve`; it needs the serve extra."""
