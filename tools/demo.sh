#!/bin/sh
# The demo: what a newcomer would type, one command after the other, each shown before it runs.
set -u
BIN=${BIN:-bin/cirrusbench}
OUT=${OUT:-out}
mkdir -p "$OUT"

say() { printf '\n\033[1m%s\033[0m\n' "$1"; }
[ -t 1 ] || say() { printf '\n%s\n' "$1"; }
step() {
	say "\$ cirrusbench $*"
	"$BIN" "$@"
}

say '1. Replay: real captures, sent as a hundred clusters, time-shifted, against the bundled server (11 s)'
step replay --rate 100 --duration 10s --warmup 1s --out "$OUT/run.json" --html "$OUT/report.html"
code=$?
# 5 = INVALID: this machine was too busy to trust the tail. The numbers and the reason are above; go on.
[ $code -eq 0 ] || [ $code -eq 5 ] || exit $code

say '2. Deltas: how far the tail lies above the median, per source–destination pair'
step deltas "$OUT/run.json" || exit $?

say '3. Forecast: the durations Lambda billed, as money and concurrency over 24 months'
step forecast --out "$OUT/forecast.md" -o markdown || exit $?
step forecast || exit $?

if [ $code -eq 5 ]; then
	say 'The run is INVALID: this machine was too busy while it lasted. Do not trust its latencies; run the demo again when it is quiet.'
fi
cat <<END

The run is in $OUT/run.json, the page to look at is $OUT/report.html, the forecast as Markdown is
$OUT/forecast.md. Next: 'cirrusbench replay --target URL' against your own endpoint, and
'cirrusbench forecast REPORT.log' with your own Lambda records. 'cirrusbench --help' lists the rest.
The program is $BIN: 'export PATH=$(cd "$(dirname "$BIN")" && pwd):\$PATH' lets the shell find it by its name.
END
