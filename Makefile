# SPDX-License-Identifier: Apache-2.0

# Each target does its own set-up: on a fresh Debian machine only Go and make
# need to be there. Run as root, or install what scripts/setup asks for.

GO       ?= go
FUZZTIME ?= 1m
ROUNDS   ?= 11
ONLY     ?=
PROOF    ?= 0
CALLS    ?= 1000000
export CGO_ENABLED ?= 0

.PHONY: help demo test test-images conformance lint peers bench-check fuzz mutants build docs clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: build ## read and write the memory of a live process, in a minute
	bin/remora demo

test: ## run every test, on this and other platforms
	scripts/test

test-images: ## run the tests of kernel images on every kernel and every variant of it
	scripts/test-images

conformance: ## hold the engines against the running kernel (CALLS=1000000 random calls each)
	CALLS=$(CALLS) scripts/conformance

lint: ## hold the tree against its rules
	scripts/lint

peers: ## measure Remora beside its peers, and write docs/benchmarks.md (ROUNDS=11; ONLY=TEXT: print some rows)
	ROUNDS=$(ROUNDS) ONLY="$(ONLY)" scripts/peers

bench-check: ## hold the ratios of steady rows against docs/benchmarks.json (PROOF=10: see that it notices what it must)
	ONLY="$(ONLY)" PROOF=$(PROOF) scripts/peers check

fuzz: ## run every fuzz target in turn (FUZZTIME=1m each)
	FUZZTIME=$(FUZZTIME) scripts/fuzz

mutants: ## take away each check in turn, and see that a test notices
	scripts/mutants

build: ## build bin/remora
	@scripts/setup build
	$(GO) build -trimpath -o bin/remora ./cmd/remora

docs: ## write docs/commands and docs/man again
	@scripts/setup build
	$(GO) test -count=1 -run TestDocs ./internal/cli -update
	$(GO) test -count=1 -run TestInterfacesDocument ./compat -update

clean: ## remove what was built
	rm -rf bin
