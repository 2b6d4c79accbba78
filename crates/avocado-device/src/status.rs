use std::path::Path;

use avocado_manifest::{Extension, ImageId, Name};
use serde::Serialize;

use crate::RuntimeEntry;
use crate::merge::release::Class;
use crate::merge::state::{Image, Merged, State};
use crate::merge::systemd::Merger;
use crate::store::named::Named;
use crate::{Config, Paths, Reason};

/// What runs on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The active runtime, if there is one.
    pub runtime: Option<RuntimeEntry>,
    /// The extensions of the active runtime in the order of its manifest, or without one those that
    /// are enabled; and after them what is merged without being one of these.
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
    /// The version. One that belongs to no runtime may have it in its name.
    pub version: Option<Name>,
    /// Whether it extends `/usr` and `/opt`; known once it is merged.
    pub sysext: bool,
    /// Whether it extends `/etc`; known once it is merged.
    pub confext: bool,
    /// Whether it is merged, according to systemd.
    pub merged: bool,
    /// What it is merged from: for example `Loop:app-1.0.0`, the name of the mount of an image
    /// below `/run/avocado/extensions`, or `Dir` for a directory.
    pub origin: Option<String>,
    /// The image, where the manifest names one.
    pub image_id: Option<ImageId>,
}

impl ExtensionStatus {
    /// One that is not merged.
    fn new(name: Name, version: Option<Name>, image_id: Option<ImageId>) -> Self {
        ExtensionStatus {
            name,
            version,
            sysext: false,
            confext: false,
            merged: false,
            origin: None,
            image_id,
        }
    }

    fn is_of(&self, image: &Image) -> bool {
        (&self.name, &self.version, &self.image_id)
            == (&image.name, &image.version, &image.image_id)
    }
}

impl From<&Extension> for ExtensionStatus {
    fn from(extension: &Extension) -> Self {
        let Extension {
            name,
            version,
            image_id,
            ..
        } = extension.clone();
        ExtensionStatus::new(name, Some(version), image_id)
    }
}

impl From<Named> for ExtensionStatus {
    fn from(named: Named) -> Self {
        ExtensionStatus::new(named.name, None, None)
    }
}

/// The extensions that are wanted, and those that are merged, with what systemd says about them.
pub(crate) fn extensions(
    paths: &Paths,
    config: &Config,
    wanted: Vec<ExtensionStatus>,
) -> Result<Vec<ExtensionStatus>, Reason> {
    let state = State::load(&paths.merged());
    let names = |class, mutable| Merger::new(class, paths, mutable).merged();
    let (mut in_usr, mut in_etc) = Default::default();
    if !state.extensions.is_empty() {
        in_usr = names(Class::Sysext, config.sysext_mutable)?;
        in_etc = names(Class::Confext, config.confext_mutable)?;
    }
    let mut all = wanted;
    for Merged {
        image,
        link,
        sysext,
        confext,
        ..
    } in &state.extensions
    {
        let at = all.iter().position(|status| status.is_of(image));
        let at = at.unwrap_or_else(|| {
            let image = image.clone();
            let status = ExtensionStatus::new(image.name, image.version, image.image_id);
            all.push(status);
            all.len() - 1
        });
        if let Some(status) = all.get_mut(at) {
            status.sysext = *sysext;
            status.confext = *confext;
            status.merged = (*sysext || *confext)
                && (!sysext || in_usr.contains(link))
                && (!confext || in_etc.contains(link));
            status.origin = Some(image.origin());
        }
    }
    Ok(all)
}

/// `AVOCADO_OS_BUILD_ID` of the operating system.
pub(crate) fn os_build_id(paths: &Paths) -> Option<String> {
    os_release(paths, "AVOCADO_OS_BUILD_ID")
}

/// What the operating system that runs, or that an initial RAM file system is about to start, says
/// about itself.
pub(crate) fn os_release(paths: &Paths, key: &str) -> Option<String> {
    let mut files = paths.os_release.clone();
    if paths.initrd_release.exists() {
        let below = |p: &Path| Some(Path::new("/sysroot").join(p.strip_prefix("/").ok()?));
        files = files.iter().filter_map(|p| below(p)).collect();
    }
    crate::merge::release::os_release_value(&files, key)
}
