# Two commands do all: `make paper` trades on the embedded simulator, `make test` passes the tests.
# Both build .venv from hash-locked requirements, wheels only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder  # each file as a whole, in the order of collection
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --only-binary :all:

.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-train paper test check coverage format docs simulate model-check torture portable long-session wheel bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.kernels ## build .venv with what the daemon needs to run
setup-test: $(VENV)/.kernels $(VENV)/.test ## the same, and what tests and checks need
setup-train: $(VENV)/.train ## the same, and what training needs (large)

paper: setup ## trade on the embedded simulator (Ctrl-C stops)
	@exec $(BIN)/mia-daemon --mode paper --config etc/mia.toml

test: setup-test ## run the tests
	$(BIN)/python -m pytest $(WORKERS)

check: setup-test ## lint, format, types, who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

coverage: setup-test ## which lines and branches of the trading side (risk, trading, execution, brokers, journal) its tests do not run
	$(BIN)/python -m coverage run -m pytest tests/risk tests/trading tests/execution tests/brokers tests/journal tests/test_market.py
	$(BIN)/python -m coverage report

format: setup-test ## format and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup-test ## write the documents that follow from the code
	$(BIN)/python -m docs.generate

simulate: setup-test ## simulate the daemon's trading side under faults: SEEDS=10000 FROM=0 VENUE=both, or SEED=7
	$(BIN)/python -m fault_simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),10000) --from $(or $(FROM),0)) \
		--venue $(or $(VENUE),both)

model-check: setup-test ## search what can become of an entry, its stop and its target: MINUTES=10
	$(BIN)/python -m model_check --minutes $(or $(MINUTES),10)

torture: setup-test ## kill a thousand trading daemons with kill -9 (about an hour), or KILLS=200
	KILLS=$(or $(KILLS),1000) $(BIN)/python -m pytest tests/test_kill_9.py

portable: setup-test ## replay on a generic processor and with other Pythons: PYTHONS="python3.12 python3.13" (minutes)
	PYTHONS="$(PYTHONS)" $(BIN)/python -m pytest tests/test_portable.py

long-session: setup-test ## 21 simulated hours of paper, recorded, verified, exported (minutes): HOURS=21 SPEED=120 VAR=DIR
	$(BIN)/python -m benchmarks.long_session --hours $(or $(HOURS),21) --speed $(or $(SPEED),120) $(if $(VAR),--var $(VAR))

wheel: setup-test ## build the wheel from two clones, compare them, and trade with it from an empty directory (minutes)
	WHEEL=1 $(BIN)/python -m pytest tests/test_wheel.py

bench: setup-test ## run every benchmark (minutes); figures go to the terminal
	$(BIN)/python -m benchmarks

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet

lock: ## compile the lock files anew from pyproject.toml (needs uv on the PATH)
	$(LOCK) pyproject.toml --output-file requirements/run.txt
	$(LOCK) --group build --output-file requirements/build.txt
	for extra in test train; do \
	  $(LOCK) pyproject.toml --extra $$extra --constraint requirements/run.txt --output-file requirements/$$extra.txt; done

clean: ## remove .venv and caches (not var/)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 14) else \
	  f"Python 3.11 to 3.14 is needed, {sys.executable} is {v[0]}.{v[1]}: say make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing what the daemon needs into $(VENV) ..."
	@$(PIP) -r requirements/build.txt -r requirements/run.txt
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Compiled once, found by every later start (in $$NUMBA_CACHE_DIR, else ~/.cache/mia-daemon/numba).
$(VENV)/.kernels: $(wildcard mia_daemon/features/kernels/*.py) $(VENV)/.run
	@$(BIN)/mia-daemon prepare
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	@echo "installing what tests and checks need ..."
	@$(PIP) -r requirements/test.txt
	@touch $@

$(VENV)/.train: requirements/train.txt $(VENV)/.run
	@echo "installing what training needs ..."
	@$(PIP) -r requirements/train.txt
	@touch $@
