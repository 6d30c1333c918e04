# Drydock: `make run` serves, `make test` checks everything. Both install what is missing (as root, on Debian 12 and 13
# and Ubuntu 24.04) and need Rust's rustup. `make help` lists the rest.

LISTEN        ?= 127.0.0.1:8080
STATE_DIR     ?= /var/lib/drydock
DRYDOCK_CACHE ?= $(HOME)/.cache/drydock

# The node image and the catalogue of container images that tests use, made once; a server has its own below STATE_DIR.
TEST_IMAGES    := $(DRYDOCK_CACHE)/images
RUN_IMAGES     := $(or $(DRYDOCK_IMAGES),$(STATE_DIR)/images)
TEST_CATALOGUE := $(DRYDOCK_CACHE)/catalogue
RUN_CATALOGUE  := $(or $(DRYDOCK_CATALOGUE),$(STATE_DIR)/catalogue)

BIN  := target/release/drydock
PAGE := dist/index.html

# Tests compile without optimising: the program that they run is made of what they are made of.
TESTED := target/debug/drydock

# Where npm is if the machine has none.
NPM := $(DRYDOCK_CACHE)/npm
# And Chromium, if tests can't drive the machine's own.
CHROMIUM := $(DRYDOCK_CACHE)/chromium

# `sudo make` often loses the way to Cargo.
export PATH := $(HOME)/.cargo/bin:$(CHROMIUM)/bin:$(PATH):$(NPM)/bin
NICE := nice -n 10

# What the page and the program are made from. Found anew each time, so that a new file counts at once.
COMMON     := Cargo.toml Cargo.lock rust-toolchain.toml
PAGE_FROM  := $(COMMON) $(shell find frontend static sandbox/protocol -type f \
                -not -path 'static/node_modules/*' -not -path 'static/gen/*' -not -name '.*')
BIN_FROM   := $(COMMON) $(shell find backend sandbox -type f -not -name '.*' -not -path '*/tests/*' -not -path '*/benches/*' \
                -not -path '*/gen/*' -not -path 'sandbox/catalogue/programs/*' -not -path 'sandbox/wasm/*')
PROGRAMS_FROM := $(COMMON) sandbox/features/Cargo.toml $(shell find sandbox/catalogue/programs -type f -not -name '.*' -not -name '*.wasm')
KUBE_CRATES := apimachinery apis apiserver controllers etcd features go insecure-tls kube kubeclient protocol runtime scheduler
KUBE_FROM  := $(COMMON) $(shell find $(KUBE_CRATES:%=sandbox/%) -type f -not -name '.*' -not -path '*/tests/*' -not -path '*/benches/*')
WASM_FROM  := $(COMMON) sandbox/features/Cargo.toml sandbox/wasm/Cargo.toml $(shell find sandbox/wasm/src -type f -not -name '.*')

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run build image programs packages toolchain test test-v2 test-host test-browser format lint bench clean root

say = printf '\n==> %s\n'

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n  LISTEN=%s  STATE_DIR=%s  DRYDOCK_CACHE=%s\n' '$(LISTEN)' '$(STATE_DIR)' '$(DRYDOCK_CACHE)'

run: root $(BIN) ## Install, build and serve on LISTEN
	@$(call prepare_image,$(BIN),$(RUN_IMAGES),$(TEST_IMAGES))
	@$(call prepare_catalogue,$(BIN),$(RUN_CATALOGUE),$(TEST_CATALOGUE),--basic) \
	    || echo "Not all container images could be made; nodes find those that are there (drydock image catalogue)." >&2
	@$(say) "Serving on http://$(LISTEN)"
	@exec $(BIN) --state-dir '$(STATE_DIR)' serve --listen '$(LISTEN)'

build: $(BIN) ## Install what is missing and build target/release/drydock

image: root $(BIN) ## Prepare the node image and the basic container images below STATE_DIR
	@$(call prepare_image,$(BIN),$(RUN_IMAGES),$(TEST_IMAGES))
	@$(call prepare_catalogue,$(BIN),$(RUN_CATALOGUE),$(TEST_CATALOGUE),--basic)

root:
	@if [ "$$(id -u)" != 0 ]; then \
	    echo "This needs root: sessions are made of namespaces, control groups and mounts. Try: sudo -E make $(MAKECMDGOALS)" >&2; \
	    exit 1; \
	fi

# === What must be there

packages:
	@.ci/packages run
	@if ! command -v npm > /dev/null; then $(say) "Installing npm into $(NPM)"; node .ci/npm.mjs '$(NPM)'; fi

# Only what is missing is fetched; with everything there this needs no Internet.
toolchain:
	@if ! command -v cargo > /dev/null; then \
	    echo "Cargo is missing. Install rustup (https://rustup.rs, or Debian's package rustup) for this user; with sudo, say: sudo -E env PATH=\"\$$PATH\" make $(MAKECMDGOALS)" >&2; \
	    exit 1; \
	fi
	@if command -v rustup > /dev/null; then \
	    if ! rustc --version > /dev/null 2>&1; then \
	        $(say) "Installing the Rust toolchain that rust-toolchain.toml names"; rustup toolchain install; \
	    fi; \
	    if [ ! -d "$$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown" ]; then \
	        $(say) "Installing Rust's wasm32 target"; rustup target add wasm32-unknown-unknown; \
	    fi; \
	fi

