# Every target that runs Python first creates .venv from pyproject.toml and constraints.txt, and does so again only when
# one of them changes. `make help` lists the targets and their variables.

# These may also come from the environment; the others only from the command line, because names such as NAME are taken
# elsewhere.
PYTHON   ?= python3
PIP_ARGS ?=
RESULTS  ?= results
export RESULTS
DATASET  ?= quickstart
TRIALS   ?=
SEEDS    ?=

NAME           :=
SPACE          :=
SEARCH         :=
SELECTION      :=
EVALUATE_ON    :=
MAX_SESSIONS   :=
STOP           :=
LEARN_FROM     :=
ORDERS         :=
SETTINGS       :=
ID             :=
FINALISTS      :=
RACE_SESSIONS  :=
MAX_HOURS      :=
CONCURRENCY    :=
GPUS_PER_TRIAL :=
TRIAL_TIMEOUT  :=
CLUSTER        :=
WORKERS        :=
GPU            :=
INIT           :=
INC            :=
FROM           :=
A              :=
B              :=
TO             :=
MODEL          :=
IMAGES         :=
SUITE          :=
CONFIG         :=
AUTH           :=
ARGS           :=

# Make takes every NAME=value, and one that no recipe reads would be ignored: another data set would be swept. What programs
# read from the environment may stand here too.
KNOWN   := $(shell sed -n 's/^\([A-Z_]*\) *[?:]=.*/\1/p; /^ARGS /q' $(firstword $(MAKEFILE_LIST)))
FOREIGN := SHELL MAKEFLAGS COLUMNS NO_COLOR GPU_MODE SAFE_% RAY_% MLFLOW_% CUDA_% HF_% OMP_% PIP_% PYTHON%
GIVEN   := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN := $(firstword $(filter-out $(KNOWN) $(FOREIGN) -%,$(GIVEN)))
NEAREST := import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1, 0.5))
NEAR    := $(if $(UNKNOWN),$(shell "$(PYTHON)" -c '$(NEAREST)' "$(UNKNOWN)" $(KNOWN)))
$(if $(UNKNOWN),$(error unknown variable $(UNKNOWN)$(if $(NEAR),: did you mean $(NEAR)?,.) `make help` lists them))

# Commands that are printed for a person are then those of make.
export CALLED_BY_MAKE := 1

VENV  := .venv
READY := $(VENV)/.ready
RUN   := $(VENV)/bin/python

NAMED    := $(if $(NAME),"$(NAME)")
SESSIONS := $(if $(INIT),data.init_classes=$(INIT)) $(if $(INC),data.increment=$(INC))
STUDY := --dataset "$(DATASET)" $(if $(SEEDS),--seeds $(SEEDS)) $(if $(NAME),--name "$(NAME)") \
  $(if $(CONCURRENCY),--concurrency $(CONCURRENCY)) $(ARGS) $(SESSIONS)
SWEEP := $(if $(TRIALS),--trials $(TRIALS)) $(if $(SPACE),--space "$(SPACE)") $(if $(SEARCH),--search $(SEARCH)) \
  $(if $(SELECTION)$(EVALUATE_ON),--selection $(or $(SELECTION),transfer)) \
  $(if $(EVALUATE_ON),--evaluate-on "$(EVALUATE_ON)") $(if $(MAX_SESSIONS),--max-sessions $(MAX_SESSIONS)) \
  $(if $(MAX_HOURS),--max-hours $(MAX_HOURS)) $(if $(GPUS_PER_TRIAL),--gpus-per-trial $(GPUS_PER_TRIAL)) \
  $(if $(TRIAL_TIMEOUT),--trial-timeout $(TRIAL_TIMEOUT)) $(if $(STOP),--stop "$(STOP)") $(if $(LEARN_FROM),--learn-from "$(LEARN_FROM)") \
  $(if $(FINALISTS),--finalists $(FINALISTS)) \
  $(if $(RACE_SESSIONS),--race-sessions $(RACE_SESSIONS))
# A cluster of containers needs Docker alone, so its commands run in any Python. A Ray that is there already (RAY_ADDRESS,
# also from the environment) is spoken to by the project's own.
ON_RAY  := $(if $(CLUSTER),,$(filter-out local,$(RAY_ADDRESS)))
SUBMIT  := $(RUN) -m sweeps.cluster.submit
SWEEPS  := $(if $(CLUSTER),"$(PYTHON)" -m sweeps.cluster submit,$(if $(ON_RAY),$(SUBMIT) $(if $(WORKERS),--workers $(WORKERS)),$(RUN) -m sweeps))
ASK     := $(if $(CLUSTER),"$(PYTHON)" -m sweeps.cluster,$(if $(ON_RAY),$(SUBMIT),$(RUN) -m sweeps))
PREPARE := $(if $(CLUSTER),,$(READY))
CLUSTER_RUN := "$(PYTHON)" -m sweeps.cluster

