# Needs git, make and Python 3.11 or 3.12; everything else is set up by `make setup`, in this folder.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '' 2>/dev/null && { echo $$p; break; }; done)
STAMP := .venv/.done

.PHONY: setup demo test test-fast lint lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	  || { echo "rbft needs Python 3.11 or 3.12; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@uv --version >/dev/null 2>&1 || test -x .uv/bin/uv \
	  || { $(PYTHON) -m venv .uv && .uv/bin/pip install -q uv; } || $(PYTHON) -m pip install -q --target .uv uv \
	  || { echo "cannot get uv: install it, or Python's venv and pip (Debian: python3-venv)"; exit 1; }
	PATH="$$PATH:$(CURDIR)/.uv/bin" sh -c '\
	  uv venv -q --allow-existing --python "$(PYTHON)" .venv && \
	  uv pip sync -q --python .venv/bin/python --require-hashes requirements.lock && \
	  uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .'
	@touch $@

demo: $(STAMP)
	.venv/bin/rbft demo

test: $(STAMP)
	.venv/bin/python -m pytest -n 2 --dist loadscope

# Everything that starts no harness: within a minute on two cores.
test-fast: $(STAMP)
	.venv/bin/python -m pytest -n 2 --dist loadscope -m "not e2e" --ignore tests/e2e

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/rbft sync --check

# After changing dependencies in pyproject.toml.
lock:
	uv pip compile -q --universal --python-version 3.11 --group dev --generate-hashes \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .uv dist
