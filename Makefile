# `make test` and `make demo` each work as the first command ever run on a machine
# with Python >= 3.11, make and PyPI: the stamp file below is their only set-up.

PYTHON ?= python3
VENV ?= .venv
UV ?= uv==0.12.24
PYTEST_ARGS ?=
# Two tests at a time, one thread each; those of one file share what they set up.
SUITE = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report= $(PYTEST_ARGS)

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := protocol modify_fl style_provider content_client
SOURCES := $(shell find $(PACKAGES) tests -name '*.py' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help install test test-slow check demo golden dist lock format clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

install: $(STAMP)  ## create .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("make: Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '$(UV)'
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps -e .
	touch $@

test: $(STAMP)  ## run every test but the slow ones and record coverage
	$(SUITE)

test-slow: $(STAMP)  ## run the slow tests: mutants and kills by the thousand
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# Coverage comes from `make test`; the suite runs again only where its data is missing or older than the sources.
.coverage: $(SOURCES) | $(STAMP)
	$(SUITE)

check: $(STAMP) .coverage  ## lint, types, layers, coverage thresholds, help texts and reference
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/coverage report --include='protocol/*' --fail-under=100
	$(BIN)/coverage report --fail-under=90
	$(BIN)/python tests/golden/help.py --check

demo: $(STAMP)  ## keygen, package, trust, adapt, stylize on a small scale; prints the path of a page
	$(BIN)/python examples/demo.py --out demo

golden: $(STAMP)  ## write the --help texts of tests/golden and docs/reference anew
	$(BIN)/python tests/golden/help.py

dist: $(STAMP)  ## build sdist and wheel into dist/, after trying the wheel where the repository is not
	$(BIN)/python -m pytest -m slow tests/test_packaging.py
	$(BIN)/uv build --quiet --out-dir dist .

lock:  ## resolve the dependencies of pyproject.toml anew
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '$(UV)'
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --extra dev \
	  --no-header --no-annotate pyproject.toml --output-file requirements.lock

format: $(STAMP)  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the targets wrote, the environment included
	rm -rf $(VENV) demo build dist htmlcov .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
