#!/bin/sh
# Leaves in AVOCADO_BUILD_DIR what a build of Linux leaves there. With the sources of one it is:
#   make -C linux O="$AVOCADO_BUILD_DIR" ARCH=x86 CROSS_COMPILE="${CROSS_COMPILE:-}" bzImage
# That takes an hour; this takes the kernel of the feed, which is in the target's sysroot, for what
# was compiled.
set -eu
for kernel in "$SDKTARGETSYSROOT"/boot/vmlinuz-*; do
    install -D -m 0644 "$kernel" "$AVOCADO_BUILD_DIR/arch/x86/boot/bzImage"
    mkdir -p "$AVOCADO_BUILD_DIR/include/config"
    echo "${kernel##*/vmlinuz-}" >"$AVOCADO_BUILD_DIR/include/config/kernel.release"
done
