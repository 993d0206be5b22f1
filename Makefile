# Everything a new user or CI needs: `make quickstart`, `make test`.
# TORCH=torch==2.13.0 pins torch; by default pip chooses it. The hosts pin different versions of
# e3nn, so each has an environment of its own: $(VENV)-mace and $(VENV)-nequip.

PYTHON ?= python3
TORCH ?= torch
VENV ?= .venv
WORKERS ?= 2
# tests to run, by their markers; MARKED= runs all of them, on a Slurm cluster of their own too
MARKED ?= not slow and not slurm
MACE := $(VENV)-mace/bin
NEQUIP := $(VENV)-nequip/bin
# one test at a time to each worker, so that none waits for another's at the end
PYTEST = -m pytest --durations=20 -n $(WORKERS) --dist=load --maxschedchunk=1 -m "$(MARKED)"

.PHONY: environment-mace environment-nequip quickstart quickstart-nequip sweep \
	test test-mace test-nequip lint readme benchmark benchmark-nequip benchmark-small \
	benchmark-report benchmark-cost benchmark-tangent benchmark-closed-form clean

# environment $(1) with the extras $(2); torch first, so that the hosts find it
define install
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mace-weak needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet "$(TORCH)"
	$(1)/bin/python -m pip install --quiet --editable ".[$(2)]" "$(TORCH)"
endef

$(MACE)/mace_run_train: setup.cfg pyproject.toml
	$(call install,$(VENV)-mace,mace$(,)longrange$(,)test$(,)dev)
	touch $@

$(NEQUIP)/nequip-train: setup.cfg pyproject.toml
	$(call install,$(VENV)-nequip,nequip$(,)allegro$(,)test)
	touch $@

, := ,

environment-mace: $(MACE)/mace_run_train
environment-nequip: $(NEQUIP)/nequip-train

quickstart: environment-mace
	$(MACE)/python -m recipes.quickstart.run

quickstart-nequip: environment-nequip
	$(NEQUIP)/python -m recipes.quickstart.run --host=nequip

# the runs that chose the default weights
ETHANOL := --train=recipes/quickstart/data/ethanol_pbe_train.xyz \
	--test=recipes/quickstart/data/ethanol_pbe_test.xyz
sweep: environment-mace
	$(MACE)/python -m recipes.quickstart.run --sweep $(ETHANOL)

lint: environment-mace
	$(MACE)/ruff check .
	$(MACE)/ruff format --check .
	$(MACE)/mypy

test: lint test-mace test-nequip

test-mace: environment-mace
	OMP_NUM_THREADS=1 $(MACE)/python $(PYTEST)

test-nequip: environment-nequip
	OMP_NUM_THREADS=1 $(NEQUIP)/python $(PYTEST)

readme: environment-mace environment-nequip
	PYTHONPATH=.:tests $(MACE)/python tests/mace/readme.py
	PYTHONPATH=.:tests $(NEQUIP)/python tests/nequip/readme.py

# some 5 minutes on two cores
benchmark-small: environment-mace
	$(MACE)/python -m recipes.benchmark.run small

# a set of cases.yaml; its table is published, and its rows there are taken as they are
SET ?= learning_rates
benchmark: environment-mace
	$(MACE)/python -m recipes.benchmark.run $(SET) --keep \
		--csv recipes/benchmark/published/$(SET).csv

benchmark-nequip: environment-nequip
	$(NEQUIP)/python -m recipes.benchmark.run $(SET) --host=nequip \
		--keep --csv recipes/benchmark/published/nequip_$(SET).csv

benchmark-report: environment-mace
	$(MACE)/python -m recipes.benchmark.report

benchmark-cost: environment-mace
	$(MACE)/python -m recipes.benchmark.step_cost

benchmark-tangent: environment-mace
	$(MACE)/python -m recipes.benchmark.tangent_cost

# from the published rows, those of SET=closed_form and of the trainings
benchmark-closed-form: environment-mace
	$(MACE)/python -m recipes.benchmark.closed_form --readme

clean:
	rm -rf $(VENV)-mace $(VENV)-nequip build *.egg-info recipes/*/results
