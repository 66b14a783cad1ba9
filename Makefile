# `make run` and `make test` install what they need into .venv; nothing else has to be set up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHON

#: How long `make soak` takes at the least, and what it sends.
MINUTES ?= 10
REQUESTS ?= 1000000
TIMES ?= 100

#: How long `make fuzz` looks, and where it begins.
# Not ?=, which would take what a shell counts in a variable of this name.
SECONDS := 60
SEED ?= 1

.PHONY: help run demo test faults soak fuzz check format compiled test-compiled sbom equipment clean

help:
	@echo 'make run     the proxy on 127.0.0.1:27018 in front of an embedded upstream'
	@echo 'make demo    a short conversation through the proxy, and what the proxy saw'
	@echo 'make test    everything that is checked: formatting, lint, types, tests'
	@echo 'make check   formatting, lint and types alone'
	@echo 'make faults  everything that can go wrong around a connection, at every stage of one'
	@echo 'make soak    MINUTES=10 of mixed load, REQUESTS=1000000 marked requests, TIMES=100 signals'
	@echo '             and replacements of the program'
	@echo 'make fuzz    SECONDS=60 of requests that the proxy and servers may read in two ways; SEED=1'
	@echo 'make format  format the code'
	@echo 'make equipment   bring what tests need beside Python: chromium, prometheus, real drivers'
	@echo 'make clients install the real drivers that the tests use where their tools are found'
	@echo 'make compiled, make test-compiled   the compiled wheel and a tree with it in build/compiled,'
	@echo '             and all tests there; wants a C compiler and the headers of Python'
	@echo 'make sbom    what it is made of, as CycloneDX, in build/sbom.cdx.json'
	@echo 'make clean   remove what was installed and cached here'

run: $(VENV)/.installed-embedded
	@$(BIN)/python -m proxy serve --embedded

demo: $(VENV)/.installed-embedded
	@$(BIN)/python -m proxy demo

# On every processor that there is, but no more copies of slow fixtures than four.
PYTEST := -m pytest -n auto --maxprocesses 4 --dist worksteal

test: check
	$(BIN)/python $(PYTEST)

faults: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests/faults tests/adversity

soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.endurance.mixed --minutes $(MINUTES)
	$(BIN)/python -m tests.endurance.signals --times $(TIMES)
	$(BIN)/python -m tests.endurance.restarts --times $(TIMES)
	$(BIN)/python -m tests.endurance.restarts --times $(TIMES) --workers 2 --tls --compressed
	$(BIN)/python -m tests.endurance.killed --seconds 60
	$(BIN)/python -m tests.endurance.marked --requests $(REQUESTS)

# Where atheris cannot be installed requests are changed blindly, which is said.
fuzz: $(VENV)/.installed-test
	@$(BIN)/python -c 'import atheris' 2>/dev/null || .ci/venv $(VENV) fuzz || true
	$(BIN)/python -m tests.reading.fuzz --seconds $(SECONDS) --seed $(SEED)

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The default is the pure one, and no test of it meets a compiled module: those are in a copy.
compiled: $(VENV)/.installed-test
	rm -rf build/compiled && mkdir -p build/compiled
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(BIN)/python -m pip --disable-pip-version-check wheel \
	    --quiet --no-deps --wheel-dir build/compiled .
	tar -c --exclude=./build --exclude=./.git --exclude=./$(VENV) --exclude=__pycache__ . | \
	    tar -x -C build/compiled
	cd build/compiled && $(abspath $(BIN))/python -m zipfile -e *.whl . && rm -rf *.dist-info

test-compiled: compiled
	cd build/compiled && $(abspath $(BIN))/python $(PYTEST)

# What the image is made of (deploy/Dockerfile puts it there too), as CycloneDX.
sbom: $(VENV)/.installed-test
	@mkdir -p build
	$(BIN)/uv export --quiet --frozen --format cyclonedx1.5 --output-file build/sbom.cdx.json

equipment:
	@.ci/equipment

clean:
	rm -rf build/compiled $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find proxy policies tests -name __pycache__ -type d -prune -exec rm -rf {} +

include tests/clients/Makefile

# A half-made environment has no stamp and is repaired; a changed pyproject.toml is installed.
$(VENV)/.installed-%: pyproject.toml .ci/venv
	@.ci/venv $(VENV) $*
	@touch $@
