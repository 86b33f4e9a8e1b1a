#!/usr/bin/env bash
# Opens the pages about runs in a headless Chromium, Debian's, which it installs when there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
	if ! command -v apt-get >/dev/null; then
		echo "chromium: no chromium on the PATH and no apt-get to install it: install Chromium by hand" >&2
		exit 1
	fi
	echo "chromium: installing Debian's chromium"
	apt-get update -qq >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
fi
go test -tags integration -count=1 -run '^TestIntegration' -v ./internal/report
