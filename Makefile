# `make demo` and `make test` do everything on a fresh machine. Each sets itself up in .venv once, and again only if the
# packaging changes; an interrupted set-up starts over. `make` alone lists the commands.
#
# PIP_ARGS goes to pip. Where there is no NVIDIA GPU, PyTorch's CPU build is taken if its index can be reached: it has a
# tenth of the size. TORCH_INDEX names another index of it, such as a mirror; an empty one takes the registry's build.
# PYTHON names another interpreter: make demo PYTHON=python3.12
# EXTRA=gpu installs onnxruntime-gpu into a new .venv; the packages of an existing .venv stay.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install $(PIP_ARGS)
PACKAGING := pyproject.toml setup.py

TORCH_INDEX := https://download.pytorch.org/whl/cpu

CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10
RECENT := import sys; sys.exit(sys.version_info < (3, 10))
PYTHON := $(shell for python in $(CANDIDATES); do \
	$$python -c '$(RECENT)' 2>/dev/null && echo $$python && break; done)

HELD := from importlib.metadata import distributions; held = {d.metadata["Name"] for d in distributions()}; \
	print(("gpu" if "onnxruntime-gpu" in held else "cpu") + ("-headless" if "opencv-python-headless" in held else ""))
EXTRA = $(shell $(BIN)/python -c '$(HELD)' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo test test-long bench coverage lint format clean

help:
	@echo "make demo       the webcam loop on camera 0, or on a bundled clip if there is no camera"
	@echo "make test       ruff, mypy and the quick tests"
	@echo "make test-long  the slow tests"
	@echo "make bench      time the loop against another commit (RIVAL=$(RIVAL)), in under ten minutes on two cores"
	@echo "make coverage   the quick tests, and the lines and branches that they do not reach"
	@echo "make lint       ruff and mypy"
	@echo "make format     ruff formats the code and fixes what it can"
	@echo "make clean      remove .venv and every other generated file"

demo: $(VENV)/runtime.stamp
	@$(BIN)/python -m iern.runtime.webcam --demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" $(PYTEST_ARGS)

test-long: $(VENV)/development.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow $(PYTEST_ARGS)

# The whole loop and its rivals. RIVAL is a commit of this clone or the folder of a checkout; BENCH_ARGS are more options.
RIVAL := b70f224
bench: $(VENV)/development.stamp
	$(BIN)/python -m benchmarks.loop --rival $(RIVAL) $(BENCH_ARGS)

coverage: $(VENV)/development.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

lint: $(VENV)/development.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/development.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# One process a core, up to four, each with one thread: the tests are many small ones. The tests of a file stay in one
# process, so that what they share is made once.
PYTEST_ARGS := -n auto --maxprocesses 4 --dist loadfile

# A working .venv is kept. One whose creation was interrupted has no pip yet and is created again.
$(VENV)/created.stamp:
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		test -n "$(PYTHON)" && $(PYTHON) -c '$(RECENT)' 2>/dev/null || { \
			echo "Python 3.10 or newer is needed, found: $$($(or $(PYTHON),python3) --version 2>/dev/null || echo none)."; \
			echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; } >&2; \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
			echo "$(PYTHON) cannot make a virtual environment."; \
			echo "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; } >&2; \
		$(PYTHON) -m venv --clear $(VENV); }
	@touch $@

# opencv-python shows windows but needs a desktop's libraries, libGL among them. A bare server gets the same OpenCV
# without windows. The two wheels share the folder cv2, so both are removed before one is installed.
$(VENV)/runtime.stamp: $(VENV)/created.stamp $(PACKAGING)
	@echo "Setting up $(VENV) for the runtime: NumPy, OpenCV, PyAV, onnxruntime (about 160 MB)"
	@$(PIP) --quiet --editable '.[$(EXTRA)]'
	@reason=$$($(BIN)/python -c 'import cv2' 2>&1) || { \
		echo "opencv-python cannot be imported here ($$(echo "$$reason" | tail -n 1))."; \
		echo "Taking opencv-python-headless instead: the same results, but no window."; \
		$(BIN)/python -m pip --quiet uninstall --yes opencv-python opencv-python-headless && \
		$(PIP) --quiet --editable '.[$(EXTRA:-headless=)-headless]' && $(BIN)/python -c 'import cv2'; }
	@touch $@

$(VENV)/development.stamp: $(VENV)/runtime.stamp
	@echo "Setting up $(VENV) for development: PyTorch and the tools"
	@option=$$(test -z "$(TORCH_INDEX)" || $(BIN)/python .ci/torch_build.py "$(TORCH_INDEX)"); \
		set -x; $(PIP) $$option --editable '.[train,export,dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo_output build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
