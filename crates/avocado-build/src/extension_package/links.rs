//! Links of a package: they lead to something in it, or to something of a device.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};

use crate::error::{At as _, BuildError};
use crate::trees::{self, CopyModes, Tree};

/// Puts files in the place of links that lead out of the sources, for nobody else has what they lead
/// to. Those of `overlays` lead to something of the device.
pub(super) fn settle(
    tree: &Tree,
    root: &Path,
    src_dir: &Path,
    overlays: &BTreeSet<PathBuf>,
    modes: CopyModes,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let mut replaced = Vec::new();
    for path in trees::paths_of(&tree.shown(root))? {
        let staged = tree.shown(root.join(&path));
        let is_of_device = overlays.iter().any(|overlay| path.starts_with(overlay));
        if is_of_device || !staged.is_symlink() {
            continue;
        }
        let target = fs::read_link(&staged).at("read", &staged)?;
        if trees::link_stays_inside(&path, &target) {
            continue;
        }
        let source = src_dir.join(&path);
        let found = fs::canonicalize(&source);
        let Some(found) = found.ok().filter(|found| found.is_file()) else {
            return Err(BuildError::Invalid(format!(
                "{} is a link to {}, which is not below {} and no file: a package cannot have it",
                source.display(),
                target.display(),
                src_dir.display()
            )));
        };
        trees::copy(&found, tree, &root.join(&path), modes)?;
        replaced.push(path);
    }
    if !replaced.is_empty() {
        sink.emit(Event::info(format!(
            "links that lead out of the sources are packaged as the files that they lead to: {}",
            list(&replaced)
        )));
    }
    Ok(())
}

/// Names of files of the project.
pub(super) fn list(paths: &[PathBuf]) -> String {
    let shown = paths.iter().map(|path| path.display().to_string());
    shown.collect::<Vec<_>>().join(", ")
}
