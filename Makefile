# Kiln: everything people do with this repository. `make help` lists it.
#
# Needs Linux with a Rust toolchain, gcc and make. `make test` also uses dpkg, apt-get and gpgv, and says how to get what
# is missing.

CARGO ?= cargo
XTASK = $(CARGO) run --locked --package xtask --
XTASK_RELEASE = $(CARGO) run --locked --release --package xtask --
KILN = $(CURDIR)/target/release/kiln
SHOP = examples/shop

# How long `make fuzz` spends on each target.
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help build up test bench conformance fuzz

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

build: need-cargo need-cc ## Build the release binary, target/release/kiln
	$(CARGO) build --release --locked --package kiln --target-dir target

up: build ## Build Kiln, lock examples/shop and build its trees
	cd $(SHOP) && $(KILN) lock
	cd $(SHOP) && $(KILN) lock --check
	cd $(SHOP) && $(KILN) build --tree-only --no-locked
	cd $(SHOP) && $(KILN) why build web

test: need-cargo need-cc ## Run every check and every test
	@$(XTASK) ci

bench: build ## Measure Kiln against the tools it replaces
	$(XTASK_RELEASE) bench

conformance: build ## Compare selections with apt's on hundreds of sets, trees with mmdebstrap's on two dozen
	$(XTASK_RELEASE) conformance

fuzz: need-cargo need-cargo-fuzz ## Fuzz each parser for FUZZ_SECONDS (60)
	@for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do \
		mkdir -p fuzz/corpus/$$target; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

# What to say where a program is missing.
hint-cargo = install Rust 1.95 or newer: https://rustup.rs
hint-cc = apt-get install gcc libc6-dev
hint-cargo-fuzz = cargo install --locked cargo-fuzz

.PHONY: need-%
need-%:
	@command -v $* >/dev/null || { echo "error: $* is not installed" >&2; echo "hint: $(hint-$*)" >&2; exit 1; }
