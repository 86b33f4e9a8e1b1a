#!/usr/bin/env bash
# Fetches the charting library that internal/report embeds, at the version below and by npm, and checks that it is what it
# was when it was looked at. The files are in git: this is needed for a new version only.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.6.32
integrity=sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==
files="dist/uPlot.iife.min.js dist/uPlot.min.css LICENSE"

command -v npm >/dev/null || {
	echo "uplot: needs npm, of Node.js" >&2
	exit 1
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && npm pack --silent "uplot@$version" >/dev/null)
got=sha512-$(openssl dgst -sha512 -binary "$dir/uplot-$version.tgz" | base64 -w0)
if [ "$got" != "$integrity" ]; then
	echo "uplot: uplot@$version has the integrity $got and not $integrity" >&2
	exit 1
fi
tar -xzf "$dir/uplot-$version.tgz" -C "$dir"
for f in $files; do
	install -m 644 "$dir/package/$f" internal/report/uplot/
done
echo "uplot: version $version is in internal/report/uplot"