# === Building

# Its program, what makes that loadable, and what puts all together.
$(PAGE): $(PAGE_FROM) | packages toolchain
	@$(say) "Building the page"
	@RUSTC_WORKSPACE_WRAPPER= $(NICE) cargo build --locked --profile wasm-release --target wasm32-unknown-unknown -p frontend
	@$(NICE) cargo run --quiet --locked --profile tool -p drydock-bindgen -- \
	    target/wasm32-unknown-unknown/wasm-release/frontend.wasm static/gen/program
	@$(NICE) node static/build.mjs
	@touch $@

# static PROFILE PROGRAM CRATE FLAGS: builds a program that needs no libraries where it runs. Only its own crate is told so: what it is
# made of is what the other programs are made of, compiled once (sandbox/features).
release := --release
# As the tests have it.
debug   := --features drydock-features/tests
define static
	$(NICE) cargo rustc $($(1)) --locked -p $(3) --bin $(2) -- -C target-feature=+crt-static -C strip=symbols $(4)
endef

# programs PROFILE LEVEL: how the programs of containers are made in a profile, and packed, and with them the program.
define programs
# What runs in the catalogue's own images. Static, since their images have nothing else in them.
PROGRAMS_$(1) := $(patsubst %,sandbox/catalogue/gen/$(1)/%,hello whoami pause)
# What runs in the images of a cluster's control plane.
KUBE_$(1)     := sandbox/catalogue/gen/$(1)/drydock-kube.gz
# What runs WebAssembly containers.
WASM_$(1)     := sandbox/wasm/gen/$(1)/drydock-wasm.gz

$$(PROGRAMS_$(1)) &: $$(PROGRAMS_FROM) | packages toolchain
	@$$(say) "Building the programs of the catalogue's own images"
	@$(foreach program,hello whoami pause,$$(call static,$(1),$(program),drydock-programs);) \
	    install -D -t $$(@D) $(patsubst %,target/$(1)/%,hello whoami pause)

# With rustc alone: the page's target has no WASI, so the modules call it themselves and need no crate.
sandbox/catalogue/gen/$(1)/%.wasm: sandbox/catalogue/programs/wasm/%.rs rust-toolchain.toml | packages toolchain
	@$$(say) "Building the module $$*.wasm"
	@mkdir -p $$(@D)
	@rustc --edition 2024 --target wasm32-unknown-unknown -O -C panic=abort -C strip=symbols -o $$@ $$<

$$(WASM_$(1)): $$(WASM_FROM) | packages toolchain
	@$$(say) "Building what runs WebAssembly containers"
	@$$(call static,$(1),drydock-wasm,drydock-wasm)
	@mkdir -p $$(@D); gzip -$(2)nc target/$(1)/drydock-wasm > $$@

# At a fixed address: moved elsewhere, each of a cluster's four processes would have 2 MB of pointers of its own.
$$(KUBE_$(1)): $$(KUBE_FROM) | packages toolchain
	@$$(say) "Building the control plane"
	@$$(call static,$(1),drydock-kube,drydock-kube,-C relocation-model=static)
	@mkdir -p $$(@D); gzip -$(2)nc target/$(1)/drydock-kube > $$@

# The page and the programs are part of the program, so they come first.
target/$(1)/drydock: $$(BIN_FROM) $$(PAGE) sandbox/catalogue/gen/$(1)/hello.wasm $$(PROGRAMS_$(1)) $$(WASM_$(1)) $$(KUBE_$(1)) | packages toolchain
	@$$(say) "Building $$@"
	@$$(NICE) cargo build $$($(1)) --locked -p drydock
	@touch $$@
endef
$(eval $(call programs,release,9))
$(eval $(call programs,debug,1))

programs: sandbox/catalogue/gen/debug/hello.wasm $(PROGRAMS_debug) $(WASM_debug) $(KUBE_debug)

# prepare_image BINARY DIRECTORY OTHER: builds the node image in DIRECTORY if it is missing, or copies it from OTHER.
define prepare_image
	if [ ! -e '$(2)/index.json' ] && [ -e '$(3)/index.json' ]; then \
	    $(say) "Copying the node image from $(3)"; \
	    $(1) image --images '$(3)' export node - | $(1) image --images '$(2)' import -; \
	else \
	    [ -e '$(2)/index.json' ] || { $(say) "Preparing the node image in $(2) (once; about a minute)"; }; \
	    $(1) image --images '$(2)' build --if-missing > /dev/null; \
	fi
endef

