# Every target works on a fresh clone: Python 3.11 or newer, git and make are all it needs.
# The first one that needs it creates .venv from requirements.lock (about 15 s, then never again
# until the lock changes).

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)) python3)
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-unit test-infra test-wheel test-system lint template bench dist lock clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## Create .venv with everything in it, hashes checked

$(READY): requirements.lock pyproject.toml scripts/bootstrap.py
	$(PYTHON) scripts/bootstrap.py .venv
	@touch $@

demo: $(READY) ## From a folder to a browser through S3 and nginx (ARGS=--check: the tour, unattended)
	$(BIN)/s3sync demo $(ARGS)

test: $(READY) ## All tests, on every core (ARGS: pytest's own)
	$(BIN)/pytest --numprocesses auto --dist worksteal $(ARGS)

# In an environment of its own, where the wheel takes the place of the tree.
test-wheel: ## All tests, of the wheel in dist/ instead of the tree (ARGS: pytest's own)
	scripts/check-wheel.sh dist/*.whl
	$(PYTHON) scripts/bootstrap.py .venv/wheel
	.venv/wheel/bin/pip install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall dist/*.whl
	.venv/wheel/bin/pytest --numprocesses auto --dist worksteal $(ARGS)

test-unit: $(READY) ## The fast ones: no process, no server
	$(BIN)/pytest tests/unit tests/property $(ARGS)

# Tools whose needs contradict ours, each in an environment of its own.
TOOLS := $(patsubst tests/infra/tools/%.lock,.venv/tools/%/.ready,$(wildcard tests/infra/tools/*.lock))

.venv/tools/%/.ready: tests/infra/tools/%.lock | $(READY)
	$(BIN)/python scripts/bootstrap.py $(@D) $<
	@touch $@

# A file's tests share what they have set up, so they stay together.
test-infra: $(READY) $(TOOLS) ## The stack: linters, emulators of AWS, what its roles may do (ARGS: pytest's own)
	$(BIN)/pytest tests/infra --numprocesses auto --dist loadfile $(ARGS)

# What machines are made with; the Debian they run is made at the first run and kept in
# $SYSTEM_TESTS_CACHE (~/.cache/s3sync-agent).
SYSTEM_PACKAGES := debian-archive-keyring debootstrap eatmydata haproxy iproute2 systemd-container zstd

test-system: $(READY) .venv/tools/ministack/.ready ## As root: real machines that boot, serve and are treated badly (ARGS: pytest's own)
	@test "$$(id -u)" = 0 || { echo "make test-system: needs root" >&2; exit 1; }
	@dpkg --status $(SYSTEM_PACKAGES) >/dev/null 2>&1 || { apt-get update --quiet=2 && \
		DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --no-install-recommends $(SYSTEM_PACKAGES); }
	$(BIN)/pytest tests/system --capture=no $(ARGS)

lint: $(READY) ## Rules, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/template.py --check
	$(BIN)/shellcheck --external-sources .ci/run scripts/*.sh

template: $(READY) ## The boot script into infra/cloudformation.yaml, after a change to it
	$(BIN)/python scripts/template.py

bench: $(READY) ## Measure, side by side with the tools people use today
	@test -f bench/__main__.py || { echo "make bench: there is no bench/__main__.py yet" >&2; exit 1; }
	$(BIN)/python -m bench $(ARGS)

# The same sources are the same wheel, whatever the commit and the day: hatchling gives every file one time.
# So a bundle changes with what is in it alone, and no deployment replaces instances for another reason.
dist: $(READY) ## The wheel, into dist/
	rm -rf dist
	env --unset=SOURCE_DATE_EPOCH $(BIN)/python -m build --wheel --no-isolation --outdir dist .

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header

# Of the package with cfn-guard only that program and its rules are wanted, not what the package itself needs.
lock: $(READY) ## Write all locks anew (ARGS=--upgrade: with newer versions)
	$(LOCK) pyproject.toml --extra dev --output-file requirements.lock $(ARGS)
	$(LOCK) pyproject.toml --extra bundle --constraint requirements.lock \
		--output-file agent/s3sync_agent/data/runtime.lock
	$(LOCK) tests/infra/tools/checkov.in --output-file tests/infra/tools/checkov.lock $(ARGS)
	$(LOCK) tests/infra/tools/ministack.in --output-file tests/infra/tools/ministack.lock $(ARGS)
	$(LOCK) tests/infra/tools/cfn-guard.in --no-deps --output-file tests/infra/tools/cfn-guard.lock $(ARGS)

clean: ## Remove all that make has made
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find agent tests -name __pycache__ -type d -prune -exec rm -rf {} +
