# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
SHOP_NEEDS := anyio msgspec starlette jinja2 python-multipart uvicorn httpx
SHOP := PYTHONPATH=src:src/adapters .venv-demo/bin/python -m docs.examples.shop

# The tests start many Pythons, and without bytecode each of them compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

# Keeps mkdocs-material from announcing the end of its life (May 2027) and its successor at each start.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo demo-check servers test test-browser screenshots test-recipes coverage test-full test-matrix test-oldest check format bench soak docs build clean

help:           ## list the commands
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/ready: pyproject.toml constraints.txt
	./scripts/venv $(PYTHON) .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch .venv/ready

# An environment of its own, since the shop needs little of what development needs.
.venv-demo/ready: constraints.txt
	@echo "1. Making a virtual environment in .venv-demo"
	@./scripts/venv $(PYTHON) .venv-demo
	@echo "2. Installing what the shop needs: $(SHOP_NEEDS)"
	@.venv-demo/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(SHOP_NEEDS)
	@touch .venv-demo/ready

demo: .venv-demo/ready     ## start the example shop and print its URL
	@echo "3. Starting the shop"
	@$(SHOP)

demo-check: .venv-demo/ready     ## start the shop, drive it with a real client, stop it
	@echo "3. Starting the shop, and visiting it as the browsers of three people would"
	@$(SHOP) --check

servers:
	@./scripts/servers

test: .venv/ready servers     ## run every test
	$(BIN)/pytest --numprocesses auto --dist loadfile $(ARGS)

test-browser: .venv/ready     ## drive a real browser: cookies, rotation, attacks by other sites; three minutes
	@./scripts/chromium
	$(BIN)/pytest tests/browser $(ARGS)

# An environment of its own: NiceGUI and Gradio have many dependencies, and Gradio needs older versions of some.
.venv-recipes/ready: pyproject.toml constraints-recipes.txt
	./scripts/venv $(PYTHON) .venv-recipes
	.venv-recipes/bin/pip install --quiet --disable-pip-version-check --constraint constraints-recipes.txt --editable '.[recipes,test]' gradio nicegui playwright
	@touch .venv-recipes/ready

test-recipes: .venv-recipes/ready     ## run the recipes for other libraries, NiceGUI (in Chromium) and Gradio included
	@./scripts/chromium .venv-recipes
	.venv-recipes/bin/pytest tests/recipes $(ARGS)

screenshots: .venv/ready     ## take the shop's pictures for README and docs with a real browser
	@./scripts/chromium
	$(BIN)/pytest tests/browser/test_shop_pages.py -k picture --screenshots docs/images

coverage: .venv/ready servers     ## run every test and measure which branches they reach: twice the time
	$(BIN)/pytest --numprocesses auto --dist loadfile --cov $(ARGS)

test-full: .venv/ready servers     ## run every test at its full numbers: a few hours
	SESSIONCORE_TEST_FULL=1 $(BIN)/pytest --numprocesses auto --dist loadfile --timeout 7200 $(ARGS)

test-matrix: .venv/ready servers     ## run the Redis tests on Redis 6.2 and Valkey 9, and every test on Python 3.12 to 3.15, 3.14t and 3.15t
	$(BIN)/python scripts/test_matrix.py servers pythons -- $(ARGS)

test-oldest: .venv/ready servers     ## run every test with the oldest dependencies that are supported
	$(BIN)/python scripts/test_matrix.py oldest -- $(ARGS)

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

soak: .venv/ready servers     ## ten minutes of mixed traffic with faults: nothing grows, nothing is lost
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.soak $(ARGS)

docs: .venv/ready     ## build the documentation into site/, and check its links and its API pages
	$(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m scripts.check_site site

build: .venv/ready     ## build the wheel and check that it holds the four packages and nothing else
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python scripts/check_wheel.py dist

clean:     ## remove what the commands above made
	rm -rf .venv .venv-demo .venv-recipes .matrix dist site .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
