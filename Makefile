# The project's commands. Each is one line in `make help`; what a target needs, it builds.

CARGO ?= cargo
GO ?= go
# Programs for the guest are optimised: its processor is emulated. See [profile.lab] in Cargo.toml.
PROFILE := lab
TARGET := $(or $(CARGO_TARGET_DIR),target)
LAB := $(abspath $(TARGET)/$(PROFILE)/lab)

PRODUCT := xpu-agent xpuctl xpu-cni
# The lab has the plugin as it is installed: what libc does in a static program is its own.
PROGRAMS := $(addprefix $(TARGET)/$(PROFILE)/,xpu-agent xpuctl) $(TARGET)/cni/xpu-cni

PYTHON_CLIENTS := target/conformance/python
SCHEMATHESIS := target/conformance/schemathesis
CLIENTS := cnitool drive kubestub manifest multus grpcurl

# A test built with these runs inside the lab's machine; where there are processors and memory for
# it, its tests are dealt to two machines.
IN_LAB := XPU_LAB_MACHINES=$$(( $$(nproc) > 1 ? 2 : 1 )) \
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(LAB) test"
# One set of packages and features for all that runs there: what is built once serves.
IN_LAB_TESTS := $(IN_LAB) $(CARGO) test --profile $(PROFILE) -p xpu-linux -p xpu-tests \
	--features xpu-linux/lab,xpu-tests/lab --no-fail-fast

# make test-native T=name, make test-lab T=name: only tests with that in their name.
T :=

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Show the whole path: VFs, pods, gateways, L2 and L3 EVPN to a foreign leaf
	$(CARGO) build --profile $(PROFILE) -p xpu-tests --bin demo
	$(LAB) test $(TARGET)/$(PROFILE)/demo

.PHONY: test
test: ## Run every test: unit and property, then in the lab's machine
	$(MAKE) test-native
	$(MAKE) test-lab

.PHONY: test-native
test-native: native-packages ## Run the tests that need no lab: unit, property, veth pairs
	$(CARGO) test --profile $(PROFILE) --workspace --exclude xpu-fuzz -- $(T)

# What these tests need of Debian: the shells that read xpuctl's completions, and the font of its
# topology. Elsewhere the tests themselves fail where something is missing.
NATIVE_PACKAGES := bash zsh fish fonts-dejavu-core
APT := DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300

