# Every target that runs Python first creates .venv from pyproject.toml and constraints.txt, and does so again only when
# one of them changes. `make help` lists the targets and their variables.

# These may also come from the environment; the others only from the command line, because names such as NAME are taken
# elsewhere.
PYTHON   ?= python3
PIP_ARGS ?=
RESULTS  ?= results
export RESULTS
DATASET  ?= digits
TRIALS   ?= 6
SEEDS    ?=

NAME     :=
INIT     :=
INC      :=
FROM     :=
SUITE    :=
ARGS     :=

VENV  := .venv
READY := $(VENV)/.ready
RUN   := $(VENV)/bin/python

SESSIONS := $(if $(INIT),data.init_classes=$(INIT)) $(if $(INC),data.increment=$(INC))
CAMPAIGN := --dataset "$(DATASET)" $(if $(SEEDS),--seeds $(SEEDS)) $(if $(NAME),--name "$(NAME)") $(ARGS) $(SESSIONS)

.DEFAULT_GOAL := help
.PHONY: help setup sweep train ablation data weights ui test lint format bench clean

help: ## list the targets
	@echo "make TARGET [VARIABLE=value ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "variables: DATASET=$(DATASET) TRIALS=$(TRIALS) SEEDS=3 (ablation 5) NAME= INIT= INC= ARGS=\"key=value ...\""
	@echo "           RESULTS=$(RESULTS) (also from the environment)"
	@echo "           PYTHON=$(PYTHON) (3.11 to 3.13) PIP_ARGS=\"...\" for an own package index"

setup: $(READY) ## install into .venv

sweep: $(READY) ## search, refit and test: DATASET, TRIALS, SEEDS, NAME, ARGS
	@$(RUN) -m sweeps run --trials $(TRIALS) $(CAMPAIGN)

train: $(READY) ## one training run without Ray and MLflow: DATASET, ARGS
	@$(RUN) -m safe train --dataset "$(DATASET)" $(ARGS) $(SESSIONS)

ablation: $(READY) ## the baselines beside SAFE, over SEEDS seeds: DATASET, SEEDS, ARGS
	@$(RUN) -m sweeps ablation $(CAMPAIGN)

data: $(READY) ## fetch and check a data set: DATASET, FROM=archive
	@$(RUN) -m safe.data fetch "$(DATASET)" $(if $(FROM),--from "$(FROM)") $(ARGS)
	@$(RUN) -m safe.data check "$(DATASET)" $(ARGS)

weights: $(READY) ## fetch, check and place the weights of a data set's backbone: DATASET, FROM=file
	@$(RUN) -m safe.data weights "$(DATASET)" $(if $(FROM),--from "$(FROM)") $(ARGS)

ui: $(READY) ## open the results in MLflow's UI on 127.0.0.1
	@$(RUN) -m sweeps ui $(ARGS)

test: $(READY) ## run the tests
	$(RUN) -m pytest $(ARGS)

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(READY) ## let ruff format and sort the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(READY) ## measure against the straightforward way, side by side: SUITE
	@$(RUN) -m benchmarks $(if $(SUITE),--suite "$(SUITE)") $(ARGS)

clean: ## remove .venv and caches; results and data stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "error: Python 3.11 to 3.13 is needed, this is %d.%d; choose one with PYTHON=python3.12" % v)'
	@# An environment without a working pip is what an interrupted creation leaves: it is made anew.
	@$(RUN) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "installing into $(VENV) (some minutes and about 7 GB the first time) ..."
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@
