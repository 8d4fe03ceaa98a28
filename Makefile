# make reproduce: the core figures and their claims, in at most five minutes.   make reproduce-all: all of them.
# make test: the tests.   make test-all: the slow ones too.
# make coverage: both, and which lines of ssm/ none of them runs.   make check: linters and types.
# Each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reproduce reproduce-all test test-all coverage check
reproduce: .venv/installed
	$(BIN)/python -m experiments --core

reproduce-all: .venv/installed
	$(BIN)/python -m experiments

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(MEASURED)

test-all: test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow $(MEASURED)

# The two add to one file, of which the report is made; it fails below the share of lines that pyproject.toml names.
coverage: .venv/installed
	mkdir -p build
	rm -f build/coverage*
	$(MAKE) test-all MEASURED="--cov --cov-append --cov-report= --cov-fail-under=0"
	$(BIN)/python -m coverage report

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
