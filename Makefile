# `make run` inspects the demo parts until Ctrl-C; `make test` runs every test. Both need Python >= 3.11 alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations 10
BESIDE = $(PYTEST) --numprocesses $(WORKERS) --dist worksteal -m 'not proof and not alone'
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 8 ? n + 1 : 8)))
INPUTS := pyproject.toml constraints.txt setup.py $(wildcard inspectd/acquire/simcam/*.[ch]) $(wildcard inspectd/acquire/simcam/*.xml)

.PHONY: run test test-gpu proof lint venv clean

run: $(VENV)/run.stamp
	@echo "starting the line of config.toml: Ctrl-C ends it"
	@$(BIN)/inspectd run -c config.toml --watch

# The tools' tests and those of the daemon side by side, one more at a time than there are cores, as many wait for half
# of their time; then, one by one, those that need the machine for themselves. All three, whatever fails.
test: $(VENV)/dev.stamp lint
	failed=0; \
	$(BESIDE) tests/tools || failed=1; \
	$(BESIDE) --ignore tests/tools || failed=1; \
	$(PYTEST) -m 'alone and not proof' $$(grep -rl 'mark\.alone' tests) || failed=1; \
	exit $$failed

test-gpu: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m 'gpu and not proof'

proof: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m 'proof or hypothesis' --hypothesis-profile proof --override-ini faulthandler_timeout=4000

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/types && ln -sfn ../../tools build/types/inspectd_train
	$(BIN)/mypy
	$(BIN)/lint-imports

venv: $(VENV)/dev.stamp

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("inspectd needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# A stamp stands for a finished installation: the next `make run` starts at once.
$(VENV)/run.stamp: $(INPUTS) | $(BIN)/python
	@echo "installing inspectd into $(VENV): once, some 500 MB, which takes a few minutes"
	@$(PIP) --editable '.[run]'
	@touch $@

# pycuda has to be built, which takes as long as the rest: at the same time. Without a compiler it stays away, and
# pycuda.failed says why.
$(VENV)/dev.stamp: $(INPUTS) | $(BIN)/python
	@echo "installing inspectd, the training tool and the test tools into $(VENV): once, some 2 GB, for some minutes"
	@$(BIN)/python tools/dev/pycuda_wheel.py >$(VENV)/pycuda.wheel 2>$(VENV)/pycuda.failed & wheel=$$!; \
	trap 'kill $$wheel 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	$(PIP) --editable '.[run,train,peers,dev]' || exit; \
	if wait $$wheel && $(PIP) "$$(cat $(VENV)/pycuda.wheel)" 2>>$(VENV)/pycuda.failed; \
	then rm $(VENV)/pycuda.failed; else cat $(VENV)/pycuda.failed >&2; fi
	@touch $(VENV)/run.stamp $@

clean:
	rm -rf $(VENV) build *.egg-info
