# The target runs on the build host's architecture: its compiler will do.
export CC=gcc CXX=g++ AR=ar STRIP=strip
