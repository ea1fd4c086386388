# One command each; `make help` lists them.
.DEFAULT_GOAL := help
BIN := .venv/bin
# Without compiled files every process of a run or a test compiles the package again.
unexport PYTHONDONTWRITEBYTECODE
TARGET ?= gpu
IMAGE ?= r1reward
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: help setup constraints run-local train-local submit test test-fast test-long test-gpu mutants check docs study-learning study-pipeline study-coverage study families miniature bench image clean

help:           ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

setup:          ## virtual environment .venv with the pinned stack (CPU, or GPU where there is one)
	docker/setup.sh

constraints:    ## constraints/cpu.txt from this environment: what a later set-up installs again
	$(BIN)/python -m tools.constraints

run-local:      ## the whole pipeline on the built-in miniature: cold start, SFT, selection, RL, evaluation
	$(BIN)/r1reward run recipes/pipeline_local.yaml

train-local:    ## RL on the built-in miniature through the whole real stack
	$(BIN)/r1reward train recipes/local.yaml

submit:         ## RECIPE=recipes/x.yaml ADDRESS=http://head:8265 [ARGS="--secret NAME key=value"]: a job of a Ray cluster
	$(BIN)/r1reward submit $(RECIPE) --address $(ADDRESS) $(ARGS)

test-fast:      ## unit and loop tests but the slow ones, one worker a core: no engine, no Ray
	$(BIN)/pytest tests/unit tests/loop -m "not slow" --numprocesses auto --dist worksteal

test: test-fast ## and with real engines; the stories of many minutes are in test-long
	$(BIN)/pytest -m "slow and not long" --numprocesses 2 --dist loadgroup

test-long:      ## what `make test` leaves out: several nodes, tensor parallelism, further kills and cases
	$(BIN)/pytest -m long

test-gpu:       ## what needs an NVIDIA GPU: packed attention, engines that sleep, a colocated run
	$(BIN)/pytest -m gpu

mutants:        ## plants faults one at a time and sees the fast tests fail on each; fills docs/tests.md
	$(BIN)/python -m tools.mutants.run --out docs/tests.md

check:          ## lint, format, types, import layers, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/unit/test_layers.py tests/unit/test_documents.py tests/unit/tools

docs:           ## pages that are made from the code: docs/settings.md, docs/metrics.md
	$(BIN)/python -m tools.settings_page
	$(BIN)/python -m tools.metrics_page

study-learning: ## three seeds of the RL run and what each learned; fills docs/learning.md
	$(BIN)/python -m studies.learning recipes/local.yaml --out docs/learning.md

study-pipeline: ## three seeds of the pipeline, hard pairs against random ones; fills docs/pipeline.md
	$(BIN)/python -m studies.pipeline recipes/pipeline_local.yaml --out docs/pipeline.md

study-coverage: ## what the intervals cover, by simulation, in minutes; fills docs/intervals.md
	$(BIN)/python -m studies.coverage --out docs/intervals.md

study:          ## StableReinforce, its parts and other algorithms under stress; fills docs/stability.md
	$(BIN)/python -m studies.stability.run recipes/studies/stability.yaml --out docs/stability.md

families:       ## a tiny model of every family on the real engines, what agrees and what not; fills docs/models.md
	$(BIN)/python -m studies.families.run --out docs/models.md

miniature:      ## rebuild the built-in miniature from nothing and check its gates
	$(BIN)/python -m tools.miniature.pretrain --out r1reward/shapes/model

bench:          ## stores (rows per second, peak memory), decontamination, predicted against real memory of a run
	$(BIN)/python benchmarks/data_store.py
	$(BIN)/python benchmarks/decontaminate.py
	$(BIN)/python benchmarks/plan_memory.py

image:          ## container image $(IMAGE):VERSION-$(TARGET); TARGET=gpu|cpu, IMAGE=registry/name
	docker build --file docker/Dockerfile --target $(TARGET) --tag $(IMAGE):$(VERSION)-$(TARGET) .

clean:          ## remove runs and caches, keep .venv
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
