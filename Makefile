# Everything that is done here more than once. `make demo` and `make test` need nothing but
# Python 3.11, make and the package registry.

PYTHON ?= python3
UV := .tools/.venv/bin/uv
RUN := .venv/bin/
STAMP := .venv/.installed
# COUNTED=1 counts what the tests reach, as CI does; `make coverage-rest` goes on from there.
PYTEST = $(RUN)$(if $(COUNTED),coverage run -m )pytest -q -n $(or $(JOBS),3) --dist worksteal --ignore=tests/deploy $(if $(COUNTED),--count-less)
IN_TEST := not (processes or redis or faults or docs or clients) or smoke

# Else every program that a test starts compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: audit sbom help install demo test test-all test-redis test-clients test-faults test-docs test-loaded test-pythons test-oldest coverage coverage-rest test-map check docs conformance interop requirements format bench bench-gate scale chaos churn fleet deploy-test fuzz clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

# uv itself comes from the registry, so that only Python has to be there.
$(UV): requirements-uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headway needs Python 3.11 or newer")'
	$(PYTHON) -m venv .tools/.venv
	.tools/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements-uv.txt
	@touch $@

$(STAMP): $(UV) pyproject.toml uv.lock
	$(UV) sync --frozen --quiet --python $(PYTHON)
	@touch $@

install: $(STAMP) ## make the environment in .venv, with everything

demo: $(STAMP) ## hash, index and search this checkout through a real server
	@$(RUN)python scripts/demo.py

test test-all: JOBS ?= 4
test: $(STAMP) ## run the tests that start nothing, and one of each kind of process: a minute and a half
	$(PYTEST) -m "$(IN_TEST)" $(ARGS)

test-all: $(STAMP) ## run all tests (but those of deploy-test)
	$(PYTEST) $(ARGS)

test-redis: $(STAMP) ## run the tests that need a Redis
	$(PYTEST) -m redis $(ARGS)

test-clients: $(STAMP) ## run the clients of other projects against every kind of server, in each era
	$(PYTEST) -m clients $(ARGS)

test-faults: $(STAMP) ## run the tests that kill, cut and stop servers
	$(PYTEST) -m faults $(ARGS)

test-docs: $(STAMP) ## run what the documentation and the examples show
	$(PYTEST) -m docs $(ARGS)

test-loaded: $(STAMP) ## run all tests beside two busy processes a core, N=3 times in a row
	$(RUN)python scripts/loaded.py --times $(or $(N),3)

test-pythons: $(STAMP) ## run make test on every other Python from 3.11 to 3.14 that is here
	$(RUN)python scripts/pythons.py $(ARGS)

test-oldest: $(STAMP) ## run make test with the oldest dependencies that pyproject.toml allows
	$(RUN)python scripts/oldest.py $(ARGS)

coverage: $(STAMP) ## run all tests and count the lines and branches that they reach, in all processes
	$(RUN)python scripts/coverage_gate.py $(ARGS)

coverage-rest: $(STAMP) ## after `make test COUNTED=1`: run and count all other tests, and judge both
	$(RUN)python scripts/coverage_gate.py --add "not ($(IN_TEST))" $(ARGS)

test-map: $(STAMP) ## run all tests, and write in tests/README.md which are about which module (ARGS=--reuse: from the last coverage)
	$(RUN)python scripts/test_map.py $(ARGS)

check: $(STAMP) ## format, lint, types, import contracts, file shape, words of names, the map of tests, the reference
	$(RUN)ruff format --check
	$(RUN)ruff check
	$(RUN)pyright
	$(RUN)lint-imports
	$(RUN)python scripts/shape.py
	$(RUN)python scripts/words.py
	$(RUN)python scripts/test_map.py --check
	$(RUN)python scripts/api_reference.py --check
	$(RUN)python scripts/reference_pages.py --check

sbom: $(STAMP) ## write what the package needs, as CycloneDX, to out/sbom.json
	@mkdir -p out
	$(UV) export --frozen --quiet --all-extras --no-dev --format cyclonedx1.5 --output-file out/sbom.json

audit: $(STAMP) ## ask the advisories of the registry about each locked dependency
	$(RUN)python scripts/audit.py

docs: $(STAMP) ## build the documentation as a site in out/site; a broken link fails (ARGS=--serve: show it)
	$(RUN)python scripts/docs_site.py $(ARGS)

conformance: $(STAMP) ## run the official suite (ARGS="--revision 2025-11-25 --scenario tools-list")
	$(RUN)python scripts/conformance.py $(ARGS)

requirements: $(STAMP) ## the specification's sentences, and the tests that prove each
	@$(RUN)python -m tests.requirements.matrix

interop: $(STAMP) ## run real clients: TypeScript, FastMCP's tasks, the Inspector, curl (ARGS="--only sdk")
	$(RUN)python scripts/interop.py $(ARGS)

format: $(STAMP) ## bring the code into form
	$(RUN)ruff format
	$(RUN)ruff check --fix

bench: $(STAMP) ## measure Headway against the floor, the SDK and FastMCP (QUICK=1: a minute; PEERS=ts: TypeScript too)
	$(RUN)python -m bench $(if $(QUICK),--quick) $(if $(PEERS),--peers $(PEERS)) $(ARGS)
	$(RUN)python -m bench.track

bench-gate: $(STAMP) ## fail if a call calls a tenth more functions than it did, or takes half more of the floor's time
	$(RUN)python -m bench.gate

scale: $(STAMP) ## measure 1, 2 and 3 replicas on one Redis, and the journals against each other (QUICK=1: a minute)
	$(RUN)python -m bench.scale $(if $(QUICK),--quick) $(ARGS)

chaos: $(STAMP) ## kill and cut a server for SECONDS=120 while clients count what it does (SEED=…, ARGS="--server sdk")
	$(RUN)python -m tests.chaos.soak --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED)) $(ARGS)

churn: $(STAMP) ## open and drop N=100000 sessions, and see that nothing stays (SEED=…, ARGS="--journal memory")
	$(RUN)python -m tests.chaos.churn --visits $(or $(N),100000) $(if $(SEED),--seed $(SEED)) $(ARGS)

fleet: $(STAMP) ## nginx, three replicas, two workers and a Redis in a storm of SECONDS=60 (SEED=…, ARGS="--callers 50")
	$(RUN)python -m tests.chaos.fleet --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

deploy-test: $(STAMP) ## run what is in deploy/: nginx, Caddy, HAProxy and Envoy before replicas, the image's steps
	$(RUN)python scripts/deploy_test.py $(ARGS)

fuzz: $(STAMP) ## send a server wrong requests (N=5000, SEED=…); what breaks it is kept in tests/fuzz/corpus
	$(RUN)python -m tests.fuzz --inputs $(or $(N),5000) $(if $(SEED),--seed $(SEED))

clean: ## remove what the targets above made
	rm -rf .venv .tools out
