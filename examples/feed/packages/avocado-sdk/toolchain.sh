# The target runs on the build host's architecture: its compiler will do.
export CC=gcc CXX=g++ AR=ar STRIP=strip
# What packages of the target bring is found before what the host has of the same name.
export SDKTARGETSYSROOT=$AVOCADO_PREFIX/sdk/target-sysroot
export CPPFLAGS=-I$SDKTARGETSYSROOT/usr/include
export LDFLAGS=-L$SDKTARGETSYSROOT/usr/lib/x86_64-linux-gnu
