# Where the target has the build host's architecture, its compiler will do.
export CC=@prefix@gcc CXX=@prefix@g++ AR=@prefix@ar STRIP=@prefix@strip
# What packages of the target bring is found before what the host has of the same name.
export SDKTARGETSYSROOT=$AVOCADO_PREFIX/sdk/target-sysroot
export CPPFLAGS=-I$SDKTARGETSYSROOT/usr/include
export LDFLAGS=-L$SDKTARGETSYSROOT/usr/lib/@triplet@
