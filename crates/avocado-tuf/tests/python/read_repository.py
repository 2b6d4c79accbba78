"""Reads a repository with python-tuf's client, as a second opinion on it.

Usage: read_repository.py ROOT URL STATE_DIR TARGET...

ROOT is the trust anchor, URL has `metadata` and `targets` below it. What was downloaded is in
STATE_DIR/targets, one file per target, numbered in the order of the arguments; the trusted metadata
stays in STATE_DIR/metadata, so a second call is a device's second update. Says one line per target:
its length and its SHA-256.
"""

import hashlib
import sys
from pathlib import Path

from tuf.ngclient import Updater


def main(root: str, url: str, state: str, *targets: str) -> None:
    metadata, files = Path(state, "metadata"), Path(state, "targets")
    metadata.mkdir(parents=True, exist_ok=True)
    files.mkdir(exist_ok=True)
    updater = Updater(
        str(metadata),
        f"{url}/metadata/",
        str(files),
        f"{url}/targets/",
        bootstrap=Path(root).read_bytes(),
    )
    updater.refresh()
    for number, name in enumerate(targets):
        info = updater.get_targetinfo(name)
        if info is None:
            sys.exit(f"no role lists {name}")
        path = updater.download_target(info, str(files / str(number)))
        data = Path(path).read_bytes()
        print(len(data), hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
