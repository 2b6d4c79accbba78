use std::collections::HashMap;
use std::collections::hash_map::Entry;

use avocado_manifest::{Name, is_mergeable};

use crate::decode::{Decoded, Spanned, decode};
use crate::model::{DockerImage, Extension, ExtensionDependency, Filesystem};
use crate::raw::{RawDockerImage, RawExtension, Text, listed};
use crate::suggest;
use crate::text::quoted;

use super::context::{ResolveContext, SourceState, spanned};
use super::dependencies::StatedDependency;
use super::values::{MOUNTED, rpm_metadata};
use super::{dependencies, packages, paths, permissions, values, var, version};

/// The extensions of the project.
pub(super) struct Extensions {
    pub(super) entries: Vec<Extension>,
    /// What each of them needs.
    pub(super) dependencies: Vec<Vec<StatedDependency>>,
    /// The names in the file, also of those that are wrong.
    pub(super) declared: Vec<String>,
}

pub(super) fn extensions(cx: &mut ResolveContext<'_>) -> Extensions {
    let mut extensions = Extensions {
        entries: Vec::new(),
        dependencies: Vec::new(),
        declared: Vec::new(),
    };
    let mut files = HashMap::new();
    for entry in cx.section("extensions") {
        let key = spanned(&entry.key);
        extensions.declared.push(key.value.clone());
        let name = cx.name(&key);
        let Some(raw) = decode(&entry.value, cx.report) else {
            continue;
        };
        let Some((extension, dependencies)) = extension(cx, &key, name, raw) else {
            continue;
        };
        check_file_name(cx, &key, &extension, &mut files);
        extensions.entries.push(extension);
        extensions.dependencies.push(dependencies);
    }
    extensions
}

/// An extension becomes a file with its name and version, here and where a device merges it. `before`
/// has the files of those that were looked at.
fn check_file_name(
    cx: &mut ResolveContext<'_>,
    key: &Text,
    extension: &Extension,
    before: &mut HashMap<String, Name>,
) {
    let Some(version) = extension.version.known() else {
        return;
    };
    let name = &extension.name;
    let count = cx.section("extensions").len();
    if !is_mergeable(name, version, count) {
        let length = name.as_str().len() + version.as_str().len();
        let message = format!("the name and the version of this extension have {length} bytes");
        cx.report
            .error(key.span, message)
            .hint("no device can merge it: shorten one of them");
    }
    match before.entry(format!("{name}-{version}")) {
        Entry::Vacant(file) => {
            file.insert(name.clone());
        }
        Entry::Occupied(file) => {
            let other = quoted(file.get().as_str());
            let message = format!("this extension and {other} would both be {}", file.key());
            cx.report
                .error(key.span, message)
                .hint("their names and versions make one name together: change one of them");
        }
    }
}

fn extension(
    cx: &mut ResolveContext<'_>,
    key: &Text,
    name: Option<Name>,
    raw: Decoded<RawExtension>,
) -> Option<(Extension, Vec<StatedDependency>)> {
    let Decoded {
        value: raw,
        dropped,
    } = raw;
    let fetched_to = match cx.sources.get(&key.value) {
        // It was fetched, or came along with one that was.
        Some(SourceState::FetchedTo(directory)) => Some(directory.clone()),
        // It has its version and the rest where it comes from.
        Some(SourceState::Wrong | SourceState::NotFetched) => return None,
        None if raw.source.is_some() => return None,
        None => None,
    };
    let files = fetched_to.clone().unwrap_or_else(|| cx.src_dir.clone());
    let cx = &mut cx.within(files);
    let place = cx.place(key.span);
    let version = match raw.version {
        Some(stated) => version::version(cx, stated),
        None => {
            if !dropped.iter().any(|key| key == "version") {
                let message = format!("the extension {} has no `version`", quoted(key));
                cx.report
                    .error(key.span, message)
                    .hint("add for example `version: 0.1.0`");
            }
            None
        }
    };
    let (sysext, confext) = types(cx, raw.types);
    let mut scopes = values::words(cx, raw.scopes, "scope");
    if scopes.is_empty() {
        scopes.push("system".to_owned());
    }
    let own_scopes = |cx: &mut ResolveContext<'_>, own: Option<Vec<Text>>| match own {
        Some(own) => values::words(cx, Some(own), "scope"),
        None => scopes.clone(),
    };
    let packages = packages::packages(cx, raw.packages, &["extensions", &key.value]);
    let sdk_packages = raw.sdk.and_then(|sdk| sdk.packages);
    let mut dependencies = dependencies::dependencies(cx, raw.extensions);
    dependencies.extend(dependencies::dependencies(cx, raw.depends_on));
    let needed = |stated: &StatedDependency| ExtensionDependency {
        name: cx.placed(stated.name.clone(), stated.span),
        version: stated.version.as_ref().map(|spec| spec.value.clone()),
    };
    let needed: Vec<ExtensionDependency> = dependencies.iter().map(needed).collect();
    let extension = Extension {
        place,
        fetched_to,
        sysext,
        confext,
        packages: packages.feed,
        project_packages: packages.project,
        sdk_packages: packages::packages(cx, sdk_packages, &["extensions", &key.value, "sdk"]).feed,
        dependencies: needed,
        permissions: permissions::of_extension(cx, confext, raw.users, raw.groups),
        overlay: paths::overlay(cx, raw.overlay),
        post_build: paths::script(cx, raw.post_build.as_ref()),
        filesystem: values::filesystem(cx, raw.filesystem.as_ref(), MOUNTED, Filesystem::Squashfs),
        var_files: paths::var_patterns(cx, raw.var_files, &release_directories(sysext, confext)),
        enable_services: values::words(cx, raw.enable_services, "service"),
        modprobe: values::words(cx, raw.modprobe, "kernel module"),
        on_merge: values::lines(cx, raw.on_merge.map(listed)),
        on_unmerge: values::lines(cx, raw.on_unmerge.map(listed)),
        reload_service_manager: raw.reload_service_manager.unwrap_or(false),
        sysext_scopes: own_scopes(cx, raw.sysext_scopes),
        confext_scopes: own_scopes(cx, raw.confext_scopes),
        docker_images: docker_images(cx, raw.docker_images.unwrap_or_default()),
        subvolumes: var::subvolumes(cx, raw.subvolumes),
        stone_include_paths: paths::stone_include_paths(cx, raw.stone_include_paths),
        kab: values::kab(cx, raw.image.as_ref(), None),
        rpm: rpm_metadata!(raw),
        package_files: paths::package_files(cx, raw.package_files),
        // Last, so that one without a name or version is checked as well.
        name: name?,
        version: version?,
    };
    Some((extension, dependencies))
}

