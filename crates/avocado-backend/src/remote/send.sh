# Keeps the program that comes on the standard input, under its digest, $1: whole or not at all.
# Those that nothing has used for a month go.
set -e
umask 077
cache=${XDG_CACHE_HOME:-$HOME/.cache}/avocado/runs-on
mkdir -p "$cache"
find "$cache" -type f -mtime +30 -atime +30 -exec rm -f {} + || :
part=$cache/.part.$$
trap "rm -f \"\$part\"" EXIT
cat >"$part"
test "$(sha256sum <"$part" | cut -c 1-64)" = "$1"
chmod 755 "$part"
mv "$part" "$cache/$1"
