#!/bin/sh
set -eu
cp "$AVOCADO_BUILD_DIR/arch/x86/boot/bzImage" "$AVOCADO_RUNTIME_BUILD_DIR/bzImage"
