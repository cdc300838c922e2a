# The targets people use; `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run test lint setup ui lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## set up .venv from requirements.lock

# --no-deps: the lock file is the whole tree, so nothing is resolved anew.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

run: $(READY) ## run what is not up to date: data, training, attacks, report, registry; then the summary
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	@$(BIN)/ddm summary

test: $(READY) ## run the tests
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest

lint: $(READY) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(READY) ## open the MLflow user interface on http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

lock: ## resolve requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra development --python $(PYTHON) --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --output-file requirements.lock
	sed -i 's/+cpu$$//' requirements.lock

clean: ## remove everything that the pipeline made; .venv stays
	rm -rf data models results reports build