# prepare_catalogue BINARY DIRECTORY OTHER IMAGES: adds the images that DIRECTORY lacks, or has from older recipes; takes what OTHER has
# first.
define prepare_catalogue
	if [ ! -e '$(2)/index.json' ] && [ -e '$(3)/index.json' ]; then \
	    $(say) "Copying the container images from $(3)"; \
	    $(1) image --catalogue '$(3)' catalogue export - | $(1) image --catalogue '$(2)' catalogue import - > /dev/null; \
	fi; \
	[ -e '$(2)/index.json' ] || { $(say) "Preparing container images in $(2) (once)"; }; \
	$(1) image --catalogue '$(2)' add --if-missing $(4) > /dev/null
endef

# === Tests

# What tests run in nodes.
TEST_CONTAINERS := --basic debian nginx

# prepare_tests BINARY
define prepare_tests
	$(call prepare_image,$(1),$(TEST_IMAGES),$(RUN_IMAGES)); \
	$(call prepare_catalogue,$(1),$(TEST_CATALOGUE),$(RUN_CATALOGUE),$(TEST_CONTAINERS))
endef
# What the tests of the whole program need beside it.
browser = .ci/packages test browser; command -v chromedriver > /dev/null || .ci/chromium '$(CHROMIUM)'
prepared = DRYDOCK_IMAGES=$(TEST_IMAGES) DRYDOCK_CATALOGUE=$(TEST_CATALOGUE) DRYDOCK_BIN=$(CURDIR)/$(1)

# In tests our own crates are compiled by Clippy, which is told what `cargo clippy -- -D warnings` tells it (its src/main.rs): nothing is
# compiled once more for lints alone. The page is as it is served.
test test-host test-browser: export RUSTC_WORKSPACE_WRAPPER := clippy-driver
test test-host test-browser: export CLIPPY_ARGS := -Dwarnings__CLIPPY_HACKERY__

# The next tests are compiled while the first ones run, which mostly wait.
test: ahead = nice -n 19 cargo test --quiet --locked -p frontend --no-run && \
    nice -n 19 cargo test --quiet --locked -p drydock-e2e --all-targets --no-run
test: format test-host test-browser ## Install what is missing and run every check and test
	@$(say) "All tests passed"

format: | packages toolchain
	@$(say) "Format"
	@cargo fmt --all --check

lint: format ## Format and lints alone
	@$(say) "Lint"
	@# The page too: nothing in it is for its own target only.
	@$(NICE) cargo clippy --locked --workspace --all-targets -- -D warnings

# The page and the browser tests want other features of common libraries, of which one (the order of JSON's maps) would be another program.
HOST_CRATES := --workspace --exclude drydock-e2e --exclude frontend --exclude drydock-bindgen

test-host: root $(TESTED) ## Unit and integration tests
	@.ci/packages test
	@# They are compiled while the images are prepared, and with them benchmarks and fuzz targets, for the lints.
	@$(NICE) cargo test --quiet --locked $(HOST_CRATES) --all-targets --no-run & compiler=$$!; \
	    trap 'kill $$compiler 2> /dev/null || true' EXIT; \
	    $(call prepare_tests,$(TESTED)); \
	    wait $$compiler
	@$(say) "Unit and integration tests"
	@# Cargo compiles one thing at a time: the next begins with the first line of a test.
	@$(call prepared,$(TESTED)) $(NICE) cargo test --locked $(HOST_CRATES) | \
	    { IFS= read -r line; echo "$$line"; ($(or $(ahead),true)) & cat; wait $$!; }
	@$(say) "Tests of the page's logic"
	@$(NICE) cargo test --locked -p frontend

test-browser: root $(TESTED) ## Tests of the whole program, by browser and by the official clients
	@$(browser)
	@$(call prepare_tests,$(TESTED))
	@$(say) "Tests of the whole program"
	@$(call prepared,$(TESTED)) $(NICE) cargo test --locked -p drydock-e2e --all-targets --no-run
	@# Those of clusters mostly wait: they run beside the others, and are heard when these are done.
	@export $(call prepared,$(TESTED)); \
	    RUST_TEST_THREADS=4 $(NICE) cargo test --locked -p drydock-e2e --test 'k*' > target/clusters.log 2>&1 & clusters=$$!; \
	    trap 'kill $$clusters 2> /dev/null || true' EXIT; failed=0; \
	    $(NICE) cargo test --locked -p drydock-e2e --lib --test '[!k]*' || failed=1; \
	    wait $$clusters || failed=1; \
	    cat target/clusters.log; exit $$failed

test-v2: root $(BIN) ## The sandbox's and the engine's tests on Debian 13 with control groups v2, in a virtual machine (6 minutes)
	@.ci/packages v2
	@$(call prepare_tests,$(BIN))
	@$(call prepared,$(BIN)) e2e/outside/cgroup-v2.sh

bench: root $(BIN) ## Measure start, echo, output, memory; prints medians and ratios
	@$(browser)
	@$(call prepare_tests,$(BIN))
	@$(call prepared,$(BIN)) cargo bench --locked -p drydock-warden -p drydock-e2e

clean: ## Delete what was built here (not images or the state directory)
	cargo clean
	rm -rf dist static/gen static/node_modules sandbox/catalogue/gen sandbox/wasm/gen
