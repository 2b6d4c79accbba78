#!/bin/sh
# Compiles into AVOCADO_BUILD_DIR, where the next run finds it again. CC, CPPFLAGS and LDFLAGS are
# those of the SDK: the compiler may be of more than one word, so it stands without quotes.
set -eu
echo "compiling for $AVOCADO_TARGET with ${CC:?the SDK names no compiler}"
$CC $CPPFLAGS -O2 -Wall -o "$AVOCADO_BUILD_DIR/greeter" greeter/src/main.c $LDFLAGS -lgreeting
