# make demo    the main job on real examples        make test        the tests, but for those that take ten seconds or more
# make check   format, lint, types, imports, docs   make test-long   those
# make bench   the figures in benchmarks/
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-long check fix bench peers clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first: its version decides which torchvision goes with it
$(VENV)/.torch: constraints.txt | $(VENV)/bin/python
	$(INSTALL) torch torchvision
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt $(VENV)/.torch
	$(INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.torch
	$(INSTALL) -e '.[dev]'
	$(INSTALL) --no-deps resemblyzer==0.1.4
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.dev
	$(INSTALL) -e '.[bench]'
	@touch $@

PEERS := .venv-peers
PEERS_PIP := $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check

# torch with its torchvision first
$(PEERS)/.done: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS_PIP) torch==2.13.0 torchvision==0.28.0
	$(PEERS_PIP) -r benchmarks/peers/requirements.txt
	@touch $@

peers: $(PEERS)/.done

demo: $(VENV)/.demo
	$(BIN)/python demo/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not long'

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks demo docs
	$(BIN)/ruff check src tests benchmarks demo docs
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

fix: $(VENV)/.dev
	$(BIN)/ruff format src tests benchmarks demo docs
	$(BIN)/ruff check --fix src tests benchmarks demo docs
	$(BIN)/python docs/generate.py

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/against_by_hand.py
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/cut_speed.py
	$(BIN)/python benchmarks/rungs.py --table
	$(BIN)/python benchmarks/judgement/growth.py --table
	$(BIN)/python benchmarks/judgement/trust.py --table
	$(BIN)/python benchmarks/judgement/decisions.py --table
	$(BIN)/python benchmarks/soak/deadlines.py --table
	$(BIN)/python benchmarks/soak/kill_a_fit.py --table

clean:
	rm -rf $(VENV) $(PEERS) demo-data
