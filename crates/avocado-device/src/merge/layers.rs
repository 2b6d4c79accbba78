//! Whether an overlay is what it should be, looked at before anybody else sees it.
//!
//! systemd names all layers in the options of one mount, of which the kernel reads a page and
//! silently cuts off the rest: what is missing then are the lowest layers, the operating system
//! first.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use avocado_manifest::Manifest;
use rustix::fs::OFlags;

use super::failure::SetFailure;
use super::mounts;
use super::release::{ExtensionClass, open_in};
use crate::error::FailureReason;

/// The options of a mount that the kernel reads, in bytes: a page, without the end of the string.
pub(crate) const OPTIONS_LIMIT: usize = 4095;

/// One extension of an overlay that is looked at.
#[derive(Debug)]
pub(crate) struct Layer {
    /// With its version.
    pub(crate) name: String,
    /// The name by which systemd knows it.
    pub(crate) link: String,
    /// Where its image is mounted.
    pub(crate) root: PathBuf,
}

/// The least that the options of an overlay with these layers take, in bytes.
pub(crate) fn options_length<'a>(
    class: ExtensionClass,
    hierarchy: &str,
    links: impl Iterator<Item = &'a str>,
) -> usize {
    let kind = match class {
        ExtensionClass::Sysext => "extensions",
        ExtensionClass::Confext => "confexts",
    };
    let fixed = [
        "lowerdir=/run/systemd/sysext/meta",
        hierarchy,
        ":",
        hierarchy,
    ];
    let each = [":/run/systemd/sysext/", kind, "/", hierarchy];
    let length = |parts: &[&str]| parts.iter().map(|part| part.len()).sum::<usize>();
    links.fold(length(&fixed), |sum, link| sum + length(&each) + link.len())
}

/// What is to be said of a runtime of which too many extensions have something for `/usr`, as they
/// usually do. What each of them extends is known only once it is mounted.
pub(crate) fn warning(manifest: &Manifest) -> Option<String> {
    let enabled = manifest.extensions.iter().filter(|e| e.enabled);
    let names: Vec<_> = enabled
        .map(|e| format!("{}-{}", e.name, e.version))
        .collect();
    let count = names.len();
    let links: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(position, name)| link_name(position, count, name))
        .collect();
    let links = links.iter().map(String::as_str);
    let needed = options_length(ExtensionClass::Sysext, OS_HIERARCHY, links);
    (needed > OPTIONS_LIMIT).then(|| {
        format!(
            "runtime {} cannot be activated if all of its {count} extensions extend \
             {OS_HIERARCHY}: their names take {needed} bytes of mount options, and the kernel reads \
             {OPTIONS_LIMIT}",
            manifest.id
        )
    })
}

/// The name by which systemd is to know an extension of a runtime. What sorts last is on top, and
/// in a manifest the first wins.
pub(crate) fn link_name(position: usize, count: usize, name: &str) -> String {
    let width = count.saturating_sub(1).to_string().len().max(2);
    format!("{:0width$}-{name}", count - 1 - position)
}

/// Whether so many layers can be merged at all.
pub(crate) fn check_count(class: ExtensionClass, layers: &[Layer]) -> Result<(), SetFailure> {
    for hierarchy in class.hierarchies() {
        let within: Vec<_> = layers.iter().filter(|l| extends(l, hierarchy)).collect();
        let needed = options_length(class, hierarchy, within.iter().map(|l| l.link.as_str()));
        if needed <= OPTIONS_LIMIT {
            continue;
        }
        // What comes last counts least.
        let mut kept = within.len();
        let links = |count: usize| within.iter().take(count).map(|l| l.link.as_str());
        while kept > 0 && options_length(class, hierarchy, links(kept)) > OPTIONS_LIMIT {
            kept -= 1;
        }
        let surplus = within.iter().skip(kept).map(|l| l.name.clone());
        return Err(SetFailure {
            culprits: surplus.collect(),
            reason: FailureReason::TooManyLayers {
                hierarchy: (*hierarchy).to_owned(),
                count: within.len(),
                needed,
                limit: OPTIONS_LIMIT,
            },
        });
    }
    Ok(())
}

/// Whether the operating system is beneath the overlays of `class`, as this thread sees them. Looked
/// at before anything else: without it no program can be started.
pub(crate) fn check_os(class: ExtensionClass, os: bool) -> Result<(), SetFailure> {
    for hierarchy in class.hierarchies() {
        let (place, lower) = lower_directories(class, hierarchy)?;
        let beneath = lower.last().is_none_or(|lowest| *lowest == place);
        if !beneath || (*hierarchy == OS_HIERARCHY && os && !has_os()) {
            return Err(missing(hierarchy, Vec::new()));
        }
    }
    Ok(())
}

/// Whether the overlays of `class`, as this thread sees them, have every layer.
pub(crate) fn check(class: ExtensionClass, layers: &[Layer]) -> Result<(), SetFailure> {
    for hierarchy in class.hierarchies() {
        let (_, lower) = lower_directories(class, hierarchy)?;
        // A kernel may not tell them.
        if lower.is_empty() {
            continue;
        }
        let wanted = layers.iter().filter(|l| extends(l, hierarchy));
        let absent = wanted.filter(|layer| {
            let mut parts = lower.iter().flat_map(|l| l.components());
            !parts.any(|part| part.as_os_str() == layer.link.as_str())
        });
        let absent: Vec<_> = absent.map(|l| l.name.clone()).collect();
        if !absent.is_empty() {
            return Err(missing(hierarchy, absent));
        }
    }
    Ok(())
}

fn missing(hierarchy: &str, extensions: Vec<String>) -> SetFailure {
    SetFailure {
        culprits: extensions.clone(),
        reason: FailureReason::LayersMissing {
            hierarchy: hierarchy.to_owned(),
            extensions,
        },
    }
}

/// Where a hierarchy is, and what the overlay there is made of; nothing where there is none.
fn lower_directories(
    class: ExtensionClass,
    hierarchy: &str,
) -> Result<(PathBuf, Vec<PathBuf>), FailureReason> {
    let place = fs::canonicalize(hierarchy).unwrap_or_else(|_| hierarchy.into());
    let lower = mounts::lower_directories(&place, class.as_str())?;
    Ok((place, lower))
}

const OS_HIERARCHY: &str = "/usr";

/// Whether `/usr` has what every operating system has there.
pub(crate) fn has_os() -> bool {
    Path::new(OS_HIERARCHY).join("lib/os-release").exists()
}

/// Whether an extension has something for `hierarchy`. systemd passes over empty directories.
fn extends(layer: &Layer, hierarchy: &str) -> bool {
    let path = Path::new(hierarchy.trim_start_matches('/'));
    let how = OFlags::PATH | OFlags::DIRECTORY;
    let Ok(Some(directory)) = open_in(&layer.root, path, how) else {
        return false;
    };
    let directory = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}
