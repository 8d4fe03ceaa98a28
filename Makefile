# make reproduce: every figure and the table of claims.   make test: the tests.   make test-all: the slow ones too.
# Each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reproduce test test-all check
reproduce: .venv/installed
	$(BIN)/python -m experiments

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
