//! The extensions that are on the device, and which of them are enabled.
//!
//! On a device with runtimes the manifest of the active one says what is merged. What can be
//! enabled are the images and directories of the pool that have a name of their own, as agents
//! without runtimes use them: enabling one links it into `os-releases/<VERSION_ID>`.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use avocado_device::{Device, Error};
use avocado_manifest::Name;

use crate::declared::{Declared, EXTENSIONS};
use crate::model::{Disable, Disabled, Enable, Enabled, Extension};

/// Every extension that is there.
pub(crate) fn list(device: &Device) -> Result<Vec<Extension>, Error> {
    let images = images(device);
    let mut all = Vec::new();
    for status in device.status()?.extensions {
        let file = match &status.image_id {
            Some(id) => id.file_name(),
            None => format!("{}-{}.raw", status.name, status.version),
        };
        let path = images.join(file);
        if path.exists() {
            all.push(Extension {
                name: status.name.into(),
                version: Some(status.version.into()),
                path: path.display().to_string(),
                is_sysext: status.sysext,
                is_confext: status.confext,
                is_directory: false,
            });
        }
    }
    for path in named(&images) {
        let Some(name) = name_of(&path) else {
            continue;
        };
        if all.iter().any(|e| Path::new(&e.path) == path) {
            continue;
        }
        let has = |release: &str| path.join(release).is_dir();
        all.push(Extension {
            name: name.into(),
            version: None,
            path: path.display().to_string(),
            is_sysext: has("usr/lib/extension-release.d"),
            is_confext: has("etc/extension-release.d"),
            is_directory: path.is_dir(),
        });
    }
    Ok(all)
}

/// Enables extensions, or none when one of them is not there.
pub(crate) fn enable(device: &Device, request: &Enable) -> Result<Enabled, Declared> {
    let release = release(device, request.os_release.as_deref())?;
    let named = named(&images(device));
    let mut wanted = Vec::new();
    for name in &request.extensions {
        let is_it = |path: &&PathBuf| name_of(path).is_some_and(|found| found.as_str() == name);
        wanted.push(named.iter().find(is_it).ok_or_else(|| not_found(name))?);
    }
    let linked = wanted.iter().map(|path| link(&release, path));
    let (enabled, failed) = count(linked);
    Ok(Enabled { enabled, failed })
}

/// Disables extensions, or none when one of them is not enabled.
pub(crate) fn disable(device: &Device, request: &Disable) -> Result<Disabled, Declared> {
    let release = release(device, request.os_release.as_deref())?;
    let links = links(&release);
    let mut wanted = Vec::new();
    if request.all == Some(true) {
        wanted.extend(&links);
    }
    for name in request.extensions.iter().flatten() {
        // A link may lead nowhere, so its name is all that there is to go by.
        let is_it = |link: &&PathBuf| {
            let file = link.file_name().and_then(|file| file.to_str());
            file.is_some_and(|file| file.strip_suffix(".raw").unwrap_or(file) == name)
        };
        wanted.push(links.iter().find(is_it).ok_or_else(|| not_found(name))?);
    }
    wanted.sort();
    wanted.dedup();
    let removed = wanted.iter().map(|link| match fs::remove_file(link) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    });
    let (disabled, failed) = count(removed);
    sync(&release);
    Ok(Disabled { disabled, failed })
}

fn images(device: &Device) -> PathBuf {
    device.paths().base.join("images")
}

fn not_found(name: &str) -> Declared {
    Declared::new(EXTENSIONS, "ExtensionNotFound").with("name", name)
}

/// The directory of what is enabled with a release: the named one, or the one that runs.
fn release(device: &Device, named: Option<&str>) -> Result<PathBuf, Declared> {
    let wrong =
        |message: String| Declared::new(EXTENSIONS, "ConfigurationError").with("message", message);
    let id = match named {
        Some(id) => id.to_owned(),
        None => running_release(&device.paths().os_release)
            .ok_or_else(|| wrong("the operating system does not tell its VERSION_ID".to_owned()))?,
    };
    let id: Name = id
        .parse()
        .map_err(|e: avocado_manifest::NameError| wrong(e.to_string()))?;
    Ok(device.paths().base.join("os-releases").join(id.as_str()))
}

fn running_release(files: &[PathBuf]) -> Option<String> {
    let text = files
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_ID="))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// The images and directories in the pool that have a name, and not only an id, in order.
fn named(images: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(images).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| name_of(path).is_some_and(|name| !is_image_id(name.as_str())))
        .collect();
    paths.sort();
    paths
}

fn is_image_id(text: &str) -> bool {
    // 8-4-4-4-12 hexadecimal digits.
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// The name of the extension that a file or directory is: its own, without `.raw`.
fn name_of(path: &Path) -> Option<Name> {
    let file = path.file_name()?.to_str()?;
    match file.strip_suffix(".raw") {
        Some(name) => name.parse().ok(),
        None if path.is_dir() => file.parse().ok(),
        None => None,
    }
}

/// The links of a release, whether they lead anywhere or not.
fn links(release: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(release).into_iter().flatten().flatten();
    let is_link = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|t| t.is_symlink());
    let mut paths: Vec<_> = entries.filter(is_link).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Links an extension into a release. The link is relative, as the store may be mounted elsewhere.
fn link(release: &Path, path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let target = Path::new("../../images").join(name);
    let at = release.join(name);
    fs::create_dir_all(release)?;
    if fs::read_link(&at).is_ok_and(|there| there == target) {
        return Ok(());
    }
    // In one step: a link that leads nowhere is replaced, and there is never none.
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let temporary = release.join(temporary);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(&target, &temporary)?;
    fs::rename(&temporary, &at)?;
    sync(release);
    Ok(())
}

/// What is on the disk stays there. Where that cannot be made sure, it is there all the same.
fn sync(directory: &Path) {
    let _ = fs::File::open(directory).and_then(|directory| directory.sync_all());
}

fn count(results: impl Iterator<Item = io::Result<()>>) -> (u64, u64) {
    results.fold((0, 0), |(good, bad), result| match result {
        Ok(()) => (good + 1, bad),
        Err(_) => (good, bad + 1),
    })
}
