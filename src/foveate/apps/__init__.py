"""The commands of `foveate`, one package or module each."""
