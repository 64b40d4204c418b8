# Every task of the project; `make` alone lists them. Needs make and a python3 >= 3.11 with its venv module, nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made-from-lock
# One more than the two cores of CI: a worker waits (for brokers, deadlines, processes that start) for a third of its time.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help alerts burst calm env e2e editing up brokers chromium test fuzz mutants schedules prove soak test-slow test-browser check compatibility baseline format bench bench-growth bench-recommendations docs migration service lock wheels sbom audit clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

env: $(STAMP) ## Create .venv from requirements.lock (reruns only when it or pyproject.toml changed)

# uv alone first, by pip and by its hash in the lock: it installs the rest in seconds. Where it can't reach the registry that pip is
# configured for, pip does it all. `--no-deps --no-build-isolation`: nothing comes that is not in the lock.
# Loading the services once compiles to byte code what a start imports, as in the Dockerfile: where PYTHONDONTWRITEBYTECODE is set, each
# process would compile it anew, for seconds.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Caravan needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing). Name another one: make env PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { \
		echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf .venv; exit 1; }
	@awk '/^uv==/ { take = 1 } take { print } take && !/\\$$/ { exit }' requirements.lock > .venv/uv.lock
	@{ $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock; } || { \
		echo "uv could not install; pip does it, which takes longer" >&2; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c 'import services.registry, cli; services.registry.load_services()'
	@touch $@
	@echo ".venv is ready: $$($(BIN)/python --version), $$(grep -c '^[a-z].*==' requirements.lock) pinned packages"

up: env ## Start the whole shop on this machine
	@exec $(BIN)/caravan up

brokers: env ## Install Kafka, RabbitMQ (where no container engine has them; NATIVE=yes: in any case), PgBouncer and libfaketime for the tests (native packages; apt as root)
	$(BIN)/python -m tests.support.backends.install $(if $(NATIVE),native)

# In the order of the folders: xdist would put the files with the fewest tests last, and among them are the longest, of a minute
# and one test, which a worker then ends alone.
test: env ## Run the tests but the slow ones
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow" -r fEX --timeout 300

alerts: env ## Rehearse the alerts in a running shop: fault, alert, runbook, cleared (ALERTS="SagaStuck JobsLate"; all need about 90 minutes)
	$(BIN)/python -m observability.rehearsal run $(ALERTS)
	$(BIN)/python -m tools.generate_docs

calm: env ## A shop under light load, without a fault: no alert may fire; MINUTES=60
	$(BIN)/python -m observability.rehearsal calm --minutes $(or $(MINUTES),60)

fuzz: env ## Hostile and generated requests to every operation; MINUTES=5
	FUZZ_MINUTES=$(or $(MINUTES),5) $(BIN)/python -m pytest -q -s -n0 tests/fuzz -m "not slow" --timeout 0

schedules: env ## Simulated schedules of deliveries, deaths and failures; COUNT=10000, SEED=4711 for one of them, step by step
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--count $(or $(COUNT),10000))

prove: env ## Orders under every kind of fault, and what holds afterwards, with a report in build/prove; ORDERS=500 SEED=1 SIZE=laptop or brokers
	$(BIN)/python -m tests.faults.prove --orders $(or $(ORDERS),500) --seed $(or $(SEED),1) --size $(or $(SIZE),laptop) $(if $(KINDS),--kinds "$(KINDS)")

burst: env ## Ten times the orders that the shop sustains: what is too much is shed, what was accepted ends; SECONDS=60 FACTOR=10
	$(BIN)/python -m tests.load burst --seconds $(or $(SECONDS),60) --factor $(or $(FACTOR),10)

soak: env ## Light load for hours: neither memory nor handles nor tables may grow; goes on where it was stopped; MINUTES=120 RATE=1
	$(BIN)/python -m tests.load soak --minutes $(or $(MINUTES),120) --rate $(or $(RATE),1)

test-slow: env ## Run the slow tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m slow -r fEX --timeout 1800

mutants: env ## Plant known bugs in a copy of the tree: the test that each names must turn red; ONLY="name name" JOBS=2
	@$(BIN)/python -m tests.mutants $(ONLY) $(if $(JOBS),--jobs $(JOBS))

chromium: env ## Install Debian's Chromium for the tests of the console (apt as root)
	$(BIN)/python -m tests.support.backends.install chromium

test-browser: env ## Run the tests of the console in Chromium; screenshots of every page in build/console
	$(BIN)/python -m pytest -q -n0 -m browser -r fEX --timeout 300 tests/services/gateway/console

