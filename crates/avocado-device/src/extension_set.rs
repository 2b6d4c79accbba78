//! Which extensions are to be merged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::{Manifest, Name, RuntimeExtension};

use crate::context::DeviceContext;
use crate::enabled::enabled;
use crate::error::{DeviceError, FailureReason};
use crate::hitl;
use crate::merge::release::unversioned;
use crate::merge::state::{HitlLayer, LayerImage};
use crate::merge::{ExtensionSet, SetFailure};
use crate::store::beside_manifest::{self, ExtensionOverrides};
use crate::store::pool::{ImagePool, RequiredImage};
use crate::store::reserve::with_reserve;
use crate::store::runtimes::check_consistency;

/// The extensions of a runtime that are to be merged: as its manifest says, or as was decided on this
/// device. A decision that cannot be read is none.
pub(crate) fn enabled_of<'a>(
    context: &DeviceContext,
    manifest: &'a Manifest,
) -> Vec<&'a RuntimeExtension> {
    let overrides = decisions_of(context, manifest).unwrap_or_default();
    let all = manifest.extensions.iter();
    all.filter(|e| overrides.enabled(e.name.as_str()).unwrap_or(e.enabled))
        .collect()
}

/// What was decided on this device of the extensions of a runtime.
pub(crate) fn decisions_of(
    context: &DeviceContext,
    manifest: &Manifest,
) -> Result<ExtensionOverrides, FailureReason> {
    beside_manifest::load(&context.runtimes().directory(&manifest.id))
}

/// Decides for extensions of the active runtime whether they are merged, whatever its manifest says.
/// Each is called by its name, or by its name and version.
pub(crate) fn set_enabled(
    context: &DeviceContext,
    names: &[String],
    enabled: bool,
    sink: &dyn Sink,
) -> Result<u64, DeviceError> {
    let _lock = context
        .lock_store(&Cancel::new(), sink)
        .map_err(DeviceError::Store)?;
    let runtimes = context.runtimes();
    let active = runtimes.active().map_err(DeviceError::Store)?;
    let manifest = active.ok_or(DeviceError::NoActiveRuntime)?;
    let directory = runtimes.directory(&manifest.id);
    let mut overrides: ExtensionOverrides =
        beside_manifest::load(&directory).map_err(DeviceError::Store)?;
    let mut decided = BTreeSet::new();
    for name in names {
        let is_meant = |e: &&RuntimeExtension| {
            e.name.as_str() == name || format!("{}-{}", e.name, e.version) == *name
        };
        let found = manifest.extensions.iter().find(is_meant);
        let found = found.ok_or_else(|| DeviceError::ExtensionNotFound { name: name.clone() })?;
        overrides.set(found.name.as_str(), enabled);
        decided.insert(&found.name);
    }
    with_reserve(context.base(), || {
        beside_manifest::save(&directory, &overrides)
    })
    .map_err(DeviceError::Store)?;
    Ok(decided.len() as u64)
}

