use std::path::{Path, PathBuf};

use avocado_project::{Quota, VarCompression};
use serde::{Deserialize, Serialize};

/// The subvolume that holds images and runtimes, which every var partition has.
const STORE: &str = "lib/avocado";

/// What a btrfs is like beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BtrfsSpec {
    /// Of what it holds from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compression: Option<VarCompression>,
    /// Beside that of the store, if it is not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) subvolumes: Vec<BtrfsSubvolume>,
    /// Whether a store of container images is in it, whose files have owners and attributes that
    /// mkfs.btrfs, which is not to mount anything, does not see.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_containers: bool,
}

/// A subvolume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BtrfsSubvolume {
    /// Relative to the root of the file system.
    pub(crate) path: PathBuf,
    pub(crate) writable: bool,
    pub(crate) compression: Option<VarCompression>,
    /// Whether files are written in place.
    pub(crate) nodatacow: bool,
    pub(crate) quota: Option<Quota>,
}

impl BtrfsSpec {
    /// Whether it is as every var partition is.
    pub(crate) fn is_plain(&self) -> bool {
        *self == BtrfsSpec::default()
    }

    /// The compression of what it holds from the start, unless that is none.
    pub(super) fn compressed_with(&self) -> Option<&VarCompression> {
        let compression = self.compression.as_ref();
        compression.filter(|compression| !compression.is_none())
    }

    /// All subvolumes, each before those within it, and each with the compression that it has.
    pub(super) fn all_subvolumes(&self) -> Vec<BtrfsSubvolume> {
        let mut all = self.subvolumes.clone();
        if !all.iter().any(|stated| stated.path == Path::new(STORE)) {
            all.push(BtrfsSubvolume {
                path: STORE.into(),
                writable: true,
                compression: None,
                nodatacow: false,
                quota: None,
            });
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        for index in 0..all.len() {
            let (above, rest) = all.split_at_mut(index);
            if let Some(subvolume) = rest.first_mut() {
                subvolume.inherit(above);
            }
        }
        all
    }

    /// Whether files in this subvolume are stored as they are.
    pub(super) fn leaves_as_is(&self, subvolume: &BtrfsSubvolume) -> bool {
        let compression = subvolume.compression.as_ref();
        let compression = compression.or(self.compression.as_ref());
        subvolume.nodatacow || compression.is_none_or(VarCompression::is_none)
    }
}

impl BtrfsSubvolume {
    /// Takes the compression of the subvolume that it is in, if it has none of its own: btrfs does so,
    /// but for `none`. What is written in place has none whatever is above.
    fn inherit(&mut self, above: &[BtrfsSubvolume]) {
        if self.compression.is_some() || self.nodatacow {
            return;
        }
        // Of those above one that is within another comes later.
        let mut above = above.iter().rev();
        let parent = above.find(|other| self.path.starts_with(&other.path));
        self.compression = parent.and_then(|parent| parent.compression.clone());
    }

    /// Whether mkfs.btrfs cannot make it, so that it has to be mounted.
    pub(crate) fn needs_mount(&self) -> bool {
        self.nodatacow || self.quota.is_some() || self.compression.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_subvolume_has_the_compression_of_the_one_above() {
        let stated = [
            ("a", Some("zstd")),
            ("a/b/c", None),
            ("a/b/c/d", Some("none")),
            ("a/b/c/d/e", None),
            ("a/in-place", None),
            ("a/in-place/f", None),
            ("a-b", None),
            ("lib", Some("lzo")),
        ];
        let subvolume = |(path, compression): (&str, Option<&str>)| BtrfsSubvolume {
            path: path.into(),
            writable: true,
            compression: compression.map(|text| text.parse().unwrap()),
            nodatacow: path == "a/in-place",
            quota: None,
        };
        let spec = BtrfsSpec {
            compression: Some("zlib".parse().unwrap()),
            subvolumes: stated.into_iter().map(subvolume).collect(),
            has_containers: false,
        };
        let all = spec.all_subvolumes();
        let found = all.iter().map(|s| {
            let compression = s.compression.as_ref().map(VarCompression::as_str);
            (s.path.to_str().unwrap(), compression, spec.leaves_as_is(s))
        });
        let found: Vec<_> = found.collect();
        assert_eq!(
            found,
            [
                ("a", Some("zstd"), false),
                ("a/b/c", Some("zstd"), false),
                ("a/b/c/d", Some("none"), true),
                ("a/b/c/d/e", Some("none"), true),
                ("a/in-place", None, true),
                // Of which nothing is said above.
                ("a/in-place/f", None, false),
                ("a-b", None, false),
                ("lib", Some("lzo"), false),
                ("lib/avocado", Some("lzo"), false),
            ]
        );
    }
}
