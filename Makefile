# Needs Python 3.11+ with venv and pip, and the network; nothing else. `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# `make TORCH_BACKEND=cpu setup` takes torch's CPU build, where its index can be reached: 3 GB less. Its files have other
# hashes, so it has a lock of its own, which the first set-up writes.
TORCH_BACKEND ?=
LOCK := requirements$(if $(TORCH_BACKEND),-$(TORCH_BACKEND)).lock
BACKEND_OPTION := $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))
STATE ?= .state/up
PORT ?= 8000
ARGS ?=

READY := $(VENV)/.ready

.PHONY: help setup demo up test test-slow check bench chaos docs lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

setup: $(READY)  ## make .venv with the pinned packages

# Packages first, each by the hashes of the lock; then the project, which has none.
# $(READY) is written last, so that an interrupted set-up starts again; a second `make` finds it and goes straight on.
$(READY): $(LOCK) pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python $(BACKEND_OPTION) --require-hashes --constraint $(LOCK) \
		--requirements pyproject.toml --all-extras
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --build-constraints $(LOCK) --editable .
	touch $@

$(BIN)/uv:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\]$$/p' requirements.lock | $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --requirement /dev/stdin

COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(BACKEND_OPTION) --output-file $(LOCK)

requirements-%.lock: | $(BIN)/uv
	$(COMPILE)

demo: $(READY)  ## start everything, encrypt, attack, print the table beside the paper's, stop
	@$(BIN)/python examples/demo.py $(ARGS)

up: $(READY)  ## start everything and keep it running (STATE=DIR PORT=N)
	$(BIN)/unveil local --state $(STATE) --port $(PORT)

test: $(READY)  ## run the tests (ARGS='-k name' for some)
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(READY)  ## run the slow tests: fresh installs, clients, notebooks, upgrades, long trainings, kill sweeps
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(READY)  ## ruff, mypy and the layers of the imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## benchmarks: ratios against named peers
	$(BIN)/python -m benchmarks $(ARGS)

chaos: $(READY)  ## kill workers and servers at random under load and check that nothing is lost
	$(BIN)/python -m benchmarks.chaos $(ARGS)

docs: $(READY)  ## write docs/reference from the code
	$(BIN)/python -m docs.generate

lock: | $(BIN)/uv  ## pin the newest versions that pyproject.toml allows, by hash
	$(COMPILE) --upgrade

clean:  ## remove the environment, caches and local state
	rm -rf $(VENV) .state .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis
