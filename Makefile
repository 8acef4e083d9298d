# SPDX-License-Identifier: BSD-2-Clause
# Needs Python >= 3.11 and gcc; everything else goes into .venv at the first use.

PYTHON ?= python3
PYTEST_ARGS ?=
# Files of tests side by side; what a file shares is made once for it.
JOBS ?= -n auto --maxprocesses 4 --dist loadfile

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test check fmt bench fuzz soak crash test-all compatibility clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1:\2/p' $(MAKEFILE_LIST) | \
		while IFS=: read -r target text; do printf '%-14s %s\n' "$$target" "$$text"; done

venv: $(STAMP) ## make .venv with gentee and its tools, if it is not there

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'gentee needs Python 3.11 or newer: install it, or name it with make PYTHON=...' >&2; \
		exit 1; }
	@command -v gcc >/dev/null || { \
		echo 'gentee needs gcc: on Debian or Ubuntu, apt-get install gcc libc6-dev' >&2; \
		exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null && $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo 'python3 -m venv failed: on Debian or Ubuntu, apt-get install python3-venv' >&2; \
		exit 1; }
	@echo 'Setting up $(VENV) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@# A confined service cannot keep the byte code of what it imports, and would make it anew each time.
	@$(BIN)/python -m compileall -q gentee
	@touch $@

demo: $(STAMP) ## run a TEE and a client, with a word on each step
	@$(BIN)/python examples/demo.py

test: $(STAMP) ## run all tests but those that measure
	@$(BIN)/python -m pytest -m 'not performance' $(JOBS) $(PYTEST_ARGS)

check: $(STAMP) ## format, lint, types, import order: seconds
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/style

fmt: $(STAMP) ## format the code, and mend what the linter can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## measure
	@$(BIN)/python tests/performance/bench.py

fuzz: $(STAMP) ## the fuzz tests with many more examples
	@HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/fuzz $(PYTEST_ARGS)

soak: $(STAMP) ## the tests that run for long
	@GENTEE_SOAK_SCALE=$${GENTEE_SOAK_SCALE:-1} $(BIN)/python -m pytest -s tests/soak $(PYTEST_ARGS)

crash: $(STAMP) ## end storage at every system call that writes, and damage many stores
	@GENTEE_CRASH=all $(BIN)/python -m pytest tests/crash $(JOBS) $(PYTEST_ARGS)

test-all: check test fuzz soak crash bench ## all of the above

compatibility: $(STAMP) ## write the tables of docs/abi.md and docs/compatibility.md anew
	@$(BIN)/python docs/tables.py

clean: ## remove .venv, caches and what was built
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
