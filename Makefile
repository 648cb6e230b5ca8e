# You need Python 3.11 or later and make. `make help` lists the recipes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Exact versions of all dependencies. Leave it empty, and the newest versions are installed.
LOCK := constraints.txt
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
INSTALL := $(if $(LOCK),PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK)) $(PIP) install $(if $(LOCK),,--upgrade --upgrade-strategy eager)
# Docker images set it. Without bytecode, each of the many processes of the suite would compile the package.
unexport PYTHONDONTWRITEBYTECODE
# Many tests wait for servers and timers, so three processes keep two cores busy.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(max(2, (os.cpu_count() or 1) * 3 // 2))')
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
SAMPLE := docs/samples/users.csv
# The Airflow provider is a distribution of its own. Airflow's dependencies need an environment of their own.
PROVIDER := providers/airflow
AIRFLOW := .venv-airflow
# So do those of the orchestrators that the recipes of docs/howto are for.
RECIPES := .venv-recipes
# The tests of sources that need a library which the extra `test` does not install.
LIBRARIES := tests/sync/sources/lakes tests/sync/sources/test_arrow_objects.py
# Spark is large, so its tests have an environment of their own as well.
SPARK := .venv-spark

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-latest test-airflow test-recipes test-spark lint format types imports bench chaos fuzz simulate docs pictures samples reference lock clean

help:  ## list the recipes
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.cli  ## run the main job on the sample data, then a sync that is killed and resumed
	@$(BIN)/aiobatch demo $(SAMPLE)

test: $(VENV)/.test  ## run the test suite
	@$(PYTEST) $(ARGS)

test-all: $(VENV)/.test  ## run the long form of the suite, with coverage: more examples, long sweeps
	@$(PYTEST) --sweep --cov $(ARGS)

test-latest:  ## run the suite with the newest dependencies, in .venv-latest
	@rm -f .venv-latest/.test
	@$(MAKE) --no-print-directory test VENV=.venv-latest LOCK=

test-airflow: $(AIRFLOW)/.test  ## check and test the Airflow provider, in .venv-airflow
	@[ ! -e $< ] || { cd $(PROVIDER) && ../../$(AIRFLOW)/bin/mypy && ../../$(AIRFLOW)/bin/python -m pytest $(ARGS); }

test-recipes: $(RECIPES)/.test  ## run the recipes of docs/howto, and sources of other libraries, in .venv-recipes
	@[ ! -e $< ] || $(RECIPES)/bin/python -m pytest --sweep $(or $(ARGS),tests/recipes $(LIBRARIES))

test-spark: $(SPARK)/.test  ## test syncs from DataFrames of Spark, in .venv-spark
	@[ ! -e $< ] || $(SPARK)/bin/python -m pytest --sweep $(or $(ARGS),tests/spark)

lint: $(VENV)/.dev  ## check style and formatting with ruff
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: $(VENV)/.dev  ## format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: $(VENV)/.dev  ## check types with mypy, tests included
	@$(BIN)/mypy

imports: $(VENV)/.dev  ## check the import contract of setup.cfg
	@$(BIN)/python -c 'from importlinter.cli import lint_imports_command as run; run(["--no-cache", "--no-logo"])'

bench: $(VENV)/.bench  ## measure aiobatch beside its alternatives; writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/.test  ## run the chaos suite; writes docs/reliability.md
	@$(BIN)/python -m pytest tests/chaos --chaos $(ARGS)

fuzz: $(VENV)/.test  ## feed arbitrary bytes to every parser and to the sandbox, for minutes
	@AIOBATCH_FUZZ_EXAMPLES=300 $(BIN)/python -m pytest --sweep tests/fuzz tests/openapi $(ARGS)

docs: $(VENV)/.docs  ## build the documentation site into build/site
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/site

simulate: $(VENV)/.test  ## simulate processes that share a state on object storage: 10,000 seeds
	@$(BIN)/python -m tests.sync.simulation $(ARGS)

