# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo demo-check test test-full check format bench docs build clean

help:           ## list the commands
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch .venv/ready

demo: .venv/ready     ## start the example shop and print its URL
	$(BIN)/python -m docs.examples.shop

demo-check: .venv/ready     ## start the shop, drive it with a real client, stop it
	$(BIN)/python -m docs.examples.shop --check

servers:
	@./scripts/servers

test: .venv/ready servers     ## run every test, with coverage
	$(BIN)/pytest --numprocesses auto --dist loadfile --cov $(ARGS)

test-full: .venv/ready servers     ## run every test at its full numbers: some hours
	SESSIONCORE_TEST_FULL=1 $(BIN)/pytest --numprocesses auto --dist loadfile --timeout 7200 $(ARGS)

check: .venv/ready     ## lint, format, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python scripts/verify_types.py
	$(BIN)/lint-imports

format: .venv/ready     ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready     ## measure beside the peers; `make bench ARGS=--quick` for two minutes; instructions: `python -m benchmarks.instructions`
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/ready     ## build the documentation into site/
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict --quiet

build: .venv/ready     ## build the wheel and compare its packages with the four that are meant
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python scripts/check_wheel.py dist

clean:     ## remove what the commands above made
	rm -rf .venv dist site .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
