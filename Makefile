# minimoe: `make lab` opens the course, `make test` checks everything, `make help` lists all targets.
#
# Most targets first bring .venv up to date (scripts/set_up.py), which takes a moment if it is.
#   TORCH="..."      arguments of `pip install` for torch; by default scripts/choose_torch.py selects the build
#   PYTHON=...       Python for .venv (3.11 or newer)
#   LAB_FLAGS="..."  flags for JupyterLab, such as --no-browser; VOILA_FLAGS the same for `make explorer`
#   WORKERS=...      number of test processes (2)

.DEFAULT_GOAL := setup
SHELL := /bin/sh
TORCH ?=
LAB_FLAGS ?=
VOILA_FLAGS ?=
WORKERS ?= 2
# The first one that starts and is new enough; otherwise python3, for the error message of set_up.py.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; exit; fi; done; echo python3)
# Relative on purpose: the path of a checkout may contain spaces.
VENV := .venv/bin/python
START := $(if $(wildcard notebooks/00_start_here.ipynb),notebooks/00_start_here.ipynb,README.md)
# JupyterLab refuses to run as root without this flag; Voila, behind `make explorer`, does not.
ALLOW_ROOT := $(if $(filter 0,$(shell id -u 2>/dev/null)),--allow-root)
PYTEST := $(VENV) -m pytest -n $(WORKERS) --dist loadfile
# Each cell is compared with its stored output; `loadfile` keeps the cells of one notebook in one process.
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=120 --nbval-sanitize-with=tests/nbval_sanitize.cfg

export TORCH

.PHONY: setup lab explorer test quick processors lint library lessons browser bench lock clean help

setup: ## install everything into .venv, unless it is up to date
	@$(PYTHON) scripts/set_up.py

lab: setup ## open the course in JupyterLab
	$(if $(ALLOW_ROOT),@echo "You are root: JupyterLab is started with $(ALLOW_ROOT).")
	@$(VENV) -m minimoe.course.exercise_copies
	@$(VENV) -m jupyterlab $(ALLOW_ROOT) "--LabApp.app_settings_dir=$(CURDIR)/scripts/lab_settings" \
		"--LabApp.default_url=/lab/tree/$(START)" $(LAB_FLAGS)

explorer: setup ## open the routing explorer as a page
	@JUPYTER_PATH="$(CURDIR)" $(VENV) -m voila voila/explorer.ipynb --template=minimoe \
		--VoilaConfiguration.extension_denylist=jupyterlab-jupytext $(VOILA_FLAGS)

# One thread for each test process, and no spinning while waiting.
test quick lint library lessons: export OMP_WAIT_POLICY = passive
test quick library lessons: export OMP_NUM_THREADS = 1

test: lint ## check everything: style, types, floors, library, lessons, browser
	$(PYTEST) $(NBVAL) tests $(wildcard notebooks exercises)
	$(VENV) scripts/processors.py --quick

processors: setup ## tests and lessons that depend on the processor, on every instruction set it can simulate
	$(VENV) scripts/processors.py

quick: setup ## style, types, and the tests of the files that have changed (under a minute)
	@$(VENV) scripts/quick.py

lint: setup ## style, types, and imports between folders
	$(VENV) -m ruff check .
	$(VENV) -m mypy
	@$(VENV) -c "from importlinter.cli import lint_imports_command as lint; lint()"

library: setup ## the tests of the library, browser tests included
	$(PYTEST) tests

lessons: setup ## lessons and exercises: run every cell, compare with the stored outputs
	$(PYTEST) $(NBVAL) -p tests.conftest $(wildcard notebooks exercises)

browser: ## install Chromium for the browser tests
	@$(if $(wildcard $(VENV)),$(VENV),$(PYTHON)) scripts/install_browser.py

bench: setup ## measure speed and the cost of recording
	$(VENV) -m benchmarks

lock: ## resolve requirements.lock again from pyproject.toml
	$(PYTHON) scripts/lock.py

clean: ## remove .venv and all caches
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## list all targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12
