use std::fmt;

use super::BtrfsSpec;

/// A version of mkfs.btrfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MkfsVersion(u32, u32);

impl MkfsVersion {
    /// The first with `--subvol`.
    const SUBVOLUMES: MkfsVersion = MkfsVersion(6, 12);
    /// The first with `--compress`.
    const COMPRESSION: MkfsVersion = MkfsVersion(6, 13);

    /// The first that makes such a file system, as far as any does without a mount.
    pub(super) fn needed(spec: &BtrfsSpec) -> Self {
        match spec.compressed_with() {
            Some(_) => MkfsVersion::COMPRESSION,
            None => MkfsVersion::SUBVOLUMES,
        }
    }

    /// The first that makes a var partition without a mount, which only root may make, where the one
    /// that says `told` of itself is older.
    pub fn missing(told: &str) -> Option<Self> {
        let needed = MkfsVersion::SUBVOLUMES;
        (MkfsVersion::told(told) < Some(needed)).then_some(needed)
    }

    /// From what `mkfs.btrfs --version` says.
    pub(super) fn told(text: &str) -> Option<Self> {
        let (_, number) = text.split_once("-progs v")?;
        let mut parts = number
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse::<u32>);
        let mut next = || parts.next().and_then(Result::ok);
        Some(MkfsVersion(next()?, next().unwrap_or(0)))
    }
}

impl fmt::Display for MkfsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::BuildError;
    use crate::failure_kind::FailureKind;

    #[test]
    fn a_version_is_known_for_what_it_can_make() {
        for (told, subvolumes, compression) in [
            ("mkfs.btrfs, part of btrfs-progs v6.2", false, false),
            ("mkfs.btrfs, part of btrfs-progs v6.11.1\n", false, false),
            ("mkfs.btrfs, part of btrfs-progs v6.12", true, false),
            ("mkfs.btrfs, part of btrfs-progs v6.12.1\n", true, false),
            ("mkfs.btrfs, part of btrfs-progs v6.13", true, true),
            ("mkfs.btrfs, part of btrfs-progs v6.14-1\n", true, true),
            ("mkfs.btrfs, part of btrfs-progs v7", true, true),
            ("mkfs.btrfs, part of btrfs-progs v7.0", true, true),
            ("mkfs.btrfs, part of btrfs-progs v", false, false),
            ("", false, false),
        ] {
            let can = |compression: Option<&str>| {
                let spec = BtrfsSpec {
                    compression: compression.map(|text| text.parse().unwrap()),
                    ..BtrfsSpec::default()
                };
                MkfsVersion::told(told) >= Some(MkfsVersion::needed(&spec))
            };
            assert_eq!(can(None), subvolumes, "{told}");
            assert_eq!(can(Some("none")), subvolumes, "{told}");
            assert_eq!(can(Some("zstd:3")), compression, "{told}");
        }
    }

    #[test]
    fn which_version_is_needed_is_told() {
        for (compression, needed) in [(None, "6.12"), (Some("lzo"), "6.13")] {
            let spec = BtrfsSpec {
                compression: compression.map(|text: &str| text.parse().unwrap()),
                ..BtrfsSpec::default()
            };
            let needed_version = MkfsVersion::needed(&spec);
            let error = BuildError::VarImageNeedsRoot {
                needed: needed_version,
            };
            assert!(error.to_string().contains(needed), "{error}");
            assert_eq!(error.kind(), Some(FailureKind::VarImageNeedsRoot));
        }
    }
}
