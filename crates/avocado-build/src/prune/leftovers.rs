//! What a build of the project would not look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use avocado_backend::Processor;
use avocado_events::{Event, Sink};
use avocado_manifest::Name;
use avocado_project::{LockFile, Project, Sysroot};

use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::packages::version::to_rpm;
use crate::steps::container_image;
use crate::trees;

/// Each with the reason.
type Leftovers = Vec<(PathBuf, String)>;

/// The names of what the project has.
struct Known<'p> {
    /// `None` where it cannot be known: an extension from elsewhere is not here.
    extensions: Option<BTreeSet<&'p str>>,
    runtimes: BTreeSet<&'p str>,
    rootfs: BTreeSet<&'p str>,
    initramfs: BTreeSet<&'p str>,
    /// `None` where it cannot be known: the lock has none for some rootfs.
    kernels: Option<BTreeSet<&'p str>>,
}

/// What is left over of `project`, none of it in another one.
pub(super) fn find(
    project: &Project,
    layout: &Layout,
    lock_file: &LockFile,
    sink: &dyn Sink,
) -> Result<Leftovers, BuildError> {
    let known = Known::of(project, lock_file, sink);
    let prefix = layout.prefix();
    let mut found = Leftovers::new();

    unfinished(prefix, &mut found)?;
    for (kind, names) in [("rootfs", &known.rootfs), ("initramfs", &known.initramfs)] {
        for (path, file) in entries(prefix)? {
            let name = file.strip_prefix(kind).and_then(|f| f.strip_prefix('-'));
            if let Some(name) = name.filter(|name| !names.contains(name)) {
                found.push((path, gone(kind, name)));
            }
        }
        let stamps = layout.stamps().join(kind);
        others(
            &stamps,
            kind,
            |path, name| path.is_file() || names.contains(name),
            &mut found,
        )?;
    }
    let work = prefix.join(".work");
    if let Some(extensions) = &known.extensions {
        let is_known = |_: &Path, name: &str| extensions.contains(name);
        for place in [
            prefix.join("extensions"),
            prefix.join("includes"),
            work.join("extensions"),
            layout.stamps().join("ext"),
        ] {
            others(&place, "extension", is_known, &mut found)?;
        }
        images(project, &prefix.join("output/extensions"), &mut found)?;
        // An extension that is not here may bring some too.
        let sections = &project.sdk.compile;
        let is_known = |_: &Path, name: &str| sections.iter().any(|s| **s.name == *name);
        let of_sdks = Processor::ALL.map(|processor| layout.sdk_for(processor));
        let of_sdks = of_sdks
            .iter()
            .flat_map(|sdk| [sdk.join("build"), sdk.join("staging")]);
        let others_of_sections = [work.join("compiled-with"), layout.stamps().join("compile")];
        for place in of_sdks.chain(others_of_sections) {
            others(&place, "section", is_known, &mut found)?;
        }
        section_packages(project, &prefix.join("output/packages"), &mut found)?;
    }
    containers(project, layout, &known, &mut found)?;
    for place in [
        prefix.join("runtimes"),
        work.join("runtimes"),
        work.join("runtimes-compiled"),
        layout.stamps().join("runtime"),
    ] {
        let is_known = |_: &Path, name: &str| known.runtimes.contains(name);
        others(&place, "runtime", is_known, &mut found)?;
    }
    for (path, name) in directories(&prefix.join("output/runtimes"))? {
        unfinished(&path, &mut found)?;
        // Not the repository, nor what it is about.
        let vm = path.join("vm");
        if !known.runtimes.contains(name.as_str()) && vm.symlink_metadata().is_ok() {
            found.push((vm, gone("runtime", &name)));
        }
    }
    for (path, name) in directories(&prefix.join("runtimes"))? {
        if known.runtimes.contains(name.as_str()) {
            unfinished(&path, &mut found)?;
        }
    }
    if let Some(kernels) = &known.kernels {
        let is_known = |_: &Path, name: &str| kernels.contains(name);
        others(&prefix.join("kernel"), "kernel", is_known, &mut found)?;
    }
    hitl(&layout.hitl(), &mut found)?;
    on_its_way(&layout.cache_work(), &mut found)?;
    of_all_targets(layout, &mut found)?;
    for place in [
        "sdk",
        ".work",
        "kernel",
        "output/extensions",
        "output/packages",
    ] {
        unfinished(&prefix.join(place), &mut found)?;
    }
    feed_cache(&layout.dnf_cache(), &mut found)?;
    let known = layout.inventories();
    inventories(prefix, &known, Path::new(""), &mut found)?;
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    Ok(found)
}

