#!/bin/sh
set -eu
rm -f "$AVOCADO_BUILD_DIR/greeter"
