//! What a writer of images has to know of a tree before it begins.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::{At as _, Error};
use crate::trees::AttributeKinds;

/// What of a tree not every image of its format has.
#[derive(Debug, Default)]
pub(super) struct TreeFeatures {
    /// Something has another time than the file system.
    pub(super) has_other_times: bool,
    /// What has extended attributes that an image holds.
    pub(super) attributes: Vec<PathBuf>,
    /// An attribute that no image holds, and what has it.
    other_attribute: Option<(PathBuf, String)>,
}

impl TreeFeatures {
    /// Those of the tree `root` without the paths `left_out`.
    pub(super) fn of(root: &Path, epoch: u64, left_out: &[PathBuf]) -> Result<Self, Error> {
        let mut features = TreeFeatures::default();
        let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
        let walk = WalkDir::new(root).into_iter();
        let is_held = |entry: &walkdir::DirEntry| {
            left_out.is_empty() || !left_out.contains(&relative(entry.path()))
        };
        for entry in walk.filter_entry(is_held) {
            let entry = entry.map_err(io::Error::from).at("read", root)?;
            let path = entry.path();
            let metadata = entry.metadata().map_err(io::Error::from);
            let metadata = metadata.at("look at", path)?;
            features.has_other_times |= u64::try_from(metadata.mtime()) != Ok(epoch);
            let AttributeKinds { kept, other } = AttributeKinds::of(path).at("read", path)?;
            if kept {
                features.attributes.push(relative(path));
            }
            if let (None, Some(name)) = (&features.other_attribute, other) {
                features.other_attribute = Some((relative(path), name));
            }
        }
        features.attributes.sort();
        Ok(features)
    }

    /// The tools write all attributes or none.
    pub(super) fn has_held_attributes_only(&self) -> Result<(), Error> {
        let (Some(with), Some((path, name))) = (self.attributes.first(), &self.other_attribute)
        else {
            return Ok(());
        };
        Err(Error::Invalid(format!(
            "/{} has extended attributes or file capabilities for its image, and this machine gives \
             /{} the attribute `{name}`, which the image would hold as well: have the state in a file \
             system without such attributes",
            with.display(),
            path.display()
        )))
    }
}
