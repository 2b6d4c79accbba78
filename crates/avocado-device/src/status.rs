use std::path::Path;

use avocado_manifest::{ImageId, Manifest, Name};
use serde::Serialize;

use crate::RuntimeEntry;
use crate::merge::release::Class;
use crate::merge::state::State;
use crate::merge::systemd::Merger;
use crate::{Config, Paths, Reason};

/// What runs on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The active runtime, if there is one.
    pub runtime: Option<RuntimeEntry>,
    /// The extensions of the active runtime in the order of its manifest, and after them what is
    /// merged without being part of it.
    pub extensions: Vec<ExtensionStatus>,
    /// `AVOCADO_OS_BUILD_ID` of the running operating system.
    pub os_build_id: Option<String>,
}

/// One extension, as it is on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExtensionStatus {
    /// The name.
    pub name: Name,
    /// The version.
    pub version: Name,
    /// Whether it extends `/usr` and `/opt`; known once it is merged.
    pub sysext: bool,
    /// Whether it extends `/etc`; known once it is merged.
    pub confext: bool,
    /// Whether it is merged, according to systemd.
    pub merged: bool,
    /// What it is merged from, for example `Loop:app-1.0.0`: the name of the mount below
    /// `/run/avocado/extensions`.
    pub origin: Option<String>,
    /// The image, where the manifest names one.
    pub image_id: Option<ImageId>,
}

/// The extensions of `manifest` and of `state`, with what systemd says about them.
pub(crate) fn extensions(
    paths: &Paths,
    config: &Config,
    manifest: Option<&Manifest>,
) -> Result<Vec<ExtensionStatus>, Reason> {
    let state = State::load(&paths.merged());
    let names = |class, mutable| Merger::new(class, paths, mutable).merged();
    let (mut in_usr, mut in_etc) = Default::default();
    if !state.extensions.is_empty() {
        in_usr = names(Class::Sysext, config.sysext_mutable)?;
        in_etc = names(Class::Confext, config.confext_mutable)?;
    }
    let mut merged: Vec<_> = state
        .extensions
        .iter()
        .map(|e| ExtensionStatus {
            name: e.image.name.clone(),
            version: e.image.version.clone(),
            sysext: e.sysext,
            confext: e.confext,
            merged: (e.sysext || e.confext)
                && (!e.sysext || in_usr.contains(&e.link))
                && (!e.confext || in_etc.contains(&e.link)),
            origin: Some(format!("Loop:{}", e.image.full_name())),
            image_id: e.image.image_id.clone(),
        })
        .collect();
    let mut all = Vec::new();
    for extension in manifest.iter().flat_map(|m| &m.extensions) {
        let at = merged.iter().position(|m| {
            m.name == extension.name
                && m.version == extension.version
                && m.image_id == extension.image_id
        });
        all.push(match at {
            Some(at) => merged.remove(at),
            None => ExtensionStatus {
                name: extension.name.clone(),
                version: extension.version.clone(),
                sysext: false,
                confext: false,
                merged: false,
                origin: None,
                image_id: extension.image_id.clone(),
            },
        });
    }
    all.append(&mut merged);
    Ok(all)
}

/// `AVOCADO_OS_BUILD_ID` of the operating system that runs, or that an initial RAM file system is
/// about to start.
pub(crate) fn os_build_id(paths: &Paths) -> Option<String> {
    let mut files = paths.os_release.clone();
    if paths.initrd_release.exists() {
        let below = |p: &Path| Some(Path::new("/sysroot").join(p.strip_prefix("/").ok()?));
        files = files.iter().filter_map(|p| below(p)).collect();
    }
    crate::merge::release::os_release_value(&files, "AVOCADO_OS_BUILD_ID")
}
