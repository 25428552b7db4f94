# Every target sets up what it needs: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)

ifeq ($(UV),)
UV     := .uv/bin/uv
UV_DEP := .uv/bin/uv
endif

# Without bytecode every worker compiles torch, ray and timm again: 21 s of imports instead of 7.
unexport PYTHONDONTWRITEBYTECODE
# Material prints an advertisement at each build otherwise.
export NO_MKDOCS_2_WARNING = 1

.PHONY: setup demo test test-fast test-cluster test-clients coverage chaos check bench docs docs-site pictures pins clean

setup: $(VENV)/.ready

demo: setup
	$(BIN)/otter-ray tune demo

# All tests that need neither root nor SSH. Each process begins with a group of tests/conftest.py.
test: check
	$(BIN)/python -m pytest -n 3 --hypothesis-profile=thorough -m "not cluster"

# `ray up` and a study on machines that are joined by real SSH: root, network namespaces, sshd and rsync.
test-cluster: setup
	$(BIN)/python -m pytest -n 0 -m cluster

# No Ray, no study, no training but a few steps: for while you write.
test-fast: setup
	$(BIN)/python -m pytest -n 2 tests/unit tests/test_layout.py

# The vendor's clients open the files that we export. They are installed into an environment of their own.
test-clients: setup
	OTTER_RAY_CLIENTS=1 $(BIN)/python -m pytest -n 0 tests/clients

# Below the floor in pyproject.toml it fails. Processes that the tests start are measured, too.
coverage: setup
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html

# `make test` kills a little; this kills for half an hour.
chaos: setup
	OTTER_RAY_CHAOS=full $(BIN)/python -m pytest -m chaos

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_docs.py
	$(BIN)/mkdocs build

bench: setup
	$(BIN)/python benchmarks/run.py

# The references of config, search space and commands, from the source. `make check` says if they are stale.
docs: setup
	$(BIN)/python tools/reference.py

# The pictures of the documentation and the figures that it quotes, all from one run of the demo. It needs Chromium.
pictures: setup
	$(BIN)/python tools/pictures.py

# The documentation as a site, in site/. `.venv/bin/mkdocs serve` shows it while you write, with its search.
docs-site: setup
	$(BIN)/mkdocs build

# Take the newest versions that fit pyproject.toml. The file names no package index.
pins: $(UV_DEP)
	$(UV) pip compile pyproject.toml --extra dev --extra docs --python-version 3.11 --universal --upgrade \
	  --no-header --no-annotate --no-emit-index-url -o constraints.txt

$(VENV)/.ready: pyproject.toml constraints.txt $(UV_DEP)
	$(UV) venv --quiet --allow-existing --no-python-downloads --python $(PYTHON) $(VENV)
	$(UV) pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

clean:
	rm -rf $(VENV) .uv dist htmlcov site .coverage
