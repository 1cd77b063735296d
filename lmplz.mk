# make lmplz: KenLM's language model tools, built from the source distribution that PyPI carries (the wheel lacks them).
KENLM_VERSION := 0.3.0
KENLM_BIN := tools/kenlm/bin
LMPLZ_PACKAGES := build-essential cmake libboost-program-options-dev libboost-thread-dev
PYTHON ?= python3

# Good means that lmplz runs, not that a file is there: it links Boost, which a new machine may lack.
# --no-binary names kenlm alone: with :all: pip compiles CMake itself to read one line of metadata.
# KenLM asks for more than these two tools need: Boost's test library, its system library (newer Boosts have none), and
# zlib, bzip2 and lzma for packed text, which Python unpacks here.
.PHONY: lmplz
lmplz:
	@if echo a | $(KENLM_BIN)/lmplz -o 2 -S 64M --discount_fallback > /dev/null 2>&1 \
	  && test -x $(KENLM_BIN)/build_binary; then exit 0; fi; set -e; \
	fail() { echo "make lmplz: $$1" >&2; exit 1; }; packages='apt-get install $(LMPLZ_PACKAGES)'; \
	for tool in cmake c++ make; do command -v $$tool > /dev/null || fail "$$tool is missing: $$packages"; done; \
	echo 'building lmplz and build_binary from kenlm $(KENLM_VERSION) (about two minutes)'; \
	work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; trap 'exit 1' HUP INT TERM; \
	$(PYTHON) -m pip download --quiet --no-binary kenlm --no-deps --dest "$$work" kenlm==$(KENLM_VERSION) > "$$work/log" 2>&1 || { \
	  cat "$$work/log" >&2; fail 'no kenlm $(KENLM_VERSION) from PyPI by $(PYTHON) -m pip (message above)'; }; \
	tar xzf "$$work"/kenlm-*.tar.gz --strip-components=1 -C "$$work"; \
	sed -i -e '/^  unit_test_framework$$/d' -e '/^  system$$/d' -e 's/CXX_STANDARD 11/CXX_STANDARD 14/' "$$work/CMakeLists.txt"; \
	cmake -S "$$work" -B "$$work/build" -DKENLM_MAX_ORDER=6 -DENABLE_INTERPOLATE=OFF \
	  $(foreach name,ZLIB BZip2 LibLZMA,-DCMAKE_DISABLE_FIND_PACKAGE_$(name)=ON) > "$$work/log" 2>&1 || { \
	  tail -n 20 "$$work/log" >&2; fail "Boost is missing (message above): $$packages"; }; \
	cmake --build "$$work/build" --parallel 2 --target lmplz build_binary > "$$work/log" 2>&1 || { \
	  tail -n 40 "$$work/log" >&2; fail 'KenLM does not compile here (message above)'; }; \
	mkdir -p $(KENLM_BIN); for tool in build_binary lmplz; do \
	  cp "$$work/build/bin/$$tool" $(KENLM_BIN)/$$tool.new; mv $(KENLM_BIN)/$$tool.new $(KENLM_BIN)/$$tool; done
