# Everything a new user or CI needs: `make quickstart`, `make test`.
# TORCH=torch==2.13.0 pins torch; by default pip chooses it.

PYTHON ?= python3
TORCH ?= torch
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: environment quickstart sweep test lint readme benchmark-activation clean

# torch first, so that the hosts find it
$(BIN)/mace_run_train: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mace-weak needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[mace,test,dev]" "$(TORCH)"
	touch $@

environment: $(BIN)/mace_run_train

quickstart: environment
	$(BIN)/python recipes/quickstart/run.py

sweep: environment
	$(BIN)/python recipes/quickstart/run.py --sweep

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal

readme: environment
	PYTHONPATH=recipes/quickstart $(BIN)/python tests/mace/readme.py

benchmark-activation: environment
	$(BIN)/python recipes/benchmark/activation_cost.py

clean:
	rm -rf $(VENV) build *.egg-info recipes/*/results