fn docker_images(
    cx: &mut ResolveContext<'_>,
    raw: Vec<Spanned<RawDockerImage>>,
) -> Vec<DockerImage> {
    let mut images = Vec::new();
    for Spanned { value, span } in raw {
        let (Some(image), Some(tag)) = (value.image, value.tag) else {
            let message = "an entry of `docker_images` has an `image` and a `tag`";
            cx.report.error(span, message);
            continue;
        };
        if !is_image_name(&image.value) {
            let message = format!("{} is no name of a container image", quoted(&image.value));
            let hint = "for example `docker.io/library/redis`, with neither tag nor digest";
            cx.report.error(image.span, message).hint(hint);
            continue;
        }
        if !is_tag(&tag.value) {
            let message = format!("{} is no tag of a container image", quoted(&tag.value));
            let hint = "letters, digits, `_`, `.` and `-`, of which the last two are not first";
            cx.report.error(tag.span, message).hint(hint);
            continue;
        }
        let digest = value.digest.and_then(|text| {
            let digest = text
                .value
                .strip_prefix("sha256:")
                .and_then(|hex| hex.parse().ok());
            if digest.is_none() {
                let message = format!("{} is no digest", quoted(&text.value));
                let hint = "it is `sha256:` and 64 hexadecimal digits";
                cx.report.error(text.span, message).hint(hint);
            }
            digest.map(|digest| cx.placed(digest, text.span))
        });
        images.push(DockerImage {
            image: cx.placed(image.value, image.span),
            tag: tag.value,
            digest,
        });
    }
    images
}

/// Whether a text is `[registry[:port]/]path`, as the specification of distributing images has it.
fn is_image_name(name: &str) -> bool {
    let (registry, path) = match name.split_once('/') {
        // A host has a dot or a port, or it is the one that everybody has.
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            (Some(host), path)
        }
        _ => (None, name),
    };
    let is_part = |part: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        part.bytes().all(allowed) && ends(part.bytes().next()) && ends(part.bytes().last())
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    let is_registry = |host: &str| !host.starts_with(['-', '.', ':']) && host.bytes().all(allowed);
    name.len() <= 255 && registry.is_none_or(is_registry) && path.split('/').all(is_part)
}

fn is_tag(tag: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.bytes().all(allowed)
}

/// Where an extension of these types says what it is.
fn release_directories(sysext: bool, confext: bool) -> Vec<&'static str> {
    let of_types = [
        (sysext, "usr/lib/extension-release.d"),
        (confext, "etc/extension-release.d"),
    ];
    let of_types = of_types.into_iter().filter(|(is_type, _)| *is_type);
    of_types.map(|(_, directory)| directory).collect()
}

/// Whether it is a sysext, and whether it is a confext.
fn types(cx: &mut ResolveContext<'_>, types: Option<Spanned<Vec<Text>>>) -> (bool, bool) {
    let Some(types) = types else {
        return (true, true);
    };
    let (mut sysext, mut confext) = (false, false);
    for text in &types.value {
        match text.as_str() {
            "sysext" => sysext = true,
            "confext" => confext = true,
            other => {
                let message = format!("{} is not a type of extension", quoted(other));
                cx.report
                    .error(text.span, message)
                    .hint(suggest::hint(other, ["sysext", "confext"]));
            }
        }
    }
    if types.value.is_empty() {
        let message = "an extension is a `sysext`, a `confext` or both";
        cx.report.error(types.span, message);
    }
    (sysext, confext)
}
