"""Writes a repository with python-tuf, for our client to read.

Usage: write_repository.py DIRECTORY PUBLICATION

PUBLICATION is 1, 2 or 3; each goes on from the one before, and its keys are in DIRECTORY/keys.

1. Roles of every key type that is in use, thresholds, delegations by paths and by path hash
   prefixes, a role of a role, names that need quoting, targets in directories, sha512 digests.
2. New content and versions.
3. The keys of root, timestamp and snapshot are replaced, and versions count anew where that is
   allowed.
"""

import hashlib
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

GENERATE = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa": CryptoSigner.generate_ecdsa,
    "rsa": CryptoSigner.generate_rsa,
}
EXPIRES = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
QUOTED = "übung & %2e?#"


class Repository:
    def __init__(self, directory: Path, publication: int) -> None:
        self.directory = directory
        self.publication = publication
        for part in ["keys", "metadata", "targets"]:
            (directory / part).mkdir(parents=True, exist_ok=True)

    def signer(self, name: str, kind: str) -> CryptoSigner:
        """The key of this name, made when it is first needed."""
        file = self.directory / "keys" / f"{name}.{kind}.pem"
        if not file.exists():
            file.write_bytes(GENERATE[kind]().private_bytes)
        return CryptoSigner(load_pem_private_key(file.read_bytes(), None))

    def target(self, path: str, algorithms: list[str]) -> TargetFile:
        """A target whose content names its publication, and its file."""
        data = f"{path} of publication {self.publication}".encode()
        info = TargetFile.from_data(path, data, algorithms)
        for prefix in [hashlib.new(a, data).hexdigest() for a in algorithms]:
            parent, _, name = path.rpartition("/")
            file = self.directory / "targets" / parent / f"{prefix}.{name}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return info

    def write(self, role: str, signed, signers: list[CryptoSigner]) -> MetaFile:
        signed.expires = EXPIRES
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes(JSONSerializer(compact=self.publication != 2))
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        (self.directory / "metadata" / name).write_bytes(data)
        return MetaFile.from_data(signed.version, data, ["sha256", "sha512"])


def delegate(role: Targets, name: str, signers: list[CryptoSigner], threshold: int, **scope) -> None:
    if role.delegations is None:
        role.delegations = Delegations({}, {})
    ids = [signer.public_key.keyid for signer in signers]
    scope.setdefault("terminating", False)
    role.delegations.roles[name] = DelegatedRole(name, ids, threshold, **scope)
    for signer in signers:
        role.delegations.keys[signer.public_key.keyid] = signer.public_key


def write_root(repo: Repository, version: int, signers: dict, also: list[CryptoSigner]) -> None:
    root = Root(version=version, consistent_snapshot=True)
    for role, keys in signers.items():
        for signer in keys:
            root.add_key(signer.public_key, role)
        root.roles[role].threshold = len(keys)
    repo.write("root", root, signers["root"] + also)


def main(directory: str, number: str) -> None:
    publication = int(number)
    repo = Repository(Path(directory), publication)
    era = "new" if publication == 3 else "old"
    old_root = [repo.signer("root-old", kind) for kind in ["ed25519", "ecdsa", "rsa"]]
    signers = {
        "root": [repo.signer(f"root-{era}", kind) for kind in ["ed25519", "ecdsa", "rsa"]],
        "timestamp": [repo.signer(f"timestamp-{era}", "ecdsa")],
        "snapshot": [repo.signer(f"snapshot-{era}", "rsa")],
        "targets": [repo.signer("targets", kind) for kind in ["ed25519", "rsa"]],
    }
    if publication == 1:
        write_root(repo, 1, signers, [])
    if publication == 3:
        write_root(repo, 2, signers, old_root)

    version = publication
    inner_keys = [repo.signer("inner", kind) for kind in ["ecdsa", "rsa"]]
    odd_keys = [repo.signer("odd", "ed25519")]
    deep_keys = [repo.signer("deep", "ecdsa")]

    deep = Targets(version)
    deep.targets["inner/deep/c.raw"] = repo.target("inner/deep/c.raw", ["sha256"])
    inner = Targets(version)
    inner.targets["inner/b c.raw"] = repo.target("inner/b c.raw", ["sha512"])
    delegate(inner, "deep", deep_keys, 1, paths=["inner/*/*.raw"], terminating=True)
    odd = Targets(version)
    odd.targets["größe.raw"] = repo.target("größe.raw", ["sha256", "sha512"])
    odd.targets["inner/other.raw"] = repo.target("inner/other.raw", ["sha256"])

    top = Targets(version)
    top.targets["a.raw"] = repo.target("a.raw", ["sha256"])
    delegate(top, "inner", inner_keys, 2, paths=["inner/*.raw", "inner/deep/?.raw"])
    prefixes = [hashlib.sha256("größe.raw".encode()).hexdigest()[:4]]
    delegate(top, QUOTED, odd_keys, 1, path_hash_prefixes=prefixes)

    snapshot = Snapshot(1 if publication == 3 else version)
    snapshot.meta = {
        "targets.json": repo.write("targets", top, signers["targets"]),
        "inner.json": repo.write("inner", inner, inner_keys),
        "deep.json": repo.write("deep", deep, deep_keys),
        f"{QUOTED}.json": repo.write(QUOTED, odd, odd_keys),
    }
    timestamp = Timestamp(1 if publication == 3 else version)
    timestamp.snapshot_meta = repo.write("snapshot", snapshot, signers["snapshot"])
    repo.write("timestamp", timestamp, signers["timestamp"])


if __name__ == "__main__":
    main(*sys.argv[1:])
