//! Which extensions are to be merged.

use avocado_events::{Event, Sink};
use avocado_manifest::Manifest;

use crate::context::DeviceContext;
use crate::enabled::enabled;
use crate::error::FailureReason;
use crate::merge::state::LayerImage;
use crate::merge::{ExtensionSet, SetFailure};
use crate::store::pool::{ImagePool, RequiredImage};
use crate::store::runtimes::check_consistency;

/// The images of a runtime that are to be merged, but for those whose name and version are in
/// `without`. Each is in the pool and has the right bytes.
pub(crate) fn of_runtime(
    context: &DeviceContext,
    manifest: &Manifest,
    without: &[String],
) -> Result<ExtensionSet, SetFailure> {
    check_consistency(manifest)?;
    let mut pool = ImagePool::open(context.base());
    let enabled = manifest.extensions.iter().filter(|e| e.enabled);
    let images = enabled.map(|extension| {
        let required = RequiredImage::extension(extension);
        let image = LayerImage {
            name: extension.name.clone(),
            version: Some(extension.version.clone()),
            image_id: extension.image_id.clone(),
            sha256: None,
            file: pool.path(&required),
        };
        if without.contains(&image.full_name()) {
            return Ok(None);
        }
        match pool.need(&required) {
            Ok(digest) => Ok(Some(LayerImage {
                sha256: Some(digest),
                ..image
            })),
            Err(reason) => Err(SetFailure::of(image.full_name(), reason)),
        }
    });
    let images = all_or_culprits(images);
    pool.remember();
    Ok(ExtensionSet {
        runtime: Some(manifest.id.clone()),
        images: images?,
        degraded: None,
    })
}

/// What is enabled, but for what is in `without`: systemd alone orders them, by their names.
pub(crate) fn of_enabled(
    context: &DeviceContext,
    without: &[String],
    sink: &dyn Sink,
) -> Result<ExtensionSet, SetFailure> {
    let enabled = enabled(context)?;
    if !enabled.is_empty() {
        sink.emit(Event::info(
            "no runtime is active: merging the extensions that are enabled",
        ));
    }
    let images = enabled.into_iter().map(|extension| {
        let image = LayerImage::standalone(extension);
        if without.contains(&image.full_name()) {
            return Ok(None);
        }
        if image.file.exists() {
            return Ok(Some(image));
        }
        let reason = FailureReason::ImageMissing {
            image: image.name.to_string(),
            path: image.file.clone(),
        };
        Err(SetFailure::of(image.full_name(), reason))
    });
    Ok(ExtensionSet {
        runtime: None,
        images: all_or_culprits(images)?,
        degraded: None,
    })
}

/// All images, or everything that is wrong with any of them, with the reason of the first.
fn all_or_culprits(
    images: impl Iterator<Item = Result<Option<LayerImage>, SetFailure>>,
) -> Result<Vec<LayerImage>, SetFailure> {
    let mut whole = Vec::new();
    let mut failed: Option<SetFailure> = None;
    for image in images {
        match (image, &mut failed) {
            (Ok(image), _) => whole.extend(image),
            (Err(failure), Some(first)) => first.culprits.extend(failure.culprits),
            (Err(failure), None) => failed = Some(failure),
        }
    }
    failed.map_or(Ok(whole), Err)
}
