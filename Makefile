# `make demo` does the main job, `make test` is the whole check; both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
INSTALLED := $(VENV)/.installed
# No test or demo step needs the network: without this each hub look-up would wait for a time-out.
export HF_HUB_OFFLINE := 1
# Keeps freed memory instead of handing it back to the system after every tensor: training steps take less time.
export MALLOC_MMAP_THRESHOLD_ := 4000000000
export MALLOC_TRIM_THRESHOLD_ := 4000000000

.PHONY: help demo test format lint types floors unit wheel clean

help:
	@echo "make demo    generate data, train a model, find its circuits, score an SAE: runs/demo/report.html"
	@echo "make test    format, lint, types, import floors and tests, as CI runs them"
	@echo "make wheel   build the wheel and try it in an empty environment"
	@echo "make clean   remove .venv and caches (runs/ is kept)"

demo: $(INSTALLED)
	$(RUN)tinysql demo --resume $(ARGS)

test: format lint types floors unit

format: $(INSTALLED)
	$(RUN)ruff format --check .

lint: $(INSTALLED)
	$(RUN)ruff check .

types: $(INSTALLED)
	$(RUN)mypy

floors: $(INSTALLED)
	$(RUN)lint-imports

unit: $(INSTALLED)
	OMP_NUM_THREADS=1 $(RUN)pytest -n 2 --durations 20 --durations-min 5 $(ARGS)

wheel: $(INSTALLED)
	$(RUN)python -m build --wheel --no-isolation --outdir dist .

# The stamp is written last, so an interrupted installation is taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; install a newer one and say: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments; install them with: sudo apt-get install python3-venv" >&2; exit 2; }
	test -x $(RUN)python || $(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
