# make demo, make test [PYTHON=python3.12]: everything a new machine needs is installed into a virtual
# environment here.
ifeq ($(origin PYTHON), undefined)
PYTHON := python3
VENV := .venv
else
VENV := .venv-$(notdir $(PYTHON))
endif

# A file's tests stay together, and so make its fixtures and compile its functions once; see tests/conftest.py.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help install demo test test-torch test-assets test-slow test-sweep test-slurm test-card test-onnx sweep lint lock clean

help:
	@echo "make demo        install into $(VENV), train on scikit-learn's digits, sample, evaluate"
	@echo "make test        install into $(VENV) and run the tests   [PYTHON=python3.12]"
	@echo "make test-torch  compare the U-Net with diffusers' (PyTorch, large download)"
	@echo "make test-assets  what needs DIFFJAX_INCEPTION, TFDS_DATA_DIR and DIFFJAX_GOLDEN (see tests/metrics)"
	@echo "make test-slow   further combinations of devices, modes and parts"
	@echo "make sweep       objectives x schedules on digits: nine minutes or so on 2 cores, table and picture"
	@echo "make test-sweep  train, stop, resume and collect a small sweep; check the TPU script with shellcheck"
	@echo "make test-slurm  a sweep on a Slurm of one node (as root; apt-get install slurm-wlm munge)"
	@echo "make test-card   what the compiler makes of a training step for an H100, which need not be there"
	@echo "make test-onnx   a trained denoiser as an ONNX file, on ONNX Runtime"
	@echo "make lint        ruff"
	@echo "make lock        resolve the lock files again"
	@echo "make clean       remove the virtual environments"

# The stamp holds the interpreter's version and the lock's checksum, and is written last: an interrupted
# install is done again, and one for another interpreter or lock is made anew. Modules are compiled when they are first
# imported, which a demo does with one in twenty, unless Python is told to keep nothing.
install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "diffjax needs Python 3.11 or newer; choose one with PYTHON=..." >&2; exit 1; }
	@set -e; \
	minor=$$($(PYTHON) -c 'import sys; print(min(sys.version_info[1], 12))'); \
	lock=requirements/py3$$minor.lock; \
	want="$$($(PYTHON) -V) $$(cat $$lock setup.py pyproject.toml | cksum)"; \
	if [ "$$(cat $(VENV)/installed 2>/dev/null)" != "$$want" ]; then \
	  echo "installing into $(VENV) (about a minute, once)"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	  if [ "$$PYTHONDONTWRITEBYTECODE" ]; then pip=--compile uv=--compile-bytecode; else pip=--no-compile uv=; fi; \
	  if command -v uv > /dev/null; \
	  then uv pip install -q $$uv --python $(VENV)/bin/python --require-hashes -r $$lock; \
	  else $(VENV)/bin/python -m pip install -q $$pip --require-hashes -r $$lock; fi; \
	  $(VENV)/bin/python -m pip install -q --no-deps --no-build-isolation -e .; \
	  echo "$$want" > $(VENV)/installed; \
	fi

demo: install
	$(VENV)/bin/python main.py --config=configs/digits.py --workdir=runs/digits
	$(VENV)/bin/python main.py --workdir=runs/digits --mode=sample
	$(VENV)/bin/python main.py --workdir=runs/digits --mode=eval

test: install
	$(VENV)/bin/python -m pytest -q $(WORKERS)

test-torch: install
	$(VENV)/bin/python -m pip install -q -e .[parity]
	HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest -q -m torch

test-assets: install
	$(VENV)/bin/python -m pytest -q -rs -s -m assets

sweep: install
	$(VENV)/bin/python -m experiments.launch objectives --on=local
	$(VENV)/bin/python -m experiments.collect objectives

test-slow: install
	$(VENV)/bin/python -m pytest -q $(WORKERS) -m slow

test-sweep: install
	$(VENV)/bin/python -m pytest -q -m "sweep or shellcheck"

test-slurm: install
	$(VENV)/bin/python -m pip install -q -e .[slurm]
	$(VENV)/bin/python -m pytest -q -m slurm

test-card: install
	$(VENV)/bin/python -m pip install -q -e .[compiled]
	$(VENV)/bin/python -m pytest -q -m card

test-onnx: install
	$(VENV)/bin/python -m pip install -q -e .[onnx]
	$(VENV)/bin/python -m pytest -q -m onnx

lint: install
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

lock: install
	$(VENV)/bin/python -m pip install -q uv
	for v in 3.11 3.12; do $(VENV)/bin/uv pip compile -q --universal --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --python-version $$v \
	  --extra test setup.py requirements/build.in \
	  -o requirements/py$$(echo $$v | tr -d .).lock; done

clean:
	rm -rf .venv .venv-*
