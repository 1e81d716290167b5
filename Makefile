# make demo   set up and run the main job on the embedded model
# make test   set up and pass the tests
# make check  lint and types          make bench  benchmarks against the peers (QUICK=1: a few minutes)
# On a GPU: make test-gpu, make tune, make bench-gpu (docs/on-a-gpu.md)
# Each creates .venv with plain pip when there is none, and is quick the second time.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-gpu check bench bench-gpu tune setup clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(VENV)/.ready: pyproject.toml
	@echo "[ramify] setting up $(VENV) (once; torch first, then the rest)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[ramify]   torch ..."    && $(BIN)/pip install --quiet "torch>=2.11,<2.14"
	@echo "[ramify]   ramify and its development tools ..." && $(BIN)/pip install --quiet --editable ".[dev]"
	@mkdir -p $(VENV)/tree && ln -sfn ../.. $(VENV)/tree/ramify # where mypy finds ramify, and no other `kernels`
	@touch $@

setup: $(VENV)/.ready ## create .venv

demo: $(VENV)/.ready ## run the main job on the embedded model
	@$(BIN)/python -m ramify demo

test: $(VENV)/.ready ## the tests (a few minutes on two cores)
	@$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.ready ## the tests, the long ones included
	@$(BIN)/python -m pytest

check: $(VENV)/.ready ## lint, format and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && cd $(VENV)/tree && ../bin/mypy --config-file ../../pyproject.toml

bench: $(VENV)/.ready ## benchmarks against the peers (QUICK=1 for a few minutes)
	@$(BIN)/pip install --quiet --editable ".[bench]"
	@$(BIN)/python -m ramify.benchmarks $(if $(QUICK),--quick)

bench-gpu: $(VENV)/.ready ## benchmarks on a GPU, into docs/ (REHEARSE=1: every path without one)
	@$(BIN)/python -m ramify.benchmarks.gpu $(if $(REHEARSE),--rehearse,--publish)

tune: $(VENV)/.ready ## time the kernels' launches on the GPU here, into tuning.json
	@$(BIN)/python -m ramify.kernels.triton.tune --write

test-gpu: $(VENV)/.ready ## the tests, their engines on the GPU
	@RAMIFY_TEST_DEVICE=cuda $(BIN)/python -m pytest tests/kernels tests/runtime tests/lang

clean: ## remove what the targets made
	rm -rf $(VENV) .venvs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
