#!/bin/sh
# A static program: it is all that its container has. CC and CPPFLAGS may be of more than one word.
set -eu
${CC:?the SDK names no compiler} ${CPPFLAGS:-} -O2 -Wall -static -o "$AVOCADO_BUILD_DIR/web" web/src/main.c
