# SPDX-License-Identifier: GPL-2.0
#
# The only entry point. "make help" lists what there is.
#
# Kbuild reads Kbuild, not this file, when it builds the module.

SCRIPTS := scripts
OUT     := out
NAME    := $(or $(KERNEL),$(KDIR))
CARGO   := $(SCRIPTS)/cargo
# What the module is built with, if that was said.
CHOSEN  := $(if $(ARCH),ARCH=$(ARCH)) $(if $(LLVM),LLVM=$(LLVM)) \
	$(if $(filter command%,$(origin CC)),CC=$(CC))

export KEEP T N SEED PEER KERNEL PAIR TOOLS AWAKE SHARD JOBS

.PHONY: help build tools check test demo sim mutants coverage nodes golden fuzz bench fmt doc install uninstall clean

# Products for all to see: the module of the kernel asked for and the tools.
build: ## drbd.ko: KDIR=<kernel build folder> [ARCH=um] [LLVM=…|CC=…], or KERNEL=fast|debug|stock
	@$(SCRIPTS)/build-module $(NAME) $(CHOSEN)

tools: ## drbdadm, drbdsetup, drbdmeta: one program, whose path is printed
	@$(SCRIPTS)/build-tools

check: ## what needs no kernel: format, lints, tidiness, unit and golden tests, 200 seeds
	$(CARGO) fmt --all --check
	@$(SCRIPTS)/format-module --check
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	$(CARGO) test --quiet --workspace

test: check ## check, 20000 seeds, then the scenarios on two nodes with the debug kernel
	@$(CARGO) run --quiet --profile sim -p drbd-sim --bin drbd-sim -- n=20000 all=1
	@$(SCRIPTS)/nodes test

nodes: ## node scenarios: T=<names> runs some, N=<n> sets the rounds of the long ones
	@$(SCRIPTS)/nodes run

demo: ## the lab on two nodes with Debian's own kernel under QEMU; KEEP=1 leaves them running
	@$(SCRIPTS)/nodes demo

bench: ## our module against the C driver, interleaved, on the fast kernel
	@$(SCRIPTS)/nodes bench

sim: ## the core in a simulator: SEED=<n> repeats one run with a trace, N=<n> runs many, PEER=c mixes
	@$(CARGO) run --quiet --profile sim -p drbd-sim -- \
		$(if $(SEED),seed=$(SEED),n=$(or $(N),1000) all=1) $(if $(PEER),peer=$(PEER))

mutants: ## bugs put back until seeds notice (BUG=<n>, N=<seeds>), then generated ones: SHARD=<k>/<n>, SCORE=1
	@$(if $(SHARD)$(SCORE),,$(CARGO) run --quiet --profile sim -p drbd-sim --bin drbd-mutants -- \
		n=$(or $(N),2000) $(if $(BUG),bug=$(BUG)))
	@$(if $(BUG),,$(SCRIPTS)/mutants $(if $(SCORE),score,run))

coverage: ## lines, packet handlers and state transitions of the two crates that tests run; N=<seeds>
	@$(SCRIPTS)/coverage

golden: ## only the tests against recorded bytes and snapshots
	@$(CARGO) test --quiet -p drbd_format -p drbd_core --lib --tests -- recorded as_reviewed

fuzz: ## hostile input of all kinds: N=<executions> over all targets (else 60 s each), T=<targets>
	@N=$(N) $(SCRIPTS)/fuzz run $(T)

fmt: ## formats every source file
	@$(CARGO) fmt --all
	@$(SCRIPTS)/format-module

doc: ## the crates' documentation, in target/doc
	@$(CARGO) doc --quiet --no-deps --workspace --document-private-items

install: build tools ## module to the updates folder of its kernel, tools to PREFIX (/usr)
	@$(SCRIPTS)/install $(or $(NAME),/lib/modules/$(shell uname -r)/build) $(CHOSEN)

uninstall: ## takes back what install did: PREFIX (/usr), every kernel
	@$(SCRIPTS)/uninstall

clean: ## removes what was built in the checkout; the caches outside stay
	rm -rf --one-file-system $(OUT) target

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | \
		expand -t 17
