# All that is needed is make, git and Python 3.11 or newer; `make` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/stamp
# Programs of the environment come first: protoc looks for its plugins on PATH, tests start programs by name.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"
# Passed on to the program that a target runs: make test ARGS="-k hub", make demo ARGS="--blocks-per-second 5".
ARGS ?=
# The Python to set up with; without it, the first of these that will do.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
WILL_DO := import ensurepip, sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help demo test check coverage chaos faults bench format generate clean

help: ## list the targets
	@echo "make TARGET [ARGS=...] [PYTHON=...]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 18

demo: $(STAMP) ## run everything on a simulated chain and say where to look
	@$(RUN) exec $(BIN)/theblock-bridge demo $(ARGS)

test: $(STAMP) ## run all tests
	@$(RUN) $(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## style, types, layers, proto files, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code
	@echo "$(BIN)/python proto/generate.py --check"
	@$(RUN) $(BIN)/python proto/generate.py --check 2>$(VENV)/generate.log || { cat $(VENV)/generate.log >&2; exit 1; }

coverage: $(STAMP) ## the tests of bridge/core must take every branch of it
	@$(RUN) $(BIN)/python -m pytest tests/core --cov=bridge.core --cov-report=term-missing --cov-fail-under=100 $(ARGS)

chaos: $(STAMP) ## kill, stall, cut and damage real processes, and judge what every client gets
	@$(RUN) $(BIN)/python -m tests.chaos $(ARGS)

faults: $(STAMP) ## plant one mistake after the other in a copy, and see that each is found
	@$(RUN) $(BIN)/python -m tests.faults $(ARGS)

bench: $(STAMP) ## measure everything; make bench-fanout, one thing (ARGS=--help says what there is)
	@$(RUN) $(BIN)/python -m tests.bench $(ARGS)

bench-%: $(STAMP)
	@$(RUN) $(BIN)/python -m tests.bench $* $(ARGS)

format: $(STAMP) ## put Python and proto files into shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/buf format -w

generate: $(STAMP) ## make generated/ from the proto files
	$(RUN) $(BIN)/python proto/generate.py

clean: ## remove everything that make has made
	rm -rf $(VENV) .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@python=; for name in $(PYTHONS); do \
	    if "$$name" -c '$(WILL_DO)' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "theblock-bridge needs Python 3.11 or newer with venv, which is none of: $(PYTHONS)." \
	        "Name one with PYTHON=/path/to/python3 (on Debian and Ubuntu, venv is the package python3-venv)." >&2; \
	    exit 1; \
	fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    echo "Setting up $(VENV) with $$("$$python" --version)"; \
	    rm -rf $(VENV); \
	    "$$python" -m venv $(VENV); \
	fi
	@echo "Installing theblock-bridge and what it needs into $(VENV) (a minute or so, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
