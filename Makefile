# `make demo` and `make test` do all set-up themselves, in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-lmms check format train clean

demo: .venv/ready
	$(BIN)/foveate ask examples/scene.png "what color is the star?" --keep 0.1 --overlay kept.png

test: check
	$(BIN)/python -m pytest
	$(MAKE) test-lmms

# The plug-in for lmms-eval, through its own evaluator; apart, since lmms-eval wants much that nothing else here needs.
test-lmms: .venv/lmms/ready
	PYTHONPATH=.venv/lmms $(BIN)/python -m pytest -W ignore tests/test_lmms.py

.venv/lmms/ready: .venv/ready tests/lmms-requirements.txt
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/lmms --requirement tests/lmms-requirements.txt
	touch $@

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: .venv/ready
	$(BIN)/python -m foveate.world.train --model llava --out runs/world
	$(BIN)/python -m foveate.world.train --model qwen --out runs/world

# torch first and by itself, so that nothing else chooses its version.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv kept.png
