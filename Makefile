# The tasks of this repository. Each makes its environment first, and can be run again and again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST_TRITON := build/triton-3.6.0
DEMO := results/runs/demo-$(shell date +%Y%m%d-%H%M%S)

.DEFAULT_GOAL := help
.PHONY: help demo test check static bench report gate clean

help: ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,parquet]'
	@touch $@

$(OLDEST_TRITON)/installed: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(@D) triton==$(@D:build/triton-%=%)
	@touch $@

demo: $(VENV)/installed ## Measure a small sweep on this machine and write its report
	@$(BIN)/mlabench sweep --out $(DEMO)
	@$(BIN)/mlabench report $(DEMO)

test: $(VENV)/installed ## Run the tests
	$(BIN)/python -m pytest -n auto

check: $(VENV)/installed ## Lint, check the format and the types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

static: $(VENV)/installed $(OLDEST_TRITON)/installed ## Hold what the kernels compile to, with this Triton and the oldest, against the baselines
	@$(BIN)/mlabench gate --static
	@PYTHONPATH=$(OLDEST_TRITON) $(BIN)/mlabench gate --static

bench: $(VENV)/installed ## Time the suite itself: overhead and memory of a sweep of 500 small cases
	$(BIN)/python -m tests.bench.sweep_overhead

report: $(VENV)/installed ## Write the report of RUN (default: the newest run)
	@$(BIN)/mlabench report $(RUN)

gate: $(VENV)/installed ## Hold RUN (default: the newest run) against BASELINE (default: the committed one of the device)
	@$(BIN)/mlabench gate $(RUN) $(if $(BASELINE),--baseline $(BASELINE))

clean: ## Remove the environment and throw-away runs
	rm -rf $(VENV) build results/runs .pytest_cache .hypothesis .mypy_cache .ruff_cache
