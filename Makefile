# `make demo` and `make test` need nothing but Python >= 3.11 and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Made anew when the dependencies change.
READY := $(VENV)/.ready

# Environment of the graph: `make viz ENV=sample` previews what `make demo` has made.
ENV ?= local

.PHONY: demo test soak lint docs viz viz-static clean

demo: $(READY) ## Train three models on the embedded data and compare them (under three minutes)
	$(BIN)/kedro run --env=sample

test: $(READY) ## Run all tests; COVERAGE=1 measures, too, how much of the code they reach
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal \
		$(if $(COVERAGE),--cov --cov-report=term --cov-fail-under=90)

soak: $(READY) ## Damage files and kill pipelines at random for ten minutes (docs/faults.md)
	$(BIN)/python benchmarks/soak.py damage
	$(BIN)/python benchmarks/soak.py interrupt

lint: $(READY) ## Check style, types and the doors between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY) ## Write docs/parameters.md from the typed parameters
	$(BIN)/python -m docs.parameters

viz: $(READY) ## Open the graph of the pipelines in the browser
	$(BIN)/kedro viz run --env=$(ENV)

viz-static: $(READY) ## Make a web site of the graph, with previews, in build/
	rm -rf build
	KEDRO_ENV=$(ENV) $(BIN)/kedro viz build --include-previews

clean: ## Remove the virtual environment and everything the embedded data made
	rm -rf $(VENV) data/sample

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
