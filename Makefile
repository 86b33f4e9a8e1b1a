# cirrusbench: `make demo` does the main job, `make test` passes the tests, `make` lists the rest.

# Every tool version is here and nowhere else; `go run` fetches a tool through the module proxy.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOTESTSUM     := gotest.tools/gotestsum@v1.13.0
BENCHSTAT     := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

GO      ?= go
BIN     := bin/cirrusbench
OUT     ?= out
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# The race detector needs a C compiler. Without one the tests still run, and say what they lack.
RACE := $(shell cc=$$($(GO) env CC); command -v $${cc%% *} >/dev/null 2>&1 && echo -race)

FUZZTIME ?= 20s
FUZZ     := $(shell grep -rlE '^func Fuzz' --include='*_test.go' internal | xargs -n1 dirname | sort -u)

.DEFAULT_GOAL := help
.PHONY: gate-sim gate-live
.PHONY: chromium uplot k8s-check
.PHONY: bench-replay bench-accuracy bench-deltas check-hlog
.PHONY: help build demo test cover fuzz bench lint fmt fmt-check tidy-check gen check lambda integration dist clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the binary, in bin/
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/cirrusbench

demo: build ## the main job, about 15 s after the build: bundled server, bundled captures, replay, D2–D5, forecast
	@OUT=$(OUT) BIN=$(BIN) sh tools/demo.sh

test: ## all tests, race detector and shuffle on
	@[ -n "$(RACE)" ] || echo "note: no C compiler found, so the tests run without the race detector" >&2
	@$(GO) run $(GOTESTSUM) --format pkgname-and-test-fails --hide-summary skipped -- $(RACE) -shuffle=on -timeout 30m ./... # the commands' own tests take six minutes on two free processors

.PHONY: bench-collector soak
bench-collector: build ## the collector against one sync a request, the wire's bytes, and an outage of 6 h (about 6 minutes)
	@CIRRUSBENCH_BINARY=$(abspath $(BIN)) $(GO) test -run '^$$' -bench '^BenchmarkCollect' -benchtime 1x -timeout 30m ./cmd/cirrusbench | grep -vE '^(PASS|ok|\?|[{])'

soak: ## fifty kills of a collector under load
	@CIRRUSBENCH_KILL_ROUNDS=50 $(GO) test -run '^TestCollectKill$$' -count=1 -v -timeout 30m ./cmd/cirrusbench

cover: ## test coverage by function
	@$(GO) test -coverprofile=cover.out -coverpkg=./internal/...,./cmd/... ./... >/dev/null && $(GO) tool cover -func=cover.out | tail -n 1

fuzz: ## every fuzz target for FUZZTIME (20s)
	@for dir in $(FUZZ); do for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go | sed 's/^func //'); do \
		echo "== $$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x ./$$dir || exit 1; done; done

bench: ## benchmarks; each prints a ratio to a named peer or limit
	@$(GO) test -run '^$$' -bench . -benchmem ./internal/... ./cmd/cirrusbench-lambda | grep -vE '^(PASS|ok|\?)'

bench-replay: build ## the load engine against wrk, hey and k6, which it installs; needs two quiet cores, some minutes
	@BIN=$(BIN) bash tools/bench-replay.sh

bench-accuracy: build ## due times, stalls and captured gaps against what they should be; needs a quiet machine, 2 min
	@$(GO) build -o bin/benchsink ./tools/benchsink
	@$(GO) run ./tools/bench-accuracy $(abspath $(BIN)) $(abspath bin/benchsink)

bench-deltas: ## D2–D5 of 100 million latencies against numpy, which it installs
	@bash tools/bench-deltas.sh

check-hlog: build ## a log of replay read by HdrHistogram's Java tool, which it installs
	@BIN=$(BIN) bash tools/check-hlog.sh

lint: ## golangci-lint
	@$(GO) run $(GOLANGCI_LINT) run --allow-parallel-runners ./...

fmt: ## format all Go code
	@$(GO) run $(GOLANGCI_LINT) fmt ./...

fmt-check:
	@$(GO) run $(GOLANGCI_LINT) fmt --diff ./...

tidy-check:
	@$(GO) mod tidy -diff

gen: ## rewrite generated files and golden files
	@$(GO) test ./cmd/cirrusbench ./internal/... -run 'Test' -update

gate-sim: ## how often the gate says what on made-up noisy runners; fails when it breaks its promise
	@$(GO) run ./tools/gate-sim

gate-live: build ## the gate against servers of known slowness on this machine, half an hour; see tools/gate-live.sh
	@BIN=$(BIN) sh tools/gate-live.sh all

check: fmt-check tidy-check lint test ## what CI runs: format, lint, floor plan, tests

k8s-check: ## the Kubernetes manifest against Kubernetes' own types
	@cd deploy/k8s/testdata/validate && $(GO) test ./...

chromium: ## the page about runs in a real browser, which it installs; CIRRUSBENCH_SCREENSHOTS=DIR keeps pictures
	@bash tools/chromium.sh

uplot: ## fetch the charting library of that page from npm again, and check it
	@bash tools/uplot.sh

lambda: ## the server as a Lambda function: a zip for arm64 and amd64 in dist/, and bin/bootstrap for this machine
	@for arch in arm64 amd64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -tags lambda.norpc -trimpath -ldflags '-s -w' \
			-o dist/lambda-$$arch/bootstrap ./cmd/cirrusbench-lambda && \
		$(GO) run github.com/aws/aws-lambda-go/cmd/build-lambda-zip -o dist/cirrusbench-lambda-$$arch.zip \
			dist/lambda-$$arch/bootstrap 2>/dev/null || exit 1; done
	@CGO_ENABLED=0 $(GO) build -tags lambda.norpc -trimpath -ldflags '-s -w' -o bin/bootstrap ./cmd/cirrusbench-lambda
	@ls -l dist/cirrusbench-lambda-*.zip dist/lambda-*/bootstrap

integration: build ## tests against real peers, which it installs and starts by itself
	@BIN=$(BIN) bash tools/integration.sh

.PHONY: soak-server
soak-server: build ## ten minutes of full load on the server with clients that disconnect: memory, goroutines, loss
	@CIRRUSBENCH_BINARY=$(CURDIR)/$(BIN) CIRRUSBENCH_SOAK=10m $(GO) test -tags integration -count=1 -timeout 20m -run '^TestIntegrationSoak$$' -v ./cmd/cirrusbench | grep -v 'serve: {'

dist: ## release archives with checksums, in dist/
	@sh tools/dist.sh "$(VERSION)" '$(LDFLAGS)'

clean:
	@rm -rf bin dist $(OUT) cover.out

.PHONY: bench-invocations
bench-invocations: build ## speed of reading a 1 GB log against mawk and wc -l, with peak memory
	@BIN=$(BIN) GO=$(GO) sh tools/bench-invocations.sh
