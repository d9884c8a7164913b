# What can be done with a checkout of bootd. `make` alone says so.

CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

.PHONY: help packages deps build deb demo test test-long test-fast test-kernel conformance bench bench-kernel lint doc clean

help:
	@echo "make demo         boot a virtual machine without a disk from bootd, in a lab that is removed again (root)"
	@echo "make test         every test, the virtual machines included (root)"
	@echo "make test-long    the same with ten minutes of fio --verify over iSCSI instead of one (root)"
	@echo "make test-kernel  the kernel engine in a virtual appserver; on this machine too, where it has device-mapper (root)"
	@echo "make test-fast    the tests that need neither root nor other programs"
	@echo "make conformance  libiscsi's whole suite on bootd and on tgt, both rows (root)"
	@echo "make bench        bootd beside its peers on this machine: minutes (root)"
	@echo "make bench-kernel the kernel engine beside lvcreate and targetcli, LIO beside bootd's target, in a virtual appserver"
	@echo "make build        bootd itself, optimised: $(TARGET)/release/bootd"
	@echo "make deb          the Debian package, with the kernel engine: $(TARGET)/debian/bootd_VERSION_ARCH.deb"
	@echo "make deps         install the Debian packages that demo and test need and that are missing (root); fetch newer iPXE"
	@echo "make lint         formatting, clippy and the documentation, with every warning an error"
	@echo "make clean        remove all that was built"

# The list, and what each package is for, is in tests/packages.
packages:
	@tests/install-packages

# With the boot programs that newer Debians have, for the tests alone.
deps: packages
	@mkdir -p $(TARGET)/bootd-tests
	@tests/newer-ipxe $(TARGET)/bootd-tests/newer-ipxe || [ $$? -eq 75 ]

build:
	$(CARGO) build --release --package bootd

# PROFILE=dev is a package of what the tests build, quickly made and slow: for trying out what is around the program.
PROFILE ?= release
deb:
	$(CARGO) build --profile $(PROFILE) --package bootd --features kernel
	@mkdir -p $(TARGET)/debian
	@packaging/debian/build $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/bootd $(TARGET)/debian

demo: packages
	$(CARGO) build --release --package bootd --package bootd-tests --bins
	@BOOTD_BIN=$(TARGET)/release/bootd $(TARGET)/release/bootd-demo

# CI=true: a test that can't run on this machine fails, where it would else say so and pass.
# The dependencies of other machines are fetched, too: the map of all of them is read without the network.
test: deps
	$(CARGO) fetch --locked
	CI=true BOOTD_BIN=$(TARGET)/debug/bootd $(CARGO) test --workspace \
	    --config "target.'cfg(unix)'.runner = '$(abspath tests/with-threads)'"

test-long: export BOOTD_FIO_SECONDS = 600
test-long: test

# Part of "make test", but for the native run: the engine's own suite, where this machine's kernel can. Disks that are files
# are tried there if BOOTD_TEST_SHARES names a directory on XFS or Btrfs.
test-kernel: packages
	CI=true $(CARGO) test --workspace --test kernel -- --nocapture
	@if [ -e /dev/mapper/control ] && [ -d /sys/kernel/config/target ]; then \
	    $(CARGO) test --package bootd-lvm --features faults --test engine -- $(if $(BOOTD_TEST_SHARES),,--skip files); \
	else echo "this machine has no device-mapper, or no LIO: no native run"; fi

test-fast:
	$(CARGO) fetch --locked
	$(CARGO) test --workspace --exclude bootd-tests
	$(CARGO) test --package bootd-tests --lib --test tidy

conformance: packages
	CI=true $(CARGO) test --workspace --test conformance -- --nocapture

bench: packages
	$(CARGO) build --release --package bootd-bench
	@$(TARGET)/release/bench report

bench-kernel: packages
	$(CARGO) build --release --package bootd-bench --features kernel
	@$(TARGET)/release/bench kernel

# Once as most people build it, and once with all that is left out there.
FEATURES := bootd/kernel,bootd-lvm/faults,bootd-bench/kernel
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --locked --workspace --all-targets --features $(FEATURES) -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --workspace --no-deps --features $(FEATURES)

clean:
	$(CARGO) clean
