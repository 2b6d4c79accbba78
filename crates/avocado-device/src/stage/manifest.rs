use std::path::Path;

use avocado_events::{Event, Sink};
use avocado_manifest::{Manifest, ManifestError};

use crate::error::FailureReason;
use crate::merge::layers;
use crate::store::files;
use crate::store::runtimes::{MANIFEST_LIMIT, check_consistency};

/// Reads a manifest that a runtime is to be staged from: it, and its bytes.
pub(super) fn read(path: &Path, sink: &dyn Sink) -> Result<(Manifest, Vec<u8>), FailureReason> {
    let bytes = files::read(path, MANIFEST_LIMIT)?;
    let manifest = parse(path, &bytes)?;
    warn_of_layers(&manifest, sink);
    Ok((manifest, bytes))
}

/// As [`read`], of a file that a user names, who may not be allowed to read it, as this process is.
/// So where it is no manifest nothing of what is in it is told.
pub(super) fn read_named(
    path: &Path,
    sink: &dyn Sink,
) -> Result<(Manifest, Vec<u8>), FailureReason> {
    let bytes = files::read_regular(path, MANIFEST_LIMIT)?;
    let manifest = parse(path, &bytes).map_err(|error| match error {
        FailureReason::Manifest {
            path,
            source: ManifestError::Syntax { line, column, .. },
        } => FailureReason::NoManifest { path, line, column },
        other => other,
    })?;
    warn_of_layers(&manifest, sink);
    Ok((manifest, bytes))
}

fn warn_of_layers(manifest: &Manifest, sink: &dyn Sink) {
    // It is for a device of another systemd, perhaps; so it is no error yet.
    if let Some(warning) = layers::warning(manifest) {
        sink.emit(Event::warning(warning));
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, FailureReason> {
    let manifest = Manifest::parse(bytes).map_err(|source| FailureReason::Manifest {
        path: path.to_owned(),
        source,
    })?;
    check_consistency(&manifest)?;
    Ok(manifest)
}
