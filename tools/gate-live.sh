#!/bin/sh
# Holds the gate to its promises on this machine, with servers whose slowness is known by construction
# (tools/gate-delay):
#
#   aa    the same server twice, delays drawn at random: never FAIL
#   ab12  the candidate's p99 12 % higher: FAIL or INCONCLUSIVE, never PASS
#   ab2x  twice as slow: FAIL within 10 blocks
#   ab80  20 % faster: PASS
#
#   tools/gate-live.sh [aa|ab12|ab2x|ab80|ab|all]      AA_RUNS=20 AB_RUNS=3 RATE=1000 MEDIAN=20ms OUT=out/gate-live BIN=…
#
# RUN_UNDER is put before each gate, such as "nice -n 5" or a command that waits for its turn.
#
# A machine that is busy with other things may make any run INVALID or INCONCLUSIVE: they are counted and reported, and
# break no promise, but prove nothing either. It ends with 1 when a promise is broken, and with 4 when a series of ab2x
# or ab80 was never decided. A run takes 20 to 90 s, so all of it half an hour. It is no part of CI.
set -u

BIN=${BIN:-bin/cirrusbench}
OUT=${OUT:-out/gate-live}
AA_RUNS=${AA_RUNS:-20}
AB_RUNS=${AB_RUNS:-3}
RATE=${RATE:-1000}
MEDIAN=${MEDIAN:-20ms}
what=${1:-all}

mkdir -p "$OUT" || exit 1
"${GO:-go}" build -o "$OUT/gate-delay" ./tools/gate-delay || exit 1
delay="$OUT/gate-delay -median $MEDIAN"
broken=0
undecided=0

# value KEY FILE: a top-level value of a result.
value() { sed -n "s/^  \"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$2" | head -n 1; }

# series NAME RUNS BASELINE CANDIDATE: prints a line a run and a count; what is wrong is up to the caller.
series() {
	name=$1 runs=$2
	echo
	echo "== $name: $runs runs; baseline '$3', candidate '$4'"
	pass=0 fail=0 inconclusive=0 invalid=0 other=0 latefail=0
	i=1
	while [ "$i" -le "$runs" ]; do
		json=$OUT/$name-$i.json
		rm -f "$json"
		${RUN_UNDER:-} "$BIN" gate --baseline-cmd "$3" --candidate-cmd "$4" --rate "$RATE" --timestamps keep --fan-out 1 --order none \
			--annotate=false --save "$json" >"$OUT/$name-$i.txt" 2>&1
		code=$?
		verdict=$(value verdict "$json" 2>/dev/null)
		printf '%-5s %3d  exit %d  %-12s  %2s blocks, %2s set aside  estimate %-8s limits %s to %s  noise %s  at %s\n' \
			"$name" "$i" "$code" "${verdict:-none}" "$(value blocks "$json")" "$(value discarded "$json")" "$(value estimate_ratio "$json")" \
			"$(value lower_ratio "$json")" "$(value upper_ratio "$json")" "$(value noise "$json")" "$(date +%H:%M:%S)"
		case "$verdict $code" in
		"PASS 0") pass=$((pass + 1)) ;;
		"FAIL 3")
			fail=$((fail + 1))
			[ "$(value blocks "$json")" -le 10 ] || latefail=$((latefail + 1))
			;;
		"INCONCLUSIVE 4") inconclusive=$((inconclusive + 1)) ;;
		"INVALID 5") invalid=$((invalid + 1)) ;;
		*)
			other=$((other + 1))
			tail -n 3 "$OUT/$name-$i.txt"
			;;
		esac
		i=$((i + 1))
	done
	echo "== $name: $pass PASS, $fail FAIL ($latefail of them after more than 10 blocks), $inconclusive INCONCLUSIVE, $invalid INVALID, $other something else"
	[ "$other" -eq 0 ] || wrong "$name: $other runs ended without a verdict, or with the wrong exit code"
}

wrong() {
	echo "BROKEN: $*"
	broken=1
}

aa() {
	series aa "$AA_RUNS" "$delay -random" "$delay -random"
	[ "$fail" -eq 0 ] || wrong "aa: $fail FAIL of an unchanged server"
}

ab12() {
	series ab12 "$AB_RUNS" "$delay" "$delay -scale 1.12"
	[ "$pass" -eq 0 ] || wrong "ab12: $pass PASS of a server whose p99 is 12 % higher"
}

ab2x() {
	series ab2x "$AB_RUNS" "$delay" "$delay -scale 2"
	[ "$((pass + inconclusive + latefail))" -eq 0 ] || wrong "ab2x: twice as slow is not FAIL within 10 blocks"
	[ "$fail" -gt 0 ] || undecided=4
}

ab80() {
	series ab80 "$AB_RUNS" "$delay" "$delay -scale 0.8"
	[ "$fail" -eq 0 ] || wrong "ab80: $fail FAIL of a server that is faster"
	[ "$pass" -gt 0 ] || undecided=4
}

case $what in
aa | ab12 | ab2x | ab80) $what ;;
ab) ab2x && ab80 && ab12 ;;
all) aa && ab2x && ab80 && ab12 ;;
*)
	echo "usage: $0 [aa|ab12|ab2x|ab80|ab|all]" >&2
	exit 2
	;;
esac
[ "$broken" -eq 0 ] || exit 1
exit "$undecided"
