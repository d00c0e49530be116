"""`foveate serve`, an OpenAI-compatible server. Needs the extra `foveate[serve]`."""
