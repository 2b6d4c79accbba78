#!/bin/sh
# Puts what was compiled, and what it needs, into the tree of the extension.
set -eu
root=$AVOCADO_BUILD_EXT_SYSROOT
install -D -m 0755 "$AVOCADO_BUILD_DIR/greeter" "$root/usr/bin/greeter"
"${STRIP:-strip}" "$root/usr/bin/greeter"
install -D -m 0644 greeter/greeter.service "$root/usr/lib/systemd/system/greeter.service"