pictures: $(VENV)/.docs  ## draw the pictures of the documentation again
	@$(BIN)/python docs/pictures/make_pictures.py

samples:  ## write the sample data again
	@$(PYTHON) docs/samples/make_samples.py

reference: $(VENV)/.cli  ## write the command reference and the schemas again
	@$(BIN)/python docs/reference/make_reference.py

lock: $(VENV)/.lock  ## write constraints.txt: the newest versions that fit every extra on Python 3.11 and later
	@echo 'setuptools>=77' | $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
		--no-annotate --custom-compile-command 'make lock' --output-file constraints.txt setup.cfg - >/dev/null
	@echo 'setuptools>=77' | $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
		--no-annotate --no-emit-package aiobatch-client --custom-compile-command 'make lock' \
		--output-file $(PROVIDER)/constraints.txt $(PROVIDER)/pyproject.toml - >/dev/null

clean:  ## remove the virtual environments and everything that tools wrote
	@rm -rf $(VENV) .venv-latest $(AIRFLOW) $(RECIPES) $(SPARK) build dist *.egg-info .coverage .hypothesis .*_cache
	@find aiobatch tests benchmarks docs providers -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp file for each installed extra, and for the extras that it includes.
INCLUDES.bench := cli
INCLUDES.test := cli
INCLUDES.dev := bench cli docs frames lock test

$(VENV)/.%: setup.cfg pyproject.toml $(LOCK) | $(BIN)/python
	@echo "Installing aiobatch-client[$*] into $(VENV)" >&2
	@$(INSTALL) --editable '.[$*]'
	@touch $@ $(INCLUDES.$*:%=$(VENV)/.%)

# Airflow is large and pins much. Where it cannot be installed, its tests are skipped with one line.
$(AIRFLOW)/.test: setup.cfg $(PROVIDER)/pyproject.toml $(PROVIDER)/constraints.txt
	@echo "Installing airflow-provider-batchcom[test] into $(AIRFLOW)" >&2
	@rm -f $@
	@$(PYTHON) -m venv $(AIRFLOW)
	@PIP_CONSTRAINT=$(PROVIDER)/constraints.txt $(AIRFLOW)/bin/python -m pip --quiet --disable-pip-version-check --no-input \
		install --editable . --editable '$(PROVIDER)[test]' >$(AIRFLOW)/install.log 2>&1 && touch $@ || \
		echo "test-airflow: skipped, because Airflow cannot be installed. See $(AIRFLOW)/install.log" >&2

$(RECIPES)/.test: setup.cfg tests/recipes/requirements.txt
	@echo "Installing the recipes' packages into $(RECIPES)" >&2
	@rm -f $@
	@$(PYTHON) -m venv $(RECIPES)
	@$(RECIPES)/bin/python -m pip --quiet --disable-pip-version-check --no-input \
		install --editable '.[test]' --requirement tests/recipes/requirements.txt >$(RECIPES)/install.log 2>&1 && touch $@ || \
		echo "test-recipes: skipped, because a package cannot be installed. See $(RECIPES)/install.log" >&2

$(SPARK)/.test: setup.cfg $(LOCK)
	@echo "Installing aiobatch-client[spark,test] into $(SPARK)" >&2
	@rm -f $@
	@$(PYTHON) -m venv $(SPARK)
	@$(if $(LOCK),PIP_CONSTRAINT=$(LOCK)) $(SPARK)/bin/python -m pip --quiet --disable-pip-version-check --no-input \
		install --editable '.[spark,test]' >$(SPARK)/install.log 2>&1 && touch $@ || \
		echo "test-spark: skipped, because Spark cannot be installed. See $(SPARK)/install.log" >&2

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "aiobatch needs Python 3.11 or later: make PYTHON=python3.11 …")'
	@$(PYTHON) -m venv $(VENV)
