# Bulkhead. `make` lists the targets; the two to start with are `make demo` and `make test`.

SHELL      := /bin/bash
ARCH       := $(shell uname -m)
SUDO       := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# musl where rustup can add it: a static musl program starts in a seventh of the time of a static glibc one.
MUSL       := $(ARCH)-unknown-linux-musl
GLIBC      := $(ARCH)-unknown-linux-gnu
HAVE_MUSL  := $(shell [ -d "$$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$(MUSL)" ] && echo yes)
CAN_MUSL   := $(if $(HAVE_MUSL),yes,$(shell command -v rustup >/dev/null 2>&1 && echo yes))
TARGET     ?= $(if $(CAN_MUSL),$(MUSL),$(GLIBC))
ifeq ($(TARGET),$(GLIBC))
export RUSTFLAGS += -C target-feature=+crt-static
endif
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

TOOLS      := runtime shim imgtool netctl
BIN        := $(CARGO_TARGET_DIR)/$(TARGET)/release
DEBUG_BIN  := $(CARGO_TARGET_DIR)/$(TARGET)/debug
STAMP      := $(CARGO_TARGET_DIR)/.setup-$(TARGET)
# What the demo needs, and what tests and checks need beyond that.
PACKAGES   := gcc libc6-dev musl-tools make iproute2 util-linux curl ca-certificates busybox-static docker-registry
TEST_PACKAGES := apache2-utils nftables iptables strace libseccomp-dev runc crun jq git openssl xz-utils bzip2 socat procps passt slirp4netns uidmap secilc

PREFIX         ?= /usr/local
DESTDIR        ?=
PROGRAM_PREFIX ?=
RUNTIME        ?= $(BIN)/runtime
# What starts the benchmarks' programs, such as a command that enters another root file system.
BENCH_IN       ?=
# What starts a virtual machine, and where it is built: see tests/vm/run.
VM_RUN         ?= /work/shared/tools/vm/vm-run.sh
VM_DIR         ?= /opt/vm

# What the demo builds: the tools alone, so that a newcomer waits for nothing else.
DEMO_PACKAGES ?= $(TOOLS:%=--package %)

.PHONY: help setup setup-demo build demo test check conformance bench size test-vm fuzz bless man completions install clean
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install what building and testing need (Debian or Ubuntu packages, the musl target); once
$(STAMP): Makefile
	@mkdir -p $(@D)
	@tests/install-packages $(PACKAGES) $(TEST_PACKAGES)
	@[ "$(TARGET)" != "$(MUSL)" ] || [ -n "$(HAVE_MUSL)" ] || rustup target add $(MUSL)
	@touch $@

setup-demo:
	@tests/install-packages $(PACKAGES)
	@[ "$(TARGET)" != "$(MUSL)" ] || [ -n "$(HAVE_MUSL)" ] || rustup target add $(MUSL)

build: ## Build the release binaries (static)
	cargo build --release --target $(TARGET) --workspace

demo: setup-demo ## The whole story in one run: build, push, pull, run, publish, restart, names, stop; leaves nothing
	cargo build --release --target $(TARGET) $(DEMO_PACKAGES)
	@$(SUDO) demo/run $(BIN)

test: setup ## Every test, from a clean checkout
	cargo build --target $(TARGET) --workspace --bins
	cargo test --target $(TARGET) --workspace --no-run
	$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" cargo test --offline --target $(TARGET) --workspace --no-fail-fast
	$(SUDO) tests/run $(DEBUG_BIN)

check: ## Formatting, lints, licences, docs, file sizes
	cargo fmt --all --check
	cargo clippy --target $(TARGET) --workspace --all-targets -- -D warnings
	cargo check --locked --manifest-path fuzz/Cargo.toml --lib --no-default-features
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	 else echo "check: cargo-deny is not installed: licences and bans not checked (cargo install cargo-deny)"; fi
	RUSTDOCFLAGS="-D warnings" cargo doc --target $(TARGET) -p sys -p contracts --no-deps --quiet
	@tests/check-sizes

