#!/usr/bin/env bash
# The load engine against wrk, hey and k6: the same body to the same trivial server, which has one core, with the client on
# another. Interleaved rounds, so that what else the machine does strikes all alike; the median of each client's rounds
# and the median of the ratios within a round. Needs two cores; installs its peers.
#   ROUNDS=5 SECONDS_EACH=3 SIZES="5k 120k" CONNECTIONS="16 64" CLIENTS="cirrusbench wrk hey k6" make bench-replay
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-5} each=${SECONDS_EACH:-3} sizes=${SIZES:-5k 120k} connections=${CONNECTIONS:-16 64}
clients=${CLIENTS:-cirrusbench wrk hey k6}
client_cpu=${CLIENT_CPU:-0} server_cpu=${SERVER_CPU:-1}

if ! command -v wrk >/dev/null || ! command -v hey >/dev/null; then
	echo "bench-replay: installing Debian's wrk and hey" >&2
	apt-get update -qq >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wrk hey >/dev/null
fi
tools=$PWD/.cache/tools
mkdir -p "$tools"
k6=$tools/k6-v1.8.1
if [ ! -x "$k6" ] && [[ $clients == *k6* ]]; then
	echo "bench-replay: building k6 (some minutes, once)" >&2
	GOBIN=$tools go install -trimpath -ldflags '-s -w' go.k6.io/k6@v1.8.1
	mv "$tools/k6" "$k6"
fi

work=$(mktemp -d)
sink=
trap 'if [ -n "$sink" ]; then kill "$sink" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
bench=${BIN:-bin/cirrusbench}
go build -o "$work/sink" ./tools/benchsink
# One object each, so that all clients send the same bytes.
for size in $sizes; do
	series=165
	[ "$size" = 5k ] || series=5005
	"$bench" capture synth "$work/$size" --clusters 1 --series $series --scrapes 1 --batch 0 >/dev/null 2>&1
	find "$work/$size" -name '*.sz' -exec cp {} "$work/body-$size" \;
done
taskset -c "$server_cpu" "$work/sink" 127.0.0.1:0 >"$work/url" &
sink=$!
until [ -s "$work/url" ]; do sleep 0.05; done
url=http://$(cat "$work/url")/api/v1/write

cat >"$work/wrk.lua" <<'EOF'
local f = io.open(os.getenv("BODY"), "rb")
wrk.method = "POST"
wrk.body = f:read("*a")
wrk.headers["Content-Type"] = "application/x-protobuf"
wrk.headers["Content-Encoding"] = "snappy"
EOF
cat >"$work/k6.js" <<'EOF'
import http from 'k6/http';
const body = open(__ENV.BODY, 'b');
const params = { headers: { 'Content-Type': 'application/x-protobuf', 'Content-Encoding': 'snappy' } };
export default function () { http.post(__ENV.URL, body, params); }
EOF

# run CLIENT SIZE CONNECTIONS: prints requests per second and client CPU per request in microseconds.
run() {
	local client=$1 n=$3 log=$work/log
	export BODY=$work/body-$2
	local cmd
	case $client in
	cirrusbench)
		cmd=("$bench" replay "$work/$2" --target "$url" --order none --timestamps keep --concurrency "$n" --duration "${each}s" --fan-out 1 --hlog "$work/run.hlog" -o json)
		;;
	wrk) cmd=(wrk -t1 -c"$n" -d"${each}s" --latency -s "$work/wrk.lua" "$url") ;;
	hey) cmd=(hey -z "${each}s" -c "$n" -m POST -D "$BODY" -T application/x-protobuf -H 'Content-Encoding: snappy' "$url") ;;
	k6) cmd=("$k6" run --quiet --no-usage-report --no-color --vus "$n" --duration "${each}s" -e BODY="$BODY" -e URL="$url" "$work/k6.js") ;;
	esac
	# A full core makes a run of ours INVALID, as it should; here the full core is the point.
	local TIMEFORMAT='%U %S'
	{ time taskset -c "$client_cpu" "${cmd[@]}" >"$log" 2>"$log.err" || [ $? = 5 ]; } 2>"$work/time" || { cat "$log" "$log.err" >&2; return 1; }
	case $client in
	cirrusbench) awk '/"ok":/ && !ok { gsub(/[^0-9]/, ""); ok = $0 } /"achieved"/ { a = 1 } a && /"rate_per_s"/ { gsub(/[^0-9.]/, ""); rate = $0; a = 0 } END { print rate, ok }' "$log" ;;
	wrk) awk '/Requests\/sec/ { rate = $2 } / requests in / { n = $1 } /Non-2xx|Socket errors/ { bad = 1 } END { print bad ? 0 : rate, n }' "$log" ;;
	hey) awk '/Requests\/sec/ { rate = $2 } /\[204\]/ { n = $2 } END { print rate, n }' "$log" ;;
	k6) awk '/http_reqs/ { sub(/\/s/, "", $3); print $3, $2 }' "$log" ;;
	esac | { read -r rate count; read -r user sys <"$work/time"; awk -v r="$rate" -v n="$count" -v c="$user" -v s="$sys" 'BEGIN { printf "%.0f %.2f\n", r, (c + s) * 1e6 / n }'; }
}

median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

echo "requests/s and client CPU, median of $rounds interleaved rounds of ${each} s; ratio = cirrusbench over the peer within a round"
echo "client on CPU $client_cpu, server on CPU $server_cpu; cirrusbench records every latency into HDR histograms and writes them out"
printf '%-6s %4s  %-12s %10s %14s %18s\n' body conn client requests/s 'CPU us/request' 'ratio (min..max)'
for size in $sizes; do
	for n in $connections; do
		rm -f "$work"/r.*
		for round in $(seq "$rounds"); do
			order=$clients
			[ $((round % 2)) = 1 ] || order=$(tr ' ' '\n' <<<"$clients" | tac | xargs) # neither always goes first
			for c in $order; do
				run "$c" "$size" "$n" >>"$work/r.$c"
			done
		done
		for c in $clients; do
			rate=$(cut -d' ' -f1 "$work/r.$c" | median)
			cpu=$(cut -d' ' -f2 "$work/r.$c" | median)
			ratios=$(paste -d' ' "$work/r.cirrusbench" "$work/r.$c" | awk '{ print $1 / $3 }')
			printf '%-6s %4d  %-12s %10.0f %14.2f %7.2f (%.2f..%.2f)\n' "$size" "$n" "$c" "$rate" "$cpu" \
				"$(median <<<"$ratios")" "$(sort -g <<<"$ratios" | head -1)" "$(sort -g <<<"$ratios" | tail -1)"
		done
	done
done
