//! Files of a project as version control keeps them: what a clone would not have.

use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use walkdir::WalkDir;

use super::attributes::attributes;
use super::{CopyModes, list_of};
use crate::error::{At as _, BuildError};

/// Refuses what no clone has and no image can hold: sockets, pipes and devices.
pub(crate) fn refuse_special(path: &Path, kind: FileType) -> Result<(), BuildError> {
    let what = if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        return Ok(());
    };
    Err(BuildError::Invalid(format!(
        "{} is {what}, which no file of a project can be: a clone would not have it; have it made on \
         the device, by tmpfiles.d for example",
        path.display()
    )))
}

/// The warnings of project files that have what a clone would not have; `what` names them: "the
/// overlay `o`".
pub(crate) fn lost_in_clones(
    what: &str,
    from: &Path,
    modes: CopyModes,
) -> Result<Vec<String>, BuildError> {
    let (mut of_modes, mut of_attributes) = (Vec::new(), Vec::new());
    let walk = WalkDir::new(from).follow_root_links(false);
    for entry in walk.sort_by_file_name() {
        let entry = entry.map_err(io::Error::from).at("read", from)?;
        let metadata = entry.metadata().map_err(io::Error::from);
        let metadata = metadata.at("look at", entry.path())?;
        let relative = entry.path().strip_prefix(from).unwrap_or(entry.path());
        if in_no_clone(&metadata, modes) {
            of_modes.push(relative.to_owned());
        }
        let attributes = attributes(entry.path(), &metadata).at("read", entry.path())?;
        if !attributes.is_empty() {
            of_attributes.push(relative.to_owned());
        }
    }
    let mut told = Vec::new();
    if !of_modes.is_empty() {
        told.push(format!(
            "{what} has modes that are lost in every clone, for git keeps no more than whether a \
             file is executable: {}; set them in a hook, or by tmpfiles.d on the device",
            list_of(&of_modes)
        ));
    }
    if !of_attributes.is_empty() {
        told.push(format!(
            "{what} has extended attributes, which are lost in every clone: {}; set them in a hook",
            list_of(&of_attributes)
        ));
    }
    Ok(told)
}

fn in_no_clone(metadata: &Metadata, modes: CopyModes) -> bool {
    let kept = if metadata.is_dir() || metadata.is_file() && metadata.mode() & 0o100 != 0 {
        0o755
    } else {
        0o644
    };
    (metadata.is_dir() || metadata.is_file()) && modes.of(metadata) != kept
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::trees::modes::set_mode;
    use crate::trees::{Tree, copy, digest};

    #[test]
    fn modes_that_a_clone_does_not_have_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let told = |witness| {
            let modes = CopyModes::Checkout(witness);
            let mut told = lost_in_clones("the overlay `o`", dir.path(), modes).unwrap();
            assert!(told.len() < 2, "{told:?}");
            told.pop()
        };
        set_mode(dir.path(), 0o755).unwrap();
        symlink("nowhere", dir.path().join("link")).unwrap();
        let file = |name: &str, mode| {
            fs::write(dir.path().join(name), "").unwrap();
            set_mode(&dir.path().join(name), mode).unwrap();
        };
        file("plain", 0o644);
        file("program", 0o755);
        file("of-a-group", 0o664);
        assert_eq!(told(0o644), None);
        file("key", 0o600);
        file("setuid", 0o4755);
        let said = told(0o644).unwrap();
        assert!(said.starts_with("the overlay `o` has modes"), "{said}");
        assert!(said.contains("/key, /setuid;"), "{said}");
        // All of this clone is closed to others: nobody meant anything by that.
        let said = told(0o600).unwrap();
        assert!(said.contains(": /setuid;"), "{said}");
    }

    #[test]
    fn extended_attributes_that_a_clone_does_not_have_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("noted");
        fs::write(&file, "").unwrap();
        crate::trees::set_attribute(&file, "user.note", b"1").unwrap();
        let modes = CopyModes::Checkout(0o644);
        let told = lost_in_clones("the overlay `o`", dir.path(), modes).unwrap();
        let expected = "the overlay `o` has extended attributes, which are lost in every clone: \
                        /noted; set them in a hook";
        assert_eq!(told.last().unwrap(), expected);
    }

    #[test]
    fn what_no_clone_has_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("overlay");
        fs::create_dir_all(overlay.join("run")).unwrap();
        let tree = Tree::fresh(&dir.path().join("tree")).unwrap();
        let refused = |name: &str, what: &str| {
            let modes = CopyModes::Checkout(0o644);
            let errors = [
                copy(&overlay, &tree, Path::new(""), modes).unwrap_err(),
                digest(&overlay, modes).unwrap_err(),
            ];
            let path = overlay.join("run").join(name);
            for error in errors {
                let said = error.to_string();
                let start = format!("{} is {what}, ", path.display());
                assert!(said.starts_with(&start), "{said}");
            }
            // As a part of a package it is not our business.
            digest(&overlay, CopyModes::Keep).unwrap();
            fs::remove_file(path).unwrap();
        };
        let socket = std::os::unix::net::UnixListener::bind(overlay.join("run/s"));
        refused("s", "a socket");
        drop(socket);
        let pipe = overlay.join("run/p");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        refused("p", "a named pipe");
    }
}
