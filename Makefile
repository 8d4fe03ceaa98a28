# make reproduce: the core figures and their claims, in at most five minutes.   make reproduce-all: all of them.
# make test: the tests.   make test-all: the slow ones too.
# make explorer: the page that `ssm explore` opens, which needs Node.js.
# make coverage: the quick ones, and which lines of ssm/ none of them runs.   make test-slow: the slow ones alone.   make check: linters and types.
# make docs: the documentation, into build/docs/html.
# All but explorer set up .venv first, with what they need themselves.   make environment: at once with what all of them need.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reproduce reproduce-all test test-slow test-all explorer coverage check docs environment
reproduce: .venv/installed
	$(BIN)/python -m experiments --core

reproduce-all: .venv/installed
	$(BIN)/python -m experiments

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(MEASURED)

# Those that run for longer than they compile are compiled as users have them, by processes of their own.
test-slow: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not long"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

test-all: test
	$(MAKE) test-slow

explorer:
	cd explorer && npm ci --no-fund --no-audit && npm run build

# The quick tests alone are measured, which costs them some third more time: they run all but some 2 % of the lines. It fails
# below the share of lines that pyproject.toml names.
coverage: .venv/installed
	mkdir -p build
	rm -f build/coverage*
	$(MAKE) test MEASURED="--cov --cov-append --cov-report= --cov-fail-under=0"
	$(BIN)/python -m coverage report

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# A warning is an error, of a link within the site too; nothing comes from the network. Notebooks are kept executed.
docs: .venv/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -d build/docs/doctrees -b html docs build/docs/html
	@echo "open build/docs/html/index.html"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# One installation takes less time than three, and compiling what is installed is most of it, which pip does on one core. As with pip,
# a file that cannot be compiled is left to whoever imports it.
environment: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev,docs]'
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	touch .venv/installed .venv/installed-dev .venv/installed-docs
