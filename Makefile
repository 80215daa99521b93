# Everything is done from here: `make help`. Needs Python 3.11 or newer and make; the rest is set up in .venv.

PYTHON ?= python3
BIN := .venv/bin
POSTGRES ?= wheel
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest --postgres $(POSTGRES)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check prove prove-night bench mutants format lock traceability clean

help: ## Print what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Make .venv with everything that is needed, from the hashed lock file

.venv/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make setup: needs Python 3.11 or newer; say which: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make setup: this Python cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Serve the demo, staff and customers side by side on a real PostgreSQL, until Ctrl-C
	$(BIN)/mpesa-sync demo

test: setup ## Run the tests on real PostgreSQL (POSTGRES=wheel|system, WORKERS=3)
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not prove"

check: setup ## Format, lint, types, and what the repository promises about itself
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/traceability.py --check
	$(BIN)/python -m pytest -q tests/test_layout.py

prove: setup ## The longer proofs: kill cycles, commit cuts, interleavings, and the mutants of the day must die
	$(PYTEST) -n 2 -m prove --timeout 900 -rP --show-capture=stdout
	$(BIN)/python tools/mutants.py --postgres $(POSTGRES)

prove-night: setup ## Ten times the figures of the longer proofs, a soak of 20 minutes, and every mutant: for a night
	MPESA_SYNC_PROVE_TIMES=10 $(PYTEST) -n 2 -m prove --timeout 9000 -rP --show-capture=stdout
	$(BIN)/python tools/mutants.py --all --postgres $(POSTGRES)

mutants: setup ## Plant each known mistake, also those left for the night, and see that a test turns red
	$(BIN)/python tools/mutants.py --all --postgres $(POSTGRES)

bench: setup ## Measure, each figure beside its limit, all of it held to the contract at the end (half an hour)
	$(BIN)/python -m benchmarks

format: setup ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

traceability: setup ## Write docs/traceability.md anew
	$(BIN)/python tools/traceability.py --write

lock: ## Resolve requirements/*.txt anew (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --custom-compile-command "make lock" --quiet --output-file requirements/run.txt
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --custom-compile-command "make lock" --quiet --output-file requirements/dev.txt

clean: ## Remove what was built, but not the data under .mpesa-sync
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis test-artefacts
