"""Trains the bundled models from nothing on drawn scenes. Not part of the package: run it from a clone."""