impl<'p> Known<'p> {
    fn of(project: &'p Project, lock_file: &'p LockFile, sink: &dyn Sink) -> Self {
        let is_here = |name: &Name| project.extension(name).is_some();
        let mut sources = project.sources.iter();
        let absent = sources.find(|source| source.section.is_none() && !is_here(&source.extension));
        if let Some(absent) = absent {
            sink.emit(Event::info(format!(
                "extension `{}` is not here, so that it is not known which others there are: \
                 nothing of extensions is removed",
                absent.extension
            )));
        }
        let extensions = project.extensions.iter().map(|e| e.name.as_str());
        // What was fetched for a section lies among what was fetched for extensions.
        let extensions = extensions.chain(project.sources.iter().map(|s| s.extension.as_str()));
        let lock = lock_file.target(&project.target);
        let kernel = |(name, _): &'p (Name, _)| lock?.kernel_version(&Sysroot::rootfs(name));
        Known {
            extensions: absent.is_none().then(|| extensions.collect()),
            runtimes: project.runtimes.iter().map(|r| r.name.as_str()).collect(),
            rootfs: project.rootfs.iter().map(|(n, _)| n.as_str()).collect(),
            initramfs: project.initramfs.iter().map(|(n, _)| n.as_str()).collect(),
            kernels: project.rootfs.iter().map(kernel).collect(),
        }
    }
}

fn gone(kind: &str, name: &str) -> String {
    match kind {
        "kernel" => format!("no rootfs has kernel {name} any more"),
        kind => format!("{kind} `{name}` is gone"),
    }
}

/// What is in `place` and not known, and what was left unfinished there.
fn others(
    place: &Path,
    kind: &str,
    is_known: impl Fn(&Path, &str) -> bool,
    found: &mut Leftovers,
) -> Result<(), BuildError> {
    unfinished(place, found)?;
    for (path, name) in entries(place)? {
        if !name.starts_with('.') && !is_known(&path, &name) {
            found.push((path, gone(kind, &name)));
        }
    }
    Ok(())
}

/// Images and packages of extensions and of versions that are gone.
fn images(project: &Project, place: &Path, found: &mut Leftovers) -> Result<(), BuildError> {
    for (path, file) in entries(place)? {
        let image = file.strip_suffix(".raw");
        let package = file.strip_suffix(".rpm");
        let Some(stem) = image.or(package).filter(|f| !f.starts_with('.')) else {
            continue;
        };
        let is_of = |e: &&avocado_project::Extension| match e.version.get() {
            Ok(version) if package.is_some() => {
                let version = to_rpm(version.as_str());
                stem.starts_with(&format!("{}-{version}-", e.name))
            }
            Ok(version) => stem == format!("{}-{version}", e.name),
            // Which one it is hangs on something that is not set now.
            Err(_) => stem.starts_with(&format!("{}-", e.name)),
        };
        if !project.extensions.iter().any(|e| is_of(&e)) {
            found.push((path, "no extension has this name and version".to_owned()));
        }
    }
    Ok(())
}

/// Container images that no extension has any more, and the stores of runtimes without any.
fn containers(
    project: &Project,
    layout: &Layout,
    known: &Known<'_>,
    found: &mut Leftovers,
) -> Result<(), BuildError> {
    let is_store = |_: &Path, file: &str| {
        let name = file.strip_suffix(".tar").unwrap_or(file);
        known.runtimes.contains(name)
    };
    others(&layout.container_stores(), "runtime", is_store, found)?;
    if known.extensions.is_none() {
        return Ok(());
    }
    let images = || project.extensions.iter().flat_map(|e| &e.docker_images);
    let is_archive = |_: &Path, file: &str| images().any(|i| container_image::archive(i) == file);
    others(
        &layout.container_images(),
        "container image",
        is_archive,
        found,
    )?;
    let is_stamp = |_: &Path, name: &str| images().any(|i| container_image::file_name(i) == name);
    let stamps = layout.stamps().join("container-image");
    others(&stamps, "container image", is_stamp, found)
}

/// Packages of sections and of versions that are gone.
fn section_packages(
    project: &Project,
    place: &Path,
    found: &mut Leftovers,
) -> Result<(), BuildError> {
    let mut known = Vec::new();
    for section in &project.sdk.compile {
        let Some(package) = &section.package else {
            continue;
        };
        let name = package.name.as_ref().unwrap_or(&section.name);
        let version = to_rpm(&package.version);
        known.push(format!("{name}-{version}-"));
        let split = package.split.iter();
        known.extend(split.map(|split| format!("{name}-{}-{version}-", split.name)));
    }
    for (path, file) in entries(place)? {
        let is_package = file.ends_with(".rpm") && !file.starts_with('.');
        if is_package && !known.iter().any(|start| file.starts_with(start)) {
            found.push((
                path,
                "no section has a package of this name and version".to_owned(),
            ));
        }
    }
    Ok(())
}