/// The images of a runtime that are to be merged, but for those whose name and version are in
/// `without`. Each is in the pool and has the right bytes. What is mounted from a server takes the
/// rank of the image of that name; what the runtime does not name comes first.
pub(crate) fn of_runtime(
    context: &DeviceContext,
    manifest: &Manifest,
    without: &[String],
) -> Result<ExtensionSet, SetFailure> {
    check_consistency(manifest)?;
    let mut pool = ImagePool::open(context.base());
    let enabled = enabled_of(context, manifest).into_iter();
    let (mut servers, mut more) = (ServerExtensions::of(context), Vec::new());
    let images = enabled.map(|extension| {
        let required = RequiredImage::extension(extension);
        let image = LayerImage {
            name: extension.name.clone(),
            version: Some(extension.version.clone()),
            image_id: extension.image_id.clone(),
            sha256: None,
            file: pool.path(&required),
            hitl: None,
        };
        let from_server = servers.take(&image);
        if without.contains(&image.full_name()) {
            return Ok(None);
        }
        if let Some((layer, place)) = from_server {
            return Ok(Some(image.at_server(layer, place)));
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
    more.extend(servers.rest(without));
    more.extend(images?);
    Ok(ExtensionSet {
        runtime: Some(manifest.id.clone()),
        images: more,
        degraded: None,
    })
}

/// Checks the images of a runtime that are not merged, because what is mounted from a server has their
/// place: they are what the device has after the next boot.
pub(crate) fn need_covered(
    context: &DeviceContext,
    manifest: &Manifest,
) -> Result<(), FailureReason> {
    let covered = hitl::mounted(&context.paths);
    let covered = |name: &Name| covered.iter().any(|(layer, _)| layer.name == *name);
    let mut pool = ImagePool::open(context.base());
    let enabled = enabled_of(context, manifest).into_iter();
    let mut covered = enabled.filter(|e| covered(&e.name));
    let all = covered.try_for_each(|e| pool.need(&RequiredImage::extension(e)).map(drop));
    pool.remember();
    all
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
    let (mut servers, mut more) = (ServerExtensions::of(context), Vec::new());
    let images = enabled.into_iter().map(|extension| {
        let image = LayerImage::standalone(extension);
        let from_server = servers.take(&image);
        if without.contains(&image.full_name()) {
            return Ok(None);
        }
        if let Some((layer, place)) = from_server {
            return Ok(Some(image.at_server(layer, place)));
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
    let images = all_or_culprits(images)?;
    more.extend(servers.rest(without));
    more.extend(images);
    Ok(ExtensionSet {
        runtime: None,
        images: more,
        degraded: None,
    })
}

/// What is mounted from servers and not in the set yet, by name.
struct ServerExtensions(BTreeMap<Name, (HitlLayer, PathBuf)>);

impl ServerExtensions {
    fn of(context: &DeviceContext) -> Self {
        let all = hitl::mounted(&context.paths).into_iter();
        ServerExtensions(
            all.map(|(layer, place)| (layer.name.clone(), (layer, place)))
                .collect(),
        )
    }

    /// What takes the place of an image, and where it is mounted. The name of one that belongs to no
    /// runtime may have its version in it.
    fn take(&mut self, image: &LayerImage) -> Option<(HitlLayer, PathBuf)> {
        let exact = image.name.as_str();
        let plain = unversioned(exact).filter(|_| image.version.is_none());
        let mut names = self.0.keys();
        let name = names.find(|n| n.as_str() == exact || Some(n.as_str()) == plain);
        let name = name.cloned()?;
        self.0.remove(&name)
    }

    /// Those that take no image's place: above all others, and of several the last by name on top,
    /// as systemd orders names without a number.
    fn rest(self, without: &[String]) -> impl Iterator<Item = LayerImage> {
        let all = self.0.into_iter().rev();
        all.filter(|(name, _)| !without.iter().any(|w| w == name.as_str()))
            .map(|(name, (layer, place))| LayerImage {
                hitl: Some(layer),
                name,
                version: None,
                image_id: None,
                file: place,
                sha256: None,
            })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceConfig;
    use crate::paths::DevicePaths;

    /// A device with a runtime of `a-1`, `b-1` and `c-1`, of which `mounted` come from a server.
    fn merged_with(mounted: &[&str], without: &[&str]) -> Result<Vec<(String, bool)>, SetFailure> {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = DevicePaths::new(dir.path().join("base"));
        paths.run = dir.path().join("run");
        std::fs::create_dir_all(paths.base.join("images")).unwrap();
        std::fs::create_dir_all(&paths.run).unwrap();
        let server = serde_json::json!({"address": "10.0.2.2", "port": 12049});
        let mounts = mounted
            .iter()
            .map(|name| serde_json::json!({"name": name, "server": server}));
        let record = serde_json::json!({"mounts": mounts.collect::<Vec<_>>()});
        std::fs::write(paths.run.join("hitl.json"), record.to_string()).unwrap();
        let sha256 = avocado_manifest::Digest::of(b"image").to_string();
        let extensions = ["a", "b", "c"].map(|name| {
            // Of `c` there is no image.
            if name != "c" {
                let image = paths.base.join(format!("images/{name}-1.raw"));
                std::fs::write(image, "image").unwrap();
            }
            serde_json::json!({"name": name, "version": "1", "sha256": sha256})
        });
        let manifest = serde_json::json!({
            "manifest_version": 2,
            "id": "0".repeat(64),
            "built_at": "2026-01-01T00:00:00Z",
            "runtime": {"name": "dev", "version": "1"},
            "extensions": extensions,
        });
        let manifest = Manifest::parse(manifest.to_string().as_bytes()).unwrap();
        let context = DeviceContext::new(DeviceConfig::default(), paths.clone());
        let without: Vec<String> = without.iter().map(|name| (*name).to_owned()).collect();
        let set = of_runtime(&context, &manifest, &without)?;
        let images = set.images.into_iter();
        Ok(images
            .map(|image| {
                let from_server = image.file.starts_with(paths.run.join("hitl"));
                assert_eq!(from_server, image.hitl.is_some());
                assert_eq!(from_server, image.sha256.is_none());
                (image.full_name(), from_server)
            })
            .collect())
    }

    #[test]
    fn what_comes_from_a_server_has_the_rank_of_its_image() {
        let names = |mounted: &[&str], without: &[&str]| {
            let images = merged_with(mounted, without).unwrap().into_iter();
            let shown = images.map(|(name, server)| if server { format!("{name}!") } else { name });
            shown.collect::<Vec<_>>().join(" ")
        };
        // The image that is missing is not needed.
        assert_eq!(names(&["c"], &[]), "a-1 b-1 c-1!");
        assert_eq!(names(&["b", "c"], &[]), "a-1 b-1! c-1!");
        // What the runtime does not name is above all, by name.
        assert_eq!(names(&["c", "x", "y"], &[]), "y! x! a-1 b-1 c-1!");
        // One that does not work is left out, and the image is not taken in its place.
        assert_eq!(names(&["c", "x"], &["c-1", "x"]), "a-1 b-1");
        let failure = merged_with(&["a"], &[]).unwrap_err();
        assert_eq!(failure.culprits, ["c-1"]);
    }
}