conformance: build ## Black-box cases against RUNTIME= (default: ours), and against runc and crun where installed
	$(SUDO) tests/in-namespace $(BIN)/conformance --runtime $(RUNTIME)
	$(SUDO) tests/in-namespace $(BIN)/conformance --runtime $(RUNTIME) --view v2
	@for peer in runc crun; do if path=$$(command -v $$peer); then \
	   echo "== $$path"; for try in 1 2; do \
	     $(SUDO) tests/in-namespace $(BIN)/conformance --runtime $$path && break; \
	     [ $$try = 1 ] || exit 1; echo "== $$path again: a peer may lose a race once, two failing runs are a failure"; \
	   done; \
	 else echo "== $$peer is not installed: skipped"; fi; done

bench: build ## Side by side with the peers that are installed, in parts: ratios from one run (BENCH_IN= enters a userland that has them)
	@bad=; for part in "" "--engines --runs 12" "--logs --line 100,20,1000 --runs 4" "--net --runs 12" "--names --runs 4" "--images --runs 4"; do \
	   echo "== conformance bench $$part"; $(SUDO) $(BENCH_IN) $(BIN)/conformance bench --tools $(BIN) $$part || bad=1; done; [ -z "$$bad" ]
	@$(MAKE) --no-print-directory size

size: ## Sizes of the binaries, and source files over the soft limit
	@ls -l $(TOOLS:%=$(BIN)/%) 2>/dev/null | awk '{n=split($$9,p,"/"); printf "%-10s %8.2f MB\n", p[n], $$5/1e6}'
	@tests/check-sizes --list

test-vm: ## cgroup v2 alone, systemd as PID 1, AppArmor, an ordinary user: in a virtual machine (VM_RUN=, VM_DIR=)
	cargo build --release --target $(TARGET) $(TOOLS:%=--package %) --package conformance
	$(SUDO) env "VM_RUN=$(VM_RUN)" "VM_DIR=$(VM_DIR)" tests/vm/run $(BIN) || [ $$? = 77 ]

fuzz: ## Each reader of outside bytes for SECONDS_EACH=60 seconds (TARGETS=…)
	fuzz/run $(TARGETS)

bless: ## Rewrite the golden files from what the code gives now; read the diff
	BLESS=1 cargo test --target $(TARGET) --workspace

man: ## Man pages into dist/man
	cargo build --release --target $(TARGET) --workspace --features self-doc
	@for t in $(TOOLS); do $(BIN)/$$t self-doc man dist/man; done

completions: ## Shell completions into dist/completions
	cargo build --release --target $(TARGET) --workspace --features self-doc
	@for t in $(TOOLS); do $(BIN)/$$t self-doc completions dist/completions; done

install: build ## Install into PREFIX= (DESTDIR=, PROGRAM_PREFIX= honoured)
	@for t in $(TOOLS); do install -D -m 755 $(BIN)/$$t "$(DESTDIR)$(PREFIX)/bin/$(PROGRAM_PREFIX)$$t"; done
	@ln -sf $(PROGRAM_PREFIX)shim "$(DESTDIR)$(PREFIX)/bin/containerd-shim-bulkhead-v2"
	@install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system" "$(DESTDIR)$(PREFIX)/share/bulkhead"
	@for f in lib/systemd/system/bulkhead.service lib/systemd/system/bulkhead-look.service \
	   lib/systemd/system/bulkhead-look.timer share/bulkhead/bulkhead.init; do \
	   sed 's#@BIN@/shim#@BIN@/$(PROGRAM_PREFIX)shim#; s#@BIN@#$(PREFIX)/bin#; s#^\(\t\|\texec \)shim#\1$(PROGRAM_PREFIX)shim#' \
	     shim/boot/$${f##*/} >"$(DESTDIR)$(PREFIX)/$$f"; done
	@chmod 755 "$(DESTDIR)$(PREFIX)/share/bulkhead/bulkhead.init"

clean: ## Remove build output
	cargo clean
	rm -rf dist
