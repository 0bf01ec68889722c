# The targets a user or a CI needs. `make help` lists them.

CARGO      ?= cargo
WASM       := wasm32-wasip2
COMPONENT  := dist/rapid7_insightidr.wasm
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
HOST       := $(TARGET_DIR)/release/host-harness
# One selection of packages for every build of the host, so that wasmtime is
# compiled once and not once for each set of features.
HOST_PACKAGES := -p host-harness -p insightidr-simulator -p rapid7-insightidr -p strip-names
GUEST_PACKAGES := -p probe-guest -p hostile-guest -p intruder-guest -p audit-log-connector
GUESTS     := $(TARGET_DIR)/$(WASM)/component

.DEFAULT_GOAL := help
.PHONY: help run test soak portable bus bench bench-scale bench-peers check fmt component host guests toolchain clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: component host ## Collect from a simulated InsightIDR for two tenants and show what comes of it
	@HOST_HARNESS=$(HOST) CONNECTOR=$(COMPONENT) host-harness/demo.sh

test: component guests ## Run all tests: unit, simulator, host, and the real component end to end
	CONNECTOR=$(abspath $(COMPONENT)) GUESTS=$(abspath $(GUESTS)) $(CARGO) test --release --no-fail-fast $(HOST_PACKAGES)
	$(CARGO) test -p audit-log-connector

soak: component guests ## Run the random tests for long: thousands of scenarios, hundreds of kills
	CONNECTOR=$(abspath $(COMPONENT)) GUESTS=$(abspath $(GUESTS)) SOAK_CASES=$(or $(SOAK_CASES),5000) SOAK_KILLS=$(or $(SOAK_KILLS),200) \
		$(CARGO) test --release --no-fail-fast $(HOST_PACKAGES) --test connector --test host -- --nocapture completeness:: fuzz:: crash::

portable: component host ## Run the connector in V8 as well, and compare what it collects (needs Node.js 20 and npm)
	@mkdir -p $(TARGET_DIR)/portability
	@cp tests/portability/* $(TARGET_DIR)/portability/
	npm install --no-package-lock --no-audit --no-fund --prefix $(TARGET_DIR)/portability
	node $(TARGET_DIR)/portability/run.mjs $(HOST) $(COMPONENT)

bus: component guests ## Deliver to a real NATS server that is killed meanwhile (needs the program nats-server)
	NATS_SERVER=$(or $(NATS_SERVER),nats-server) CONNECTOR=$(abspath $(COMPONENT)) GUESTS=$(abspath $(GUESTS)) \
		$(CARGO) test --release $(HOST_PACKAGES) --test host -- --ignored bus::

bench: component host ## Measure the cost of a step and of a poll, as ratios
	CONNECTOR=$(abspath $(COMPONENT)) $(CARGO) bench --profile release $(HOST_PACKAGES) --bench poll

bench-scale: component host ## Measure how cost grows with tenants, investigations, alerts and store: curves (half an hour)
	CONNECTOR=$(abspath $(COMPONENT)) $(CARGO) bench --profile release $(HOST_PACKAGES) --bench scale -- $(SCALE)

bench-peers: component host ## Compare with other collectors (installs them from PyPI into a throw-away directory)
	python3 tests/bench/peers/run.py --host $(HOST) --component $(COMPONENT) --results $(TARGET_DIR)/bench-peers.json $(PEERS)

check: toolchain ## Check format, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --all-targets $(HOST_PACKAGES) -- -D warnings
	$(CARGO) clippy --all-targets -p audit-log-connector -- -D warnings
	$(CARGO) clippy --profile component --target $(WASM) -p rapid7-insightidr $(GUEST_PACKAGES) -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --release --no-deps --document-private-items $(HOST_PACKAGES)

fmt: ## Format the code
	$(CARGO) fmt --all

# Paths of this machine do not belong into a component that others verify by its
# digest.
REMAP := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src= --remap-path-prefix=$(CURDIR)=
# With the compiler's own limit for inlining (225) the connector is a twelfth larger and no faster: docs/performance.md.
component guests: export CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS := $(REMAP) -Ctarget-feature=+simd128 -Cllvm-args=-inline-threshold=75

component: toolchain ## Build the connector: dist/rapid7_insightidr.wasm
	$(CARGO) build --profile component --target $(WASM) -p rapid7-insightidr
	@mkdir -p dist
	@$(CARGO) run --quiet --release -p strip-names -- $(TARGET_DIR)/$(WASM)/component/rapid7_insightidr.wasm $(COMPONENT)

guests: toolchain ## Build the example and the components that only tests use
	$(CARGO) build --profile component --target $(WASM) $(GUEST_PACKAGES)

host: ## Build the host: target/release/host-harness
	$(CARGO) build --release $(HOST_PACKAGES)

toolchain:
	@command -v $(CARGO) >/dev/null || { echo "error: Rust is not installed; see https://rustup.rs" >&2; exit 2; }
	@if command -v rustup >/dev/null; then rustup target list --installed | grep -qx $(WASM) || rustup target add $(WASM); fi

clean: ## Remove everything that was built
	$(CARGO) clean
	rm -rf dist