/// What a build that was cut off left in `place`: see [`crate::trees::hidden`].
fn unfinished(place: &Path, found: &mut Leftovers) -> Result<(), BuildError> {
    for (path, name) in entries(place)? {
        // A tree, and the database of one whose scriptlets were running.
        let is_ours = [".new", ".old", ".rpm"]
            .iter()
            .any(|end| name.ends_with(end));
        if name.starts_with('.') && is_ours {
            found.push((path, "an interrupted build left it".to_owned()));
        }
    }
    Ok(())
}

/// What a build that was killed had on its way from and to the cache: none works here now.
fn on_its_way(place: &Path, found: &mut Leftovers) -> Result<(), BuildError> {
    for (path, _) in entries(place)? {
        let what = "an interrupted build left it on its way from or to the cache";
        found.push((path, what.to_owned()));
    }
    Ok(())
}

/// What runs that were killed left beside the states of targets: none works here now.
fn of_all_targets(layout: &Layout, found: &mut Leftovers) -> Result<(), BuildError> {
    for (path, what) in [
        (
            layout.nfs_server(),
            "a run on another machine that was killed left it",
        ),
        (layout.moving(), "a save or a load that was killed left it"),
    ] {
        if path.symlink_metadata().is_ok() {
            found.push((path, what.to_owned()));
        }
    }
    let state = layout.prefix().parent().unwrap_or(layout.prefix());
    for (old, place) in trees::put_away(state)? {
        // Where there is nothing in its place, the next run puts it back.
        if !entries(&place)?.is_empty() {
            found.push((old, "a load that was killed has replaced it".to_owned()));
        }
    }
    Ok(())
}

/// What a server of extensions left that was killed; one that runs holds its lock.
fn hitl(place: &Path, found: &mut Leftovers) -> Result<(), BuildError> {
    let lock = place.with_extension("lock");
    if place.symlink_metadata().is_err() || lock.symlink_metadata().is_err() {
        return Ok(());
    }
    if avocado_fs::LockPlace::file(&lock).try_lock()?.is_some() {
        found.push((
            place.to_owned(),
            "a server that was killed left it".to_owned(),
        ));
    }
    Ok(())
}

/// What dnf keeps of repositories at other addresses: it has a directory for each, of which the one
/// that was used last is that of the present snapshot.
fn feed_cache(cache: &Path, found: &mut Leftovers) -> Result<(), BuildError> {
    let directories = directories(cache)?;
    let id = |name: &str| {
        let (id, address) = name.rsplit_once('-')?;
        let is_hash = address.len() == 16 && address.bytes().all(|b| b.is_ascii_hexdigit());
        is_hash.then(|| id.to_owned())
    };
    let used = |path: &Path| {
        let files = ["", "repodata", "packages"];
        let times = files.iter().map(|name| path.join(name).metadata());
        let times = times.flatten().filter_map(|found| found.modified().ok());
        times.max().unwrap_or(SystemTime::UNIX_EPOCH)
    };
    for (path, name) in &directories {
        let Some(id_here) = id(name) else {
            continue;
        };
        let mut same = directories
            .iter()
            .filter(|(_, n)| id(n).as_ref() == Some(&id_here));
        if same.any(|(other, _)| used(other) > used(path)) {
            found.push((
                path.clone(),
                "of an earlier snapshot of the feed".to_owned(),
            ));
        }
    }
    Ok(())
}

/// What is known of images that are not there any more, or go now. `known` has a directory for each one
/// of the state `prefix` that has images.
fn inventories(
    prefix: &Path,
    known: &Path,
    below: &Path,
    found: &mut Leftovers,
) -> Result<(), BuildError> {
    for (path, name) in entries(&known.join(below))? {
        let below = below.join(&name);
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            inventories(prefix, known, &below, found)?;
            continue;
        }
        let image = prefix.join(below.with_extension(""));
        let goes = found.iter().any(|(gone, _)| image.starts_with(gone));
        if goes || image.symlink_metadata().is_err() {
            found.push((path, "of an image that is gone".to_owned()));
        }
    }
    Ok(())
}

/// The directories in `place`.
fn directories(place: &Path) -> Result<Vec<(PathBuf, String)>, BuildError> {
    let mut entries = entries(place)?;
    entries.retain(|(path, _)| path.symlink_metadata().is_ok_and(|found| found.is_dir()));
    Ok(entries)
}

/// What is in the directory `place` of the state; nothing where there is none, or a link, which
/// would lead out of it. No step is at work that could put one there now.
fn entries(place: &Path) -> Result<Vec<(PathBuf, String)>, BuildError> {
    match place.symlink_metadata() {
        Ok(found) if found.is_dir() => {}
        _ => return Ok(Vec::new()),
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(place).at("read", place)? {
        let entry = entry.at("read", place)?;
        // A name that is no text is none of ours.
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((entry.path(), name));
        }
    }
    Ok(entries)
}
