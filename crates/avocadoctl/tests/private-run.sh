#!/bin/sh
# Runs a command with an empty /run, in a mount namespace that the caller made: what is merged on
# this machine is out of sight and out of reach.
set -eu
mount -t tmpfs tmpfs /run
exec "$@"
