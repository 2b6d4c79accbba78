//! What systemd leaves out of an overlay, and why.

use std::fs;

use super::failure::SetFailure;
use super::layers::Layer;
use super::release_misfit;
use super::systemd::SystemdMerger;
use crate::error::FailureReason;
use crate::os_release;
use crate::paths::DevicePaths;

/// systemd passes over what it does not like, and succeeds.
pub(super) fn check(
    merger: &SystemdMerger<'_>,
    paths: &DevicePaths,
    layers: &[Layer],
    said: &str,
) -> Result<(), SetFailure> {
    let merged = merger.merged()?;
    let left_out: Vec<_> = layers
        .iter()
        .filter(|l| !merged.contains(&l.link))
        .collect();
    if left_out.is_empty() {
        return Ok(());
    }
    let os = os_release::text(paths).unwrap_or_default();
    let misfits = left_out.iter().filter_map(|layer| {
        let file = format!("extension-release.{}", layer.link);
        let path = layer.root.join(merger.class.release_dir()).join(file);
        let release = fs::read_to_string(path).ok()?;
        release_misfit::find(merger.class.level_key(), &layer.name, &release, &os)
    });
    let misfits = misfits.collect();
    let extensions: Vec<_> = left_out.iter().map(|layer| layer.name.clone()).collect();
    Err(SetFailure {
        culprits: extensions.clone(),
        reason: FailureReason::LeftOut {
            tool: merger.program(),
            extensions,
            misfits,
            said: said.to_owned(),
        },
    })
}