.PHONY: native-packages
native-packages:
	@command -v dpkg-query > /dev/null || exit 0; \
	missing=$$(for package in $(NATIVE_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Abbrev}' $$package 2> /dev/null | grep -q ^ii || echo $$package; \
	done); \
	test -z "$$missing" || { echo "make: installing" $$missing && $(APT) update \
		&& $(APT) install --no-install-recommends $$missing; } \
	|| { echo "make: the tests need" $$missing": install that, or run this as root" >&2; exit 1; }

.PHONY: test-lab
test-lab: build ## Run the tests that need the lab's machine, in it
	$(LAB) push $(TARGET)/$(PROFILE)/xpu-cni-testbed
	$(IN_LAB_TESTS) --test lab_linux --test lab_selftest --test e2e -- $(T)

.PHONY: conformance
conformance: build conformance-tools conformance-rest ## Drive plugin and agent by clients that are not ours (needs Go and pip)
	$(IN_LAB_TESTS) --test conformance --test api_clients -- $(T)

# The clients that are not ours; tests/conformance has their versions.
.PHONY: conformance-tools
conformance-tools: lab-tools $(PYTHON_CLIENTS)/.done
	cd tests/conformance && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' \
		-o $(abspath $(TARGET))/conformance/ tool ./...
	cd tests/conformance/api && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' \
		-o $(abspath $(TARGET))/conformance/ tool
	$(LAB) push $(addprefix $(TARGET)/conformance/,$(CLIENTS))

# For the guest's Python, whatever the host's is. Below the work tree, which the guest sees.
$(PYTHON_CLIENTS)/.done: tests/conformance/api/requirements.txt
	rm -rf $(@D)
	python3 -m pip install --quiet --no-deps --target $(@D) --requirement $< --python-version 3.13 \
		--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --only-binary=:all:
	touch $@

# The HTTP face, held against its own description. Needs no lab.
.PHONY: conformance-rest
conformance-rest: $(SCHEMATHESIS)/.done
	$(CARGO) build --profile $(PROFILE) -p xpu-tests --features api --bin bench-api
	tests/conformance/rest/check $(TARGET)/$(PROFILE)/bench-api $(SCHEMATHESIS)

$(SCHEMATHESIS)/.done: tests/conformance/rest/requirements.txt
	rm -rf $(@D)
	python3 -m pip install --quiet --no-deps --target $(@D) --requirement $< --only-binary=:all:
	touch $@

# Fuzz targets, each a file of src/bin. All that they link is instrumented, as the configuration in
# their folder says. make fuzz FUZZ_SECONDS=900 T=cni_env
FUZZ := $(abspath $(TARGET))/fuzz
FUZZ_SECONDS := 30
FUZZ_TARGETS := $(notdir $(basename $(wildcard tests/fuzz/src/bin/*.rs)))
FUZZ_RUNS := $(addprefix fuzz-,$(if $(T),$(foreach it,$(FUZZ_TARGETS),$(if $(findstring $(T),$(it)),$(it))),$(FUZZ_TARGETS)))

.PHONY: fuzz
fuzz: fuzz-build ## Fuzz every target for FUZZ_SECONDS (30), as many at a time as there are processors
	+@$(MAKE) --no-print-directory --keep-going --jobs=$$(nproc) $(FUZZ_RUNS)

.PHONY: fuzz-build
fuzz-build:
	cd tests/fuzz && $(CARGO) build --profile fuzz --locked --target-dir $(FUZZ)

.PHONY: $(FUZZ_RUNS)
$(FUZZ_RUNS): fuzz-%:
	@tests/fuzz/run $* $(FUZZ) $(FUZZ_SECONDS)

.PHONY: lint
lint: ## Check format, lints (warnings are errors) and who may import whom
	$(CARGO) fmt --all --check
	$(CARGO) clippy --profile $(PROFILE) --workspace --all-targets --all-features -- -D warnings
	$(CARGO) metadata --format-version 1 --locked \
		| $(CARGO) run --quiet --profile $(PROFILE) -p xpu-tests --bin import-rule

.PHONY: build
build: lab-tools cni ## Build the product's programs and put them into the lab's PATH
	$(CARGO) build --profile $(PROFILE) $(addprefix -p ,$(PRODUCT)) --bins
	$(LAB) push $(PROGRAMS)

# The plugin as it is installed: one static program, since it is started once per pod interface.
CNI := $(CARGO) rustc --profile cni -p xpu-cni
STATIC := -C target-feature=+crt-static -C relocation-model=static

.PHONY: cni
cni: ## Build the CNI plugin as it is installed
	$(CNI) --bin xpu-cni -- $(STATIC)

.PHONY: gates
gates: bench-tools ## Count what the plugin asks of the kernel and what the agent holds; fail beyond their limits
	CHECK=1 $(BENCH_CNI) counts
	CHECK=1 $(BENCH_API) run bounds

.PHONY: bench-cni
bench-cni: build bench-tools bench-peers ## Measure the CNI plugin against floors and other plugins (needs Go)
	$(BENCH_CNI) $(BENCH)

# Which parts and how many samples: `make bench-cni BENCH='native --samples 10'`; see its --help.
BENCH :=
BENCH_CNI := $(TARGET)/$(PROFILE)/bench-cni

.PHONY: bench-api
bench-api: ## Measure the API under many clients, good and bad ones
	$(BENCH_API) run

BENCH_API := $(CARGO) run --profile $(PROFILE) -p xpu-tests --features api --bin bench-api --

.PHONY: bench-tools
bench-tools: cni
	$(CNI) --bin xpu-cni-testbed -- $(STATIC)
	$(CARGO) build --profile $(PROFILE) -p xpu-tests --bin bench-cni --bin lab --bin lab-guest
	mkdir -p $(TARGET)/bench
	$(CC) -O2 -static -o $(TARGET)/bench/least tests/bench/least.c

# The plugins that are not ours; tests/bench/go.mod has their versions.
.PHONY: bench-peers
bench-peers:
	cd tests/bench && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' \
		-o $(abspath $(TARGET))/bench/ tool

PREFIX ?= /usr/local
CNI_BIN ?= /opt/cni/bin
# systemd looks below /usr/local and /usr; for another PREFIX: UNITS=/etc/systemd/system.
UNITS ?= $(PREFIX)/lib/systemd/system
# What systemd-networkd is to leave alone, beside the units.
NETWORKD ?= $(patsubst %/,%,$(dir $(UNITS)))
# NetworkManager looks below /usr, for packages, and /etc, never below /usr/local.
NETWORK_MANAGER ?= $(if $(filter /usr,$(PREFIX)),/usr/lib,/etc)/NetworkManager
# The cargo profile of xpu-agent and xpuctl. What checks the installation takes what is built.
INSTALL_PROFILE ?= release

.PHONY: install
install: cni ## Install programs, manual pages, completions and what systemd reads below DESTDIR
	$(CARGO) build --profile $(INSTALL_PROFILE) $(addprefix -p ,$(PRODUCT)) --bins
	$(MAKE) --no-print-directory install-files

BUILT := $(TARGET)/$(INSTALL_PROFILE)
SHARE = $(DESTDIR)$(PREFIX)/share
# What is made for the installation, before it has its modes.
STAGE := $(TARGET)/stage

# Modes are said, since root's umask may leave nothing to others.
.PHONY: install-files
install-files:
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(CNI_BIN) $(SHARE)/man/man1 $(DESTDIR)$(UNITS)
	install -m 0755 $(BUILT)/xpu-agent $(BUILT)/xpuctl $(DESTDIR)$(PREFIX)/bin
	$(TARGET)/cni/xpu-cni install --bin-dir $(DESTDIR)$(CNI_BIN)
	rm -rf $(STAGE) && mkdir -p $(STAGE)/man
	$(BUILT)/xpuctl man --dir $(STAGE)/man
	install -m 0644 $(STAGE)/man/* $(SHARE)/man/man1
	$(BUILT)/xpuctl completion bash > $(STAGE)/bash
	install -D -m 0644 $(STAGE)/bash $(SHARE)/bash-completion/completions/xpuctl
	$(BUILT)/xpuctl completion fish > $(STAGE)/fish
	install -D -m 0644 $(STAGE)/fish $(SHARE)/fish/vendor_completions.d/xpuctl.fish
	install -D -m 0644 netconf-examples/agent.toml $(SHARE)/doc/xpu-agent/agent.toml
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' netconf-examples/systemd/xpu-agent.service > $(STAGE)/unit
	install -m 0644 $(STAGE)/unit $(DESTDIR)$(UNITS)/xpu-agent.service
	install -D -m 0644 netconf-examples/systemd/networkd.conf \
		$(DESTDIR)$(NETWORKD)/networkd.conf.d/50-xpu-agent.conf
	install -D -m 0644 netconf-examples/systemd/05-xpu-agent.network \
		$(DESTDIR)$(NETWORKD)/network/05-xpu-agent.network
	install -D -m 0644 netconf-examples/networkmanager/xpu-agent.conf \
		$(DESTDIR)$(NETWORK_MANAGER)/conf.d/50-xpu-agent.conf

# As root with a closed umask would install it.
INSTALLED := $(abspath $(TARGET))/installed

.PHONY: check-install
check-install: ## Install into a folder of target/, and check every file there
	rm -rf $(INSTALLED)
	umask 077 && $(MAKE) --no-print-directory install DESTDIR=$(INSTALLED) PREFIX=/usr/local \
		INSTALL_PROFILE=$(PROFILE)
	INSTALL_PROFILE=$(PROFILE) tests/install/check $(INSTALLED)

.PHONY: lab-tools
lab-tools:
	$(CARGO) build --profile $(PROFILE) -p xpu-tests --bin lab --bin lab-guest

.PHONY: lab
lab: lab-tools ## Boot the lab's machine (builds its image, installs what that takes)
	$(LAB) up

.PHONY: lab-image
lab-image: lab-tools ## Build the lab's guest image only
	$(LAB) image

.PHONY: lab-shell
lab-shell: lab ## Open a shell in the lab's machine
	$(LAB) shell

.PHONY: lab-down
lab-down: lab-tools ## End the lab's machines
	$(LAB) down