.DEFAULT_GOAL := help
.PHONY: help setup sweep resume stop add drop list show export plan train ablation orders variants audit-claim report compare predict serve data weights ui deliver replay doctor \
  cluster-up cluster-status cluster-logs cluster-stop cluster-down test-cluster test-faults test-browser test-readme audit test lint format docs bench clean

help: ## list the targets
	@echo "make TARGET [VARIABLE=value ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "variables: DATASET=$(DATASET) TRIALS=8 SEEDS=3 (ablation and variants 5) NAME= RESULTS=$(RESULTS)"
	@echo "           SEARCH=staged|tpe|random|grid SPACE=file SELECTION=holdout|first-k|transfer|test EVALUATE_ON="
	@echo "           MAX_SESSIONS= MAX_HOURS= STOP= FINALISTS= RACE_SESSIONS= CONCURRENCY= GPUS_PER_TRIAL= TRIAL_TIMEOUT= CONFIG= ARGS=\"key=value --flag ...\""
	@echo "           PYTHON=$(PYTHON) (3.11 to 3.13) PIP_ARGS=\"...\" for an own package index"

setup: $(READY) ## install into .venv

sweep: $(PREPARE) ## search, refit and test: DATASET, TRIALS, SEEDS, NAME; CLUSTER=1 hands it to the cluster
	@$(SWEEPS) run $(SWEEP) $(STUDY)

resume: $(READY) ## go on with a sweep where it ended, and try again what failed: NAME (default: the newest)
	@$(RUN) -m sweeps resume $(NAMED) $(ARGS)

stop: $(READY) ## stop a running sweep in order; it can be continued: NAME (default: the newest)
	@$(RUN) -m sweeps stop $(NAMED) $(ARGS)

add: $(PREPARE) ## a trial of your own for a sweep, running or not: NAME (default: the newest), SETTINGS="key=value ..."
	@$(ASK) add $(NAMED) $(SETTINGS) $(ARGS)

drop: $(PREPARE) ## end a trial of a sweep in order; it is not chosen: NAME (default: the newest), ID
	@$(ASK) drop $(NAMED) $(ID) $(ARGS)

list: $(READY) ## the sweeps there are
	@$(RUN) -m sweeps list $(ARGS)

show: $(READY) ## what a sweep gave: NAME (default: the newest)
	@$(RUN) -m sweeps show $(NAMED) $(ARGS)

export: $(READY) ## the chosen configuration as YAML for make train ARGS="--config FILE": NAME (default: the newest)
	@$(RUN) -m sweeps export $(NAMED) $(ARGS)

plan: $(READY) ## what a sweep will cost, before anything runs: the variables of sweep
	@$(RUN) -m sweeps plan $(SWEEP) $(STUDY)

train: $(READY) ## one training run without Ray and MLflow: DATASET, ARGS
	@$(RUN) -m safe train --dataset "$(DATASET)" $(ARGS) $(SESSIONS)

ablation: $(PREPARE) ## SAFE beside baselines and bounds, on the test images: DATASET, SEEDS
	@$(SWEEPS) ablation $(STUDY)

orders: $(READY) ## how much of a chosen configuration's spread is the order of the classes: NAME, ORDERS
	@$(RUN) -m sweeps orders $(NAMED) $(if $(ORDERS),--orders $(ORDERS)) $(ARGS)

variants: $(PREPARE) ## the choices that the method leaves open, on the holdout: DATASET, SEEDS
	@$(SWEEPS) variants $(STUDY)

audit-claim: $(READY) ## a published configuration beside selection by test and an honest search: CONFIG, SPACE, the variables of sweep
	@$(RUN) -m sweeps audit-claim --config "$(CONFIG)" $(SWEEP) $(STUDY)

report: $(READY) ## one HTML page about a sweep: NAME (default: the newest)
	@$(RUN) -m sweeps report $(NAMED) $(ARGS)

compare: $(READY) ## two sweeps side by side, one HTML page: A, B
	@$(RUN) -m sweeps compare "$(A)" "$(B)" $(ARGS)

predict: $(READY) ## predict images with the registered model of a data set: DATASET or MODEL, IMAGES
	@$(RUN) -m sweeps predict --model "$(or $(MODEL),models:/safe-$(DATASET)@champion)" $(IMAGES) $(ARGS)

serve: $(READY) ## answer requests for predictions on 127.0.0.1 with the same model: DATASET or MODEL
	@$(RUN) -m sweeps serve --model "$(or $(MODEL),models:/safe-$(DATASET)@champion)" $(ARGS)