e2e: env ## The end-to-end tests on a Kubernetes cluster (made by kind; see tests/e2e/__main__.py for E2E_KUBECONFIG, KEEP=1)
	$(BIN)/python -m tests.e2e

editing: env ## How long an edit takes under skaffold dev, on the current cluster (PROFILE=lite: in one pod; about 8 minutes)
	$(BIN)/python -m tests.e2e.editing $(PROFILE)

check: env ## Format, lint, types, who imports whom, and what breaks clients
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tools.compatibility

compatibility: env ## Compare what clients use (API, graph, messages, settings, metrics) with the last release
	$(BIN)/python -m tools.compatibility

baseline: env docs ## With a release: make what clients use now the baseline of make compatibility
	$(BIN)/python -m tools.compatibility --renew

format: env ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench-growth: env ## What an order, a list and a search cost while both become many; ORDERS=200000 PRODUCTS=300000
	$(BIN)/python -m bench.growth $(if $(ORDERS),--orders $(ORDERS)) $(if $(PRODUCTS),--products $(PRODUCTS))

bench-recommendations: env ## How often recommendations are right, against the most popular products (SALES=folder with sales files)
	$(BIN)/python -m bench.recommendations $(SALES)

bench: env ## Measure, and compare with this machine's ceilings; AGAINST=<commit> [CLIENTS=8 PAIRS=4 SECONDS=30 KAFKA= AMQP=]: with another commit, in turns
	$(BIN)/python -m bench$(if $(AGAINST),.against $(AGAINST) $(if $(CLIENTS),--clients $(CLIENTS)) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(KAFKA),--kafka $(KAFKA) --amqp $(AMQP)))

docs: env ## Write the generated reference pages, schemas, and files of the charts
	$(BIN)/python -m tools.generate_docs
	$(BIN)/python -m caravan_operator.resources

migration: env ## Write the next migration from what tables.py declares; NAME="identity add_phone"
	@$(BIN)/python -m tools.new_migration $(NAME)

service: env ## Write a new service that works, and add it to the lists of services; NAME=loyalty
	@$(BIN)/python -m tools.new_service $(NAME)

# Universal: one file for every platform and Python >= 3.11. It names no registry: each machine uses the one its pip and uv are configured for.
lock: ## Resolve pyproject.toml into requirements.lock (UPGRADE=1: newest versions)
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --extra embedded --extra operator --extra parquet --extra dev --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) --output-file requirements.lock
	@{ echo "# Every package by version and hash, written by 'make lock' from pyproject.toml; 'make env' installs exactly this."; \
		grep -v '^#' requirements.lock; } > requirements.lock.new && mv requirements.lock.new requirements.lock
	@! grep -n '://' requirements.lock || { echo "requirements.lock must not name a registry" >&2; exit 1; }

wheels: env ## Look whether the lock installs from wheels alone on Linux x86-64 and ARM and on macOS ARM (asks the package registry)
	$(BIN)/python -m tools.check_wheels

sbom: env ## Write what each image holds, as CycloneDX, to build/sbom
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python .ci/sbom.py build/sbom

audit: env ## Look the locked packages up among known vulnerabilities
	@rm -f .venv/audit.json
	@found=0; $(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock --format json --output .venv/audit.json || found=$$?; \
		test -s .venv/audit.json || { echo "nothing was audited: the advisories can't be reached from here, see the line above" >&2; exit 1; }; \
		$(BIN)/python -c "$$AUDITED" && exit $$found

# pip-audit counts a package that it skipped as clean; here it is a failure.
define AUDITED
import json
found = json.load(open(".venv/audit.json"))["dependencies"]
for package in found:
    for advisory in package.get("vulns", ()):
        print(package["name"], package["version"], advisory["id"], "fixed in", *advisory["fix_versions"])
audited = sum("vulns" in package for package in found)
print(f"audited {audited} of {len(found)} packages")
raise SystemExit(audited == 0 or audited < len(found))
endef
export AUDITED

clean: ## Stop what runs from .caravan, and remove .caravan with all its data
	@if [ -e .caravan ]; then test -x $(BIN)/python || { echo "nothing can be stopped without .venv: make env first" >&2; exit 1; }; \
		$(BIN)/python -m caravan.embedded remove .caravan && rm -rf .caravan; fi
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	@git worktree prune 2>/dev/null || true

distclean: clean ## clean, and remove .venv
	rm -rf .venv
