"""The tiny halves of the families that do not follow the shared conventions."""