data: $(READY) ## fetch and check a data set: DATASET, FROM=archive
	@$(RUN) -m safe.data fetch "$(DATASET)" $(if $(FROM),--from "$(FROM)") $(ARGS)
	@$(RUN) -m safe.data check "$(DATASET)" $(ARGS)

weights: $(READY) ## fetch, check and place the weights of a data set's backbone: DATASET, FROM=file
	@$(RUN) -m safe.data weights "$(DATASET)" $(if $(FROM),--from "$(FROM)") $(ARGS)

ui: $(READY) ## open the results in MLflow's UI on 127.0.0.1: NAME (default: the newest); AUTH=1 asks for a password
	@$(RUN) -m sweeps ui $(NAMED) $(if $(AUTH),--auth) $(ARGS)

deliver: $(READY) ## bring to MLflow what it does not have yet: NAME
	@$(RUN) -m tracking deliver $(NAMED) $(ARGS)

replay: $(READY) ## write the whole history of a sweep to another MLflow: NAME, TO=uri
	@$(RUN) -m tracking replay "$(NAME)" --to "$(TO)" $(ARGS)

doctor: $(READY) ## whether this machine can run a sweep: DATASET
	@$(RUN) -m sweeps doctor $(ARGS)

cluster-up: ## build and start Ray, MLflow and PostgreSQL in containers: WORKERS, GPU=1
	@$(CLUSTER_RUN) up $(if $(WORKERS),--workers $(WORKERS)) $(if $(GPU),--gpu) $(ARGS)

cluster-status: ## containers, memory, sweeps
	@$(CLUSTER_RUN) status $(ARGS)

cluster-logs: ## follow a sweep in the cluster, or all containers: NAME
	@$(if $(ON_RAY),$(SUBMIT),$(CLUSTER_RUN)) logs $(NAMED) $(ARGS)

cluster-stop: ## end a sweep in the cluster in order; the same NAME continues it: NAME
	@$(if $(ON_RAY),$(SUBMIT),$(CLUSTER_RUN)) stop "$(NAME)" $(ARGS)

cluster-down: ## take the containers away; data stays, ARGS=-v wipes it
	@$(CLUSTER_RUN) down $(ARGS)

test-cluster: $(READY) ## test the cluster with real containers; needs Docker
	CLUSTER_TESTS=1 $(RUN) -m pytest -n 0 -s -v tests/cluster $(ARGS)

test-faults: $(READY) ## kill, interrupt and break real sweeps and compare their end; needs Linux and an idle machine
	FAULT_TESTS=1 $(RUN) -m pytest -n 0 tests/interrupted $(ARGS)

test-browser: $(READY) ## look at MLflow's pages and the report in a headless Chromium; needs chromedriver
	BROWSER_TESTS=1 $(RUN) -m pytest -n 0 tests/browser $(ARGS)

test-readme: $(READY) ## run what README and docs show, in a fresh clone and a bare shell; some twenty minutes
	README_TESTS=1 $(RUN) -m pytest -n 0 tests/readme $(ARGS)

# Without --strict, packages that were not found would pass for sound.
audit: ## look up the pinned packages among known weaknesses; needs the network
	@test -x $(VENV)/audit/bin/pip-audit || { "$(PYTHON)" -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) pip-audit; } || { echo "error: pip-audit cannot be installed here (is a package index reachable?); nothing was audited" >&2; exit 1; }
	@$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off $(ARGS) || { echo "error: weaknesses are listed above; or, if it says that a package was not found or a service cannot be reached, nothing was audited: try on a machine with access" >&2; exit 1; }

test: $(READY) ## run the tests
	$(RUN) -m pytest $(ARGS)

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(READY) ## let ruff format and sort the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(READY) ## build the documentation into build/docs
	@$(RUN) -c "import material" 2>/dev/null || $(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt --editable ".[docs]"
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet
	@echo "docs: build/docs/index.html"

bench: $(READY) ## measure against the straightforward way, side by side: SUITE
	@$(RUN) -m benchmarks $(if $(SUITE),--suite "$(SUITE)") $(ARGS)

clean: ## remove .venv and caches; results and data stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "error: Python 3.11 to 3.13 is needed, this is %d.%d; choose one with PYTHON=python3.12" % v)'
	@# An environment without a working pip is what an interrupted creation leaves: it is made anew.
	@$(RUN) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "installing into $(VENV) (some minutes and about 7 GB the first time) ..."
	@# Not --quiet, which would show nothing for minutes and hide why versions conflict.
	$(RUN) -m pip install --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt --editable '.[sweeps,dev]'
	@touch $@
