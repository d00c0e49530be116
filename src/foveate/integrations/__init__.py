"""foveate inside other people's programs: vLLM and lmms-eval."""
