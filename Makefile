# make run    sets up and brings the flights example up        make test   sets up and runs the tests
# make check  style, types, import rule                        make servers installs what needs root (Slurm, Kubernetes, ...)
# make bench  one table: what, ours, peer, ratio, bar          make soak   long kill sweeps
.PHONY: run test check servers bench soak
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

run: .venv/.ready
	$(BIN)/python examples/flights/fetch.py
	$(BIN)/python tools/demo.py examples/flights

test: .venv/.ready-test
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: .venv/.ready-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

servers:
	tools/servers.sh

bench: .venv/.ready-test
	$(BIN)/python examples/flights/fetch.py
	$(BIN)/python -m bench

soak: .venv/.ready-test
	$(BIN)/python -m pytest tests/crash -m crash --kills 200 -s --timeout 7200
	$(BIN)/python tests/data/test_agreement.py 0 10000
	$(BIN)/python tests/policy/test_residency.py 0 10000
	$(BIN)/python -m pytest tests/cli/test_tamper.py --edits 1000 -s --timeout 3600
	$(BIN)/python -m pytest tests/flow/test_schedules.py tests/cluster/queue/test_schedule.py --schedules 1000 --timeout 3600
	$(BIN)/python tests/models/foreign/peers.py
	$(BIN)/python tests/models/tracking/peers.py
	$(BIN)/python tests/models/tracking/yardstick.py
	$(BIN)/python tests/data/trees/peers.py
	$(BIN)/python -m pytest tests/train/checkpoints/test_kills.py --save-kills 500 --flips 200 -s --timeout 3600

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt --editable '.[examples]'
	touch $@

.venv/.ready-test: .venv/.ready
	$(PIP) install --constraint constraints.txt --editable '.[examples,test,check]'
	touch $@
