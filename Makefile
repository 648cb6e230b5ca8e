# Everything needs Python 3.11 or later and make; nothing else by hand. `make help` lists the recipes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
SAMPLE := docs/samples/users.csv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint format types imports bench fire fuzz samples reference clean

help:  ## list the recipes
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.cli  ## install the command line, run the main job on the sample data, and a sync that is killed and goes on
	@$(BIN)/aiobatch demo $(SAMPLE)

test: $(VENV)/.test  ## run the whole suite with coverage
	@$(PYTEST) --cov $(ARGS)

test-all: $(VENV)/.test  ## run the long form of the suite: more examples, long sweeps, every chaos case in its short form
	@$(PYTEST) --sweep --cov $(ARGS)

lint: $(VENV)/.dev  ## check style and formatting with ruff
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: $(VENV)/.dev  ## let ruff mend what it can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: $(VENV)/.dev  ## check types with mypy, strictly, tests included
	@$(BIN)/mypy

imports: $(VENV)/.dev  ## check the import contract of setup.cfg
	@$(BIN)/lint-imports --no-cache --no-logo

bench: $(VENV)/.bench  ## measure, side by side with what a user would pick instead
	@$(BIN)/python -m benchmarks $(ARGS)

fire: $(VENV)/.test  ## put it under fire: hostile networks, disks and machines; writes docs/reliability.md
	@$(BIN)/python -m pytest tests/chaos --fire $(ARGS)

fuzz: $(VENV)/.test  ## feed every parser and the sandbox with any bytes, for minutes rather than seconds
	@AIOBATCH_FUZZ_EXAMPLES=300 $(BIN)/python -m pytest tests/fuzz tests/openapi $(ARGS)

samples:  ## make the sample data anew
	@$(PYTHON) docs/samples/make_samples.py

reference: $(VENV)/.cli  ## make the reference of the command line and the schemas anew
	@$(BIN)/python docs/reference/make_reference.py

clean:  ## remove the virtual environment and everything made by tools
	@rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .*_cache
	@find aiobatch tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each extra that is installed, and for those that it holds.
HOLDS.test := cli
HOLDS.dev := bench cli test

$(VENV)/.%: setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing aiobatch-client[$*] into $(VENV)" >&2
	@$(PIP) install --editable '.[$*]'
	@touch $@ $(HOLDS.$*:%=$(VENV)/.%)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "aiobatch needs Python 3.11 or later: make PYTHON=python3.11 …")'
	@$(PYTHON) -m venv $(VENV)
