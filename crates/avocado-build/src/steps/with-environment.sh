# Starts a program with the environment of the SDK: the first argument is the file that sets it
# up, the others are the program and its arguments.
. "$1"
shift
exec "$@"
