# Everything needs Python 3.11 or newer and the package index; PYTHON chooses the interpreter for .venv.
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
BENCH ?=
ARGS ?=

export PORT HOST SANDBOX_DIR SEED

.SILENT:
.PHONY: run serve worker test check bench reset requirements setup-run setup-dev

run: setup-run ## The whole local platform: PORT=8501 SANDBOX_DIR=.sandbox SEED=7|none
	exec $(VENV_PYTHON) -m sandbox run

serve: setup-run ## The console against configured real services
	WEBSOCKETS_MAX_LINE_LENGTH=65536 exec $(VENV_PYTHON) -m uvicorn app:app --host $${HOST:-127.0.0.1} --port $${PORT:-8501} \
	  --timeout-graceful-shutdown 1 --ws websockets-sansio --no-server-header

worker: setup-run ## A Temporal worker with the sampler
	exec $(VENV_PYTHON) -m workflows

test: setup-dev
	$(VENV_PYTHON) -m pytest -n 3 --dist loadfile $(ARGS)

check: setup-dev
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy
	.venv/bin/lint-imports

bench: setup-dev
	$(VENV_PYTHON) -m benchmarks $(ARGS)

reset:
	if [ -x $(VENV_PYTHON) ]; then exec $(VENV_PYTHON) -m sandbox reset; else exec $(PYTHON) -m sandbox reset; fi

requirements: setup-dev ## Pin anew, with hashes
	.venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make requirements" requirements/run.in -o requirements/run.txt
	.venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --custom-compile-command "make requirements" requirements/dev.in -o requirements/dev.txt

setup-run:
	$(PYTHON) sandbox/environment.py run

setup-dev:
	$(PYTHON) sandbox/environment.py dev
