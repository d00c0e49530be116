"""Public benchmarks through lmms-eval, beside the numbers that papers print."""
