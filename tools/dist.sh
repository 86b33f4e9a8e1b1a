#!/bin/sh
# Release archives: dist.sh VERSION LDFLAGS. The same commit gives the same bytes.
set -eu
version=$1
ldflags=$2
rm -rf dist
for target in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do
	name=cirrusbench-$version-$(echo $target | tr / -)
	mkdir -p "dist/$name"
	CGO_ENABLED=0 GOOS=${target%/*} GOARCH=${target#*/} go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "dist/$name/cirrusbench" ./cmd/cirrusbench
	cp README.md LICENSE "dist/$name/"
	tar -C dist --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" -cf - "$name" | gzip -n9 >"dist/$name.tar.gz"
	rm -r "dist/$name"
done
cd dist && sha256sum ./*.tar.gz >SHA256SUMS && cat SHA256SUMS
