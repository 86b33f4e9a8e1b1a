#!/bin/sh
# Speed of `cirrusbench invocations` against mawk and wc. Installs mawk; taskset and wc come with every Debian.
set -eu
cd "$(dirname "$0")/.."
if ! command -v mawk >/dev/null || ! command -v taskset >/dev/null; then
	if ! command -v apt-get >/dev/null; then
		echo "bench-invocations: needs mawk and taskset, and there is no apt-get to install them" >&2
		exit 1
	fi
	apt-get update -qq >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mawk util-linux >/dev/null
fi
exec "${GO:-go}" run ./tools/bench-invocations -binary "${BIN:-bin/cirrusbench}" "$@"
