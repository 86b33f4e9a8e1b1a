#!/usr/bin/env bash
# Reads a log that `replay --hlog` wrote with HdrHistogram's own Java tool and compares its percentiles with run.json's.
# Installs Debian's Java library, which brings a Java if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
jar=/usr/share/java/hdrhistogram.jar
if [ ! -e $jar ] || ! command -v java >/dev/null; then
	echo "check-hlog: installing Debian's libhdrhistogram-java" >&2
	apt-get update -qq >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libhdrhistogram-java default-jre-headless >/dev/null
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${BIN:-bin/cirrusbench}" replay --rate 500 --duration 5s --hlog "$work/run.hlog" --out "$work/run.json" >/dev/null 2>&1 || [ $? = 5 ]
# Values are nanoseconds; the processor's default ratio makes milliseconds of them.
java -cp $jar org.HdrHistogram.HistogramLogProcessor -i "$work/run.hlog" -o "$work/all" >/dev/null
awk '
	/"latency": \{/ && !seen { inside = seen = 1 }
	inside && match($0, /"(count|p50_ms|p90_ms|p99_ms|p99_9_ms|p99_99_ms|max_ms)": [0-9.]+/) {
		split(substr($0, RSTART, RLENGTH), kv, /"?: /)
		sub(/"/, "", kv[1])
		want[kv[1]] = kv[2]
		if (kv[1] == "max_ms") inside = 0
	}
	/T:[0-9]+ \(/ { sub(/.*T:/, ""); gsub(/[()]/, ""); split($0, got); names = split("count p50_ms p90_ms p99_ms p99_9_ms p99_99_ms max_ms", name) }
	END {
		bad = names != 7
		for (i = 1; i <= names; i++) {
			w = want[name[i]]; off = got[i] - w; if (off < 0) off = -off
			printf "%-10s run.json %12s   Java %12s\n", name[i], w, got[i]
			# Java takes the upper edge of the bucket at the nearest rank; here ranks are interpolated. A bucket is 0.1 % wide.
			limit = i == 1 ? 0 : (name[i] ~ /^p99_/ ? 0.1 : 0.02) * w
			if (off > limit) { bad = 1; print "  differs" }
		}
		exit bad
	}' "$work/run.json" "$work/all"
