#!/bin/sh
set -eu
root=$AVOCADO_BUILD_EXT_SYSROOT/var/lib/web/rootfs
install -D -m 0755 "$AVOCADO_BUILD_DIR/web" "$root/web"
"${STRIP:-strip}" "$root/web"
# What the engine puts something over has to be there.
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/etc" "$root/run" "$root/tmp"
