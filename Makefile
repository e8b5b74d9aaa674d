# `make` lists the targets. One variable of the environment matters to all of them:
#
#   BANIP_CACHE   folder for what is slow to make and the same every time: the closed servers' minimal Debian
#                 (315 MB), its kernel. Default: ~/.cache/banip. May be removed at any time between runs.
#
# CI=true turns every skipped test into a failed one.

SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
WORKERS ?= 2
FUZZ_EXAMPLES ?= 2000
FUZZ_S ?= 30

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements-dev.txt
# Another lock, another PYTHON or another place: another environment, made from nothing.
KEY := $(shell { cat $(LOCK); echo $(PYTHON) $(CURDIR); } | sha256sum | cut -c1-16)
FUZZ_LOCK := requirements-fuzz.txt
FUZZ := .venv-fuzz-$(shell { cat $(FUZZ_LOCK); echo $(PYTHON) $(CURDIR); } | sha256sum | cut -c1-16)
READY := $(VENV)/.ready-$(KEY)
# For a recipe's own programs only: a PATH for all would let .venv make itself. What Python compiles is kept, beside
# no source: three processes would compile all tests anew each time.
INSIDE := PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX="$(CURDIR)/$(VENV)/pycache" PATH="$(CURDIR)/$(BIN):$$PATH"
PACKAGES := $(shell sed 's/ *\#.*//' packages.debian)
UNIT := not real and not server and not qemu and not slow
# Skipped tests are listed one by one at the end, with what they lack.
# A module stays on one worker, where it shares what is slow to make; conftest.py says which come first. (By groups
# it would be finer, but pytest 9.2 ignores those of xdist 3.8: pytest-dev/pytest-xdist issue 1386.)
PYTEST := $(INSIDE) python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --no-fold-skipped

.PHONY: help
help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: setup
setup: packages $(READY)  ## system packages (root; otherwise names what is missing) and .venv as locked

.PHONY: packages
packages:
	@present=$$(dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(PACKAGES) 2>/dev/null | sed -n 's/ installed$$//p' || true)
	missing=$$(comm -23 <(printf '%s\n' $(PACKAGES) | sort) <(sort <<<"$$present") | xargs)
	# Without lists the guest's kernel cannot be fetched, even where every package is present.
	if [[ -z $$missing ]] && { compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || [[ $$(id -u) != 0 ]]; }; then exit; fi
	if [[ $$(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
		if [[ -z $$missing ]]; then exit; fi
		echo "Missing Debian packages: $$missing"
		echo "Tests that need them are skipped and listed at the end; root runs: apt-get install $$missing"
		exit
	fi
	echo "Installing Debian packages: $${missing:-none, only their lists}"
	export DEBIAN_FRONTEND=noninteractive
	# A source that we do not need may be broken; whether ours are there is seen by the install.
	apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 update || echo "apt-get update had errors; going on"
	if [[ -n $$missing ]]; then
		apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends $$missing
	fi

$(READY): | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
		echo "$(PYTHON) is older than 3.11 or missing; name another: make PYTHON=python3.12 ..."; exit 1; }
	rm -rf $(VENV)
	echo "Making $(VENV), as locked: about a minute, 800 MB"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r $(LOCK)
	touch $@

.PHONY: check
check: static  ## the two-minute loop: lint, types, roles, tests that start no large program
	@$(PYTEST) -m "$(UNIT)" --timeout 120

.PHONY: test
test: static  ## check, real programs, closed servers (root), guests under QEMU; of what is slow a sample
	@$(PYTEST) -m "not slow" --timeout 900

.PHONY: test-slow
test-slow: static  ## what `make test` leaves out: every fault at every step, the guest's whole contract
	@$(PYTEST) -m slow --timeout 900

.PHONY: fuzz
fuzz: setup  ## search for bytes that break a parser: FUZZ_EXAMPLES by hypothesis, then FUZZ_S seconds a target by atheris
	@mkdir -p .fuzz
	BANIP_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(INSIDE) nice python -m pytest -n $(WORKERS) tests/fuzz
	if [[ ! -d $(FUZZ)/atheris ]]; then
		rm -rf .venv-fuzz-*
		$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(FUZZ) --require-hashes --only-binary :all: \
			-r $(FUZZ_LOCK) || { echo "no atheris for this Python or from this index: hypothesis has searched alone"; exit; }
	fi
	for target in $$($(BIN)/python -c 'from tests.fuzz.targets import TARGETS; print(*TARGETS)'); do
		echo "== $$target"
		PYTHONPATH=$(FUZZ) nice $(BIN)/python -m tests.fuzz $$target -max_total_time=$(FUZZ_S) -print_final_stats=1 2>.fuzz/$$target.log \
			|| { tail -n 40 .fuzz/$$target.log; echo "found: .fuzz/$$target/found-*; keep it in tests/fuzz/corpus/$$target/"; exit 1; }
		grep -E '^(Done|stat::number_of_executed_units|stat::peak_rss_mb)' .fuzz/$$target.log
	done

.PHONY: demo
demo:  ## the whole stack into a sealed server (root: mounts, namespaces), asked and audited; DEMO=--keep leaves it
	@echo "The whole stack, from names to a signed report: on two idle cores 5 minutes with everything cached,"
	echo "10 the first time; 10 GB of disk, a third of which stays as caches. First, what this machine lacks:"
	$(MAKE) setup
	$(BIN)/python -m tests.demo $(DEMO)

.PHONY: audit-truth
audit-truth: setup  ## every fault of tests/audit/plants.py on real servers (root), into docs/audit-truth.md; TRUTH="--place guest"
	@$(INSIDE) python -m tests.truth $(TRUTH)

.PHONY: audit-lynis
audit-lynis: setup  ## Lynis and the audit before and after hardening (root, apt), into docs/audit-truth.md
	@$(INSIDE) python -m tests.lynis $(LYNIS)

.PHONY: bench
bench: setup  ## speed against other tools, into docs/benchmarks.md (minutes, 27 GB); BENCH=--small tries it
	@$(INSIDE) python -m bench $(BENCH)

.PHONY: static
static: setup
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	if [[ -d playbooks ]]; then LC_ALL=C.UTF-8 $(INSIDE) ansible-lint --offline --strict playbooks; fi

.PHONY: format
format: setup  ## put the code into ruff's form and mend what it can
	@$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: lock
lock: setup  ## pin the development environment anew from pyproject.toml (needs an index)
	@$(BIN)/uv pip compile pyproject.toml --group dev --extra controller --extra rag --universal --python-version 3.11 \
		--generate-hashes --upgrade --no-emit-index-url --no-annotate --quiet \
		--custom-compile-command "make lock" --output-file $(LOCK)
	$(BIN)/uv pip compile --group fuzz --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-emit-index-url --no-annotate --quiet --custom-compile-command "make lock" --output-file $(FUZZ_LOCK)

.PHONY: clean
clean:  ## remove what these targets made here (BANIP_CACHE and built bundles stay)
	rm -rf $(VENV) .venv-fuzz-* .fuzz .mypy_cache .pytest_cache .ruff_cache .hypothesis .ansible
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
