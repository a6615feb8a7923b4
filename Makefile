# `make` or `make help` lists what there is to do.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build image release demo task-file test test-unit test-e2e test-sam fuzz bench bench-report lint golden clean tools test-tools bench-tools sam-tools check go

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Binaries are static, stripped, and the same wherever they are built.
GO_BUILD = CGO_ENABLED=0 go build -trimpath
BUILD_FUNCTION = $(GO_BUILD) -tags lambda.norpc -ldflags '-s -w' -o $(2) ./functions/$(1)
FUNCTIONS = $(patsubst functions/%/main.go,%,$(wildcard functions/*/main.go))

GO_TEST = go test -race -shuffle=on -timeout 20m
# End-to-end tests are those in e2e and all that use it; they need what `make tools` installs.
# e2e/golden only compares files. e2e/sam runs Docker, which is not everywhere: `make test-sam`.
TESTED = go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep -v '^ecsmesh/e2e/sam ' | \
	awk '{ needs = $$0; gsub(/ecsmesh\/e2e\/golden/, "", needs) } needs $(1) /ecsmesh\/e2e/ { print $$1 }'
UNIT = $(shell $(call TESTED,!~))
E2E = $(shell $(call TESTED,~))

GOLANGCI_LINT = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK = go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
VULNDB ?= https://vuln.go.dev
# Licences of what we build upon. MPL-2.0, of the client of Consul, asks for changes of its own files alone.
LICENSES = Apache-2.0,BSD-2-Clause,BSD-3-Clause,ISC,MIT,MPL-2.0

help: ## Show this list
	@echo 'ecsmesh puts AWS ECS tasks into a Consul service mesh.'
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Start with `make demo`. It needs Linux, Go 1.26, Python 3.10, git, make and gcc, and the first time some minutes.'

# TASK is a file with plain task definitions. It is looked at before anything is installed or started.
demo: task-file tools build ## Watch tasks join and leave a real mesh; KEEP=1 leaves it running, SECURE=1 is with TLS and ACLs; TASK=file [PROGRAM=./server] [MESH=block.yaml] has your own tasks in it
	@go run ./e2e/demo

task-file: go
	@[ -z "$$TASK$$PROGRAM" ] || go run ./e2e/demo -check

test: tools test-tools build check ## Prove that everything works: unit, integration and end-to-end tests
	$(GO_TEST) $(UNIT) $(E2E)

test-unit: check ## Test only what needs no Consul, Envoy or AWS emulator
	$(GO_TEST) $(UNIT)

test-e2e: tools test-tools build ## Test only what needs them
	$(GO_TEST) $(E2E)

test-sam: tools sam-tools ## Test build, local invoke, package and deploy with AWS's SAM CLI; starts Docker where none runs
	go test -count=1 -v -timeout 20m ./e2e/sam

# Go takes one fuzz target at a time. It keeps what makes one fail in testdata/fuzz, where it is a test from then on.
FUZZTIME ?= 10s
fuzz: go ## Try made-up input on all that reads from outside; FUZZTIME=10s each, longer finds more
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' functions shared initcontainer | sort | \
	sed 's,/[^/]*:func , ,' | while read -r package target; do \
		echo "$$target in $$package for $(FUZZTIME)"; \
		go test "./$$package" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x || exit 1; \
	done

# One thing is measured at a time, and once: each benchmark repeats by itself what varies. PEER='command' is another
# that BenchmarkTaskStart runs beside ecsmesh-init.
BENCH ?= .
bench: tools bench-tools build ## Measure what ecsmesh costs: BENCH=pattern for some, PEER='command' to compare a task's start with
	PEER='$(PEER)' go test ./e2e/bench -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 20m

FROM ?= dist/bench.json
bench-report: go ## Write docs/performance from what `make bench` measured; FROM=file
	go run ./e2e/bench/report $(FROM)

build: dist/ecsmesh-init dist/ecsmesh-task $(FUNCTIONS:%=dist/%/bootstrap) ## Build dist/ecsmesh-init, dist/ecsmesh-task and dist/<function>/bootstrap for this host

# Always: Go knows best what is up to date.
dist/ecsmesh-init: go
	$(GO_BUILD) -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./initcontainer/cmd/ecsmesh-init
dist/ecsmesh-task: go
	$(GO_BUILD) -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./functions/mesh-task/cmd/ecsmesh-task
dist/%/bootstrap: go
	$(call BUILD_FUNCTION,$*,$@)

# The image: PLATFORM is that of the tasks' cpuArchitecture, and may list several with commas.
IMAGE ?= ecsmesh-init:$(VERSION)
PLATFORM ?= linux/amd64
image: ## Build the init container's image; IMAGE=name:tag, PLATFORM=linux/arm64, IPTABLES=1 for transparentProxy
	@command -v docker >/dev/null || { echo 'make image needs Docker, and there is no docker on the PATH' >&2; exit 1; }
	docker build --platform $(PLATFORM) --target $(if $(IPTABLES),with-iptables,plain) --build-arg VERSION=$(VERSION) --tag $(IMAGE) --file initcontainer/Dockerfile .

release: go ## Write what a version is published as to dist/release; VERSION=1.2.3
	go run ./e2e/release -version '$(if $(filter command line,$(origin VERSION)),$(VERSION))'

lint: tools ## Look for mistakes, for what is insecure, and for dependencies that are
	@e2e/tools/setup.sh lint
	$(GOLANGCI_LINT) run
	@mkdir -p dist
	.tools/venv/bin/python e2e/template/expand.py template.yaml >dist/template.json
	.tools/venv/bin/python .tools/venv/bin/cfn-lint dist/template.json examples/*.yaml
	.tools/lint/bin/python .tools/lint/bin/checkov --config-file .checkov.yaml --file dist/template.json examples/*.yaml
	cd e2e/tools/licenses && go build -mod=mod -o $(CURDIR)/.tools/bin/go-licenses github.com/google/go-licenses/v2
	.tools/bin/go-licenses check ./... --ignore ecsmesh --allowed_licenses $(LICENSES)
	@if $(GOVULNCHECK) -db $(VULNDB) ./... >dist/govulncheck.txt 2>&1; then \
		echo 'govulncheck: no code that is known to be vulnerable is called'; \
	elif grep -q '^govulncheck: fetching vulnerabilities: ' dist/govulncheck.txt; then \
		echo 'govulncheck was NOT run: it gets no answer from $(VULNDB); VULNDB=URL names a copy'; \
	else \
		cat dist/govulncheck.txt; exit 1; \
	fi

# Those of e2e/sam, which take SAM and Docker: go test ./e2e/sam -run Golden -update
GOLDEN = $(filter-out ./e2e/sam/,$(sort $(dir $(shell grep -rl --include='*_test.go' 'golden[.]Expect' ./functions ./shared ./initcontainer ./e2e))))
golden: tools build ## Write the golden files anew, to be read in git's diff
	go test $(GOLDEN) -run Golden -update

clean: ## Remove what was built (.tools, which took minutes, stays)
	rm -rf dist .aws-sam

tools: go ## Install Consul, Envoy and the AWS emulator into .tools
	@e2e/tools/setup.sh

bench-tools: go
	@e2e/tools/setup.sh bench

test-tools: go
	@e2e/tools/setup.sh test

sam-tools: go
	@e2e/tools/setup.sh sam

check: go
	@unformatted=$$(gofmt -l functions shared initcontainer e2e) && [ -z "$$unformatted" ] || { echo "run gofmt -w on: $$unformatted" >&2; exit 1; }
	go vet ./...

go:
	@command -v go >/dev/null || { echo 'Go is missing: see https://go.dev/dl' >&2; exit 1; }

# `sam build` runs these, one for each function, without saying for which architecture: the template does. Who builds
# another one, by `sam build --template`, names it in the environment, too.
TEMPLATE ?= template.yaml
ARCHITECTURE = $(shell sed -n 's/^ *Architectures: *\[\(.*\)\]$$/\1/p' $(TEMPLATE))
GOARCH_arm64 = arm64
GOARCH_x86_64 = amd64
SAM_BUILDS = build-PublishServersFunction build-DeregisterTasksFunction build-SweepFunction build-SetupAclFunction build-MeshTaskFunction build-DeploymentHookFunction
.PHONY: $(SAM_BUILDS)
build-PublishServersFunction: NAME = publish-servers
build-DeregisterTasksFunction: NAME = deregister-tasks
build-SweepFunction: NAME = sweep
build-DeploymentHookFunction: NAME = deployment-hook
build-SetupAclFunction: NAME = setup-acl
build-MeshTaskFunction: NAME = mesh-task
$(SAM_BUILDS):
	$(if $(GOARCH_$(ARCHITECTURE)),,$(error $(TEMPLATE) has no Architectures: [arm64] or [x86_64] in its Globals))
	GOOS=linux GOARCH=$(GOARCH_$(ARCHITECTURE)) $(call BUILD_FUNCTION,$(NAME),$(ARTIFACTS_DIR)/bootstrap)
