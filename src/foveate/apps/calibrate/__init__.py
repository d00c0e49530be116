"""Calibrate a policy on questions, and audit one on others: `foveate calibrate`, `foveate audit`."""
