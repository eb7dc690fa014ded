# make run       install what is missing, build in release mode, start a three-node cluster here
# make test      every check: format, lints, unit, property, integration, official clients, failover
# make chaos-ci  every failure drill once, or SUITE=messages; needs root for networks and power cuts
# make selftest  show that the drills catch planted bugs
# make compare   the same process faults for Apache RocketMQ, side by side (downloads; half an hour)
# make sim       deterministic simulation: SEEDS=1..200
# make bench     measure, and write the table in docs/performance.md
# make k8s-test  install into a real Kubernetes, kill and roll it under load (needs root, K8S_LAB)

SHELL := /bin/bash
# One target directory for every checkout of this user, so that a fresh clone builds warm.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/raftmq/target
CARGO := cargo

SEEDS ?= 1..200
# Our own code at speed; see simulation/fast.toml.
SIM := $(CARGO) build --locked --config simulation/fast.toml -p raftmq-simulation --features simulated

.PHONY: sim sim-quick sim-selftest run test setup check unit clients chaos chaos-ci selftest compare manifests bench k8s-test dashboards

setup:
	@./setup

run: setup
	$(CARGO) build --release --locked -p raftmq
	$(CARGO_TARGET_DIR)/release/raftmq dev --data-dir ./data

check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# Everything that runs inside cargo but for the official clients.
unit: setup
	$(CARGO) test --workspace --locked --exclude raftmq-chaos-tests

# Real processes, official clients, kill -9.
clients: setup
	$(CARGO) build --locked -p raftmq
	$(CARGO) test --locked -p raftmq-chaos-tests

# Failure drills with real processes: the quick ones.
chaos: setup
	$(CARGO) build --locked -p raftmq -p raftmq-chaos-tests
	rm -rf $(CARGO_TARGET_DIR)/chaos/smoke
	$(CARGO_TARGET_DIR)/debug/chaos --runs $(CARGO_TARGET_DIR)/chaos/smoke \
		suite smoke --jobs 3 --budget 10m --allow-missing

# Each drill of a suite once; counted in the ledger.
chaos-ci: setup
	$(CARGO) build --locked -p raftmq -p raftmq-chaos-tests
	rm -rf $(CARGO_TARGET_DIR)/chaos/ci
	$(CARGO_TARGET_DIR)/debug/chaos --runs $(CARGO_TARGET_DIR)/chaos/ci \
		--ledger chaos-tests/ledger.jsonl suite $(or $(SUITE),ci) --jobs 4 --budget 60m --seed $(or $(SEED),1)

# Shows that each planted bug is caught by its drill.
selftest: setup
	$(CARGO) build --locked -p raftmq-chaos-tests
	$(CARGO) build --locked -p raftmq --features planted-bugs --profile planted
	rm -rf $(CARGO_TARGET_DIR)/chaos/selftest
	RAFTMQ_BIN=$(CARGO_TARGET_DIR)/planted/raftmq $(CARGO_TARGET_DIR)/debug/chaos \
		--runs $(CARGO_TARGET_DIR)/chaos/selftest selftest --jobs 3

# RaftMQ beside Apache RocketMQ, whose released servers are fetched from Maven's repository. Not part
# of `test`: it downloads 100 MB and takes half an hour. Needs Java 17 and Maven.
compare: setup
	$(CARGO) build --release --locked -p raftmq -p raftmq-chaos-tests
	rm -rf $(CARGO_TARGET_DIR)/chaos/compare
	$(CARGO_TARGET_DIR)/release/chaos --runs $(CARGO_TARGET_DIR)/chaos/compare compare \
		--against rocketmq --against rocketmq-defaults --seed $(or $(SEED),1)

# Whole groups in virtual time under seeded faults: the first seed that fails, and where its trace is.
sim: setup
	$(SIM)
	$(CARGO_TARGET_DIR)/debug/sim run --seeds $(SEEDS) --directory $(CARGO_TARGET_DIR)/sim-runs

# Seeds run twice, seeds that once failed, and more for the rest of a minute.
sim-quick: setup
	$(SIM)
	$(CARGO_TARGET_DIR)/debug/sim --directory $(CARGO_TARGET_DIR)/sim-runs twice --seeds 1..3
	$(CARGO_TARGET_DIR)/debug/sim --directory $(CARGO_TARGET_DIR)/sim-runs run --budget-s 40 \
		--seeds $$(sed -n 's/^\([0-9][0-9]*\).*/\1/p' simulation/seeds.txt | paste -sd,),1..60

# The first seed that finds each planted bug.
sim-selftest: setup
	$(SIM)
	$(CARGO_TARGET_DIR)/debug/sim --directory $(CARGO_TARGET_DIR)/sim-runs selftest

manifests:
	deploy/check.sh

dashboards: setup
	$(CARGO) build --locked -p raftmq
	grafana/check.sh

test: check unit manifests clients chaos sim-quick dashboards

bench: setup
	$(CARGO) build --release --locked -p raftmq
	docs/bench.sh

k8s-test: setup
	$(CARGO) build --release --locked -p raftmq
	deploy/k8s-test.sh
