#!/usr/bin/env bash
# Tests against real peers. Installs what it needs (Debian's prometheus, never started as a service), runs everything on
# loopback and cleans up behind itself.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v prometheus >/dev/null; then
	if ! command -v apt-get >/dev/null; then
		echo "integration: no prometheus on the PATH and no apt-get to install it: install Prometheus by hand" >&2
		exit 1
	fi
	echo "integration: installing Debian's prometheus"
	export DEBIAN_FRONTEND=noninteractive
	# The package would start a server of its own; it must not.
	policy=/usr/sbin/policy-rc.d
	made=
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1
	fi
	apt-get update -qq >/dev/null
	apt-get install -y -qq --no-install-recommends prometheus >/dev/null
	[ -z "$made" ] || rm -f $policy
fi

# To see what the server syncs before it answers.
if ! command -v strace >/dev/null; then
	apt-get update -qq >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends strace >/dev/null
fi

# Tools that are Go programs are built once, each at its version, into a directory that git ignores.
tools=$PWD/.cache/tools
mkdir -p "$tools"
versitygw=$tools/versitygw-v1.8.0
if [ ! -x "$versitygw" ]; then
	echo "integration: building versitygw, an S3 server (about a minute)"
	GOBIN=$tools go install -trimpath -ldflags '-s -w' github.com/versity/versitygw/cmd/versitygw@v1.8.0
	mv "$tools/versitygw" "$versitygw"
fi
export CIRRUSBENCH_VERSITYGW=$versitygw
# Debian's Prometheus speaks 1.0; one that speaks 2.0 comes from the module proxy. `go install` refuses it (its go.mod
# replaces modules), so it is built as a tool of a module of its own.
prometheus3=$tools/prometheus-v0.315.0
if [ ! -x "$prometheus3" ]; then
	echo "integration: building Prometheus 3.15, a sender of 2.0 (5 to 10 minutes on two cores, once)"
	mkdir -p .cache/prometheus3
	(
		cd .cache/prometheus3
		[ -e go.mod ] || go mod init prometheus3
		go get -tool github.com/prometheus/prometheus/cmd/prometheus@v0.315.0
		CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$prometheus3.new" github.com/prometheus/prometheus/cmd/prometheus
	)
	mv "$prometheus3.new" "$prometheus3"
fi
export CIRRUSBENCH_PROMETHEUS3=$prometheus3

# The SAM template: cfn-lint looks at it as it stands, check-sam.py at what its transform makes of it.
venv=$PWD/.cache/cfn-lint-1.58.0
if [ ! -x "$venv/bin/cfn-lint" ]; then
	echo "integration: installing cfn-lint"
	python3 -m venv "$venv" 2>/dev/null || {
		apt-get update -qq >/dev/null
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
		rm -rf "$venv" && python3 -m venv "$venv"
	}
	"$venv/bin/pip" install -q --disable-pip-version-check cfn-lint==1.58.0 aws-sam-translator==1.115.0
fi
"$venv/bin/cfn-lint" deploy/sam/template.yaml
"$venv/bin/python" tools/check-sam.py

# A server that speaks Kinesis' protocol.
moto=$PWD/.cache/moto-5.2.5
if [ ! -x "$moto/bin/moto_server" ]; then
	echo "integration: installing moto, for its Kinesis"
	python3 -m venv "$moto"
	"$moto/bin/pip" install -q --disable-pip-version-check 'moto[server]==5.2.5'
fi
export CIRRUSBENCH_MOTO=$moto/bin/moto_server

# Another implementation of CloudWatch Logs, to read log groups from.
moto=$PWD/.cache/moto-5.2.5
if [ ! -x "$moto/bin/moto_server" ]; then
	echo "integration: installing moto"
	python3 -m venv "$moto"
	"$moto/bin/pip" install -q --disable-pip-version-check 'moto[server,logs]==5.2.5'
fi
CIRRUSBENCH_MOTO=$moto/bin/moto_server go test -tags integration -count=1 -run '^TestIntegration' -v ./internal/awsread

# The Lambda function as it is deployed, but for this machine.
make -s lambda
CIRRUSBENCH_BOOTSTRAP=$PWD/bin/bootstrap
export CIRRUSBENCH_BOOTSTRAP

make -s k8s-check

# The page about runs, in a browser.
bash tools/chromium.sh

BIN=$(cd "$(dirname "${BIN:-bin/cirrusbench}")" && pwd)/cirrusbench
export CIRRUSBENCH_BINARY=$BIN
# Every kind of line of a forecast, priced a second time in another language: 200 random scenarios to the cent.
"$venv/bin/python" tools/recompute.py "$BIN" 200
go test -tags integration -count=1 -run '^TestIntegration' -v ./internal/store ./cmd/cirrusbench
