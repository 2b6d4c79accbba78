//! Root file systems and initial RAM file systems.

use avocado_manifest::Name;

use crate::decode::{Spanned, TextOr, decode};
use crate::model::{Filesystem, OsImageConfig, Permissions, SourcePlace};
use crate::phases::SourcedSection;
use crate::raw::{RawImage, Text};
use crate::shape::Shape;
use crate::source::Span;
use crate::suggest;
use crate::text::quoted;

use super::context::{ResolveContext, SourceState};
use super::packages::PackageList;
use super::permissions::Profiles;
use super::values::{MOUNTED, UNPACKED};
use super::{packages, paths, permissions, values};

/// What differs between the two.
#[derive(Clone, Copy)]
pub(super) struct ImageKind {
    pub(super) section: &'static str,
    package: &'static str,
    allowed: &'static [Filesystem],
    default: Filesystem,
}

pub(super) const ROOTFS: ImageKind = ImageKind {
    section: "rootfs",
    package: "avocado-pkg-rootfs",
    allowed: MOUNTED,
    default: Filesystem::ErofsLz4,
};

pub(super) const INITRAMFS: ImageKind = ImageKind {
    section: "initramfs",
    package: "avocado-pkg-initramfs",
    allowed: UNPACKED,
    default: Filesystem::CpioZst,
};

/// What a section of this name has where it says nothing of packages.
pub(crate) fn default_package(section: &str) -> &'static str {
    if section == ROOTFS.section {
        ROOTFS.package
    } else {
        INITRAMFS.package
    }
}

/// The images of one kind.
pub(super) struct Images {
    kind: ImageKind,
    pub(super) entries: Vec<(Name, OsImageConfig)>,
    /// The names in the file, also of those that are wrong.
    declared: Vec<String>,
}

/// The images of a section; one called `default` where the file names none.
pub(super) fn images(cx: &mut ResolveContext<'_>, kind: ImageKind, profiles: &Profiles) -> Images {
    let mut images = Images {
        kind,
        entries: Vec::new(),
        declared: Vec::new(),
    };
    for (name, node) in cx.one_or_named(kind.section).unwrap_or_default() {
        images.declared.push(name.value.clone());
        if node.entries().is_none() {
            let found = node.describe();
            let message = format!("{} must be a map, found {found}", quoted(&name));
            let shape = Shape::of_project().field(kind.section);
            let near = suggest::nearest(&name, shape.keys());
            let diagnostic = cx.report.error(name.span, message);
            if let Some(near) = near {
                diagnostic.hint(format!("did you mean `{near}`?"));
            }
            continue;
        }
        let raw = decode(node, cx.report);
        let section = [kind.section, name.as_str()];
        let image = raw.map(|raw| image(cx, Some(&name), raw.value, kind, &section, profiles));
        if let (Some(name), Some(image)) = (cx.name(&name), image) {
            images.entries.push((name, image));
        }
    }
    if images.declared.is_empty() {
        images.declared.push("default".to_owned());
        let section = [kind.section, "default"];
        let image = image(cx, None, RawImage::default(), kind, &section, profiles);
        images
            .entries
            .extend(default_name().map(|name| (name, image)));
    }
    images
}

/// `name` is that of an entry of the section; without one it is a runtime's own. `place` leads to it.
fn image(
    cx: &mut ResolveContext<'_>,
    name: Option<&str>,
    raw: RawImage,
    kind: ImageKind,
    place: &[&str],
    profiles: &Profiles,
) -> OsImageConfig {
    let packages = match raw.packages {
        Some(packages) => packages::packages(cx, Some(packages), place),
        None => packages::for_kernels(cx, PackageList::default_of(kind.package), place),
    };
    OsImageConfig {
        packages: packages.feed,
        project_packages: packages.project,
        filesystem: values::filesystem(cx, raw.filesystem.as_ref(), kind.allowed, kind.default),
        overlay: paths::overlay(cx, raw.overlay),
        post_install: paths::script(cx, raw.post_install.as_ref()),
        permissions: raw.permissions.and_then(|p| profile(cx, p, profiles)),
        kab: values::kab(cx, raw.image.as_ref(), raw.image_type.as_ref()),
        not_fetched: not_fetched(cx, kind.section, name, raw.source.map(|s| s.span)),
    }
}

/// Where it is stated that an entry of a section is fetched, while it is not here.
pub(super) fn not_fetched(
    cx: &mut ResolveContext<'_>,
    section: &str,
    entry: Option<&str>,
    stated_at: Option<Span>,
) -> Option<SourcePlace> {
    let span = stated_at?;
    let Some(entry) = entry else {
        let message = format!("a {section} that a runtime states itself has no `source`");
        let hint = format!("state it below `{section}:`, and name it here");
        cx.report.error(span, message).hint(hint);
        return None;
    };
    match cx.sources.get(&SourcedSection::source_name(section, entry)) {
        // What is wrong with it is reported.
        Some(SourceState::FetchedTo(_) | SourceState::Wrong) => None,
        Some(SourceState::NotFetched) | None => Some(cx.place(span)),
    }
}

fn profile(
    cx: &mut ResolveContext<'_>,
    raw: Spanned<TextOr<crate::raw::RawPermissions>>,
    profiles: &Profiles,
) -> Option<Permissions> {
    match raw.value {
        TextOr::Other(inline) => Some(permissions::users_and_groups(cx, inline)),
        TextOr::Text(name) => match profiles.get(&name) {
            Ok(found) => found.cloned(),
            Err(hint) => {
                let message = format!("the permissions {} do not exist", quoted(&name));
                cx.report.error(raw.span, message).hint(hint);
                None
            }
        },
    }
}

/// The image that a runtime names, has inline, or gets because it says nothing.
pub(super) fn image_of(
    cx: &mut ResolveContext<'_>,
    runtime: &Text,
    raw: Option<Spanned<TextOr<RawImage>>>,
    images: &mut Images,
    profiles: &Profiles,
) -> Option<Name> {
    let section = images.kind.section;
    let declared = || images.declared.iter().map(String::as_str);
    match raw {
        Some(Spanned { value, span }) => match value {
            TextOr::Text(value) => {
                if declared().any(|name| name == value) {
                    return value.parse().ok();
                }
                let message = format!("the {section} {} does not exist", quoted(&value));
                cx.report
                    .error(span, message)
                    .hint(suggest::hint(&value, declared()));
                None
            }
            TextOr::Other(inline) => {
                let value = format!("runtime-{}", runtime.value);
                if declared().any(|name| name == value) {
                    let message = format!(
                        "the {section} of this runtime would be called {} as well",
                        quoted(&value)
                    );
                    cx.report.error(span, message);
                    return None;
                }
                let name = cx.name(&Spanned { value, span })?;
                let place = ["runtimes", runtime.as_str(), section];
                let image = image(cx, None, inline, images.kind, &place, profiles);
                images.declared.push(name.as_str().to_owned());
                images.entries.push((name.clone(), image));
                Some(name)
            }
        },
        None => match &images.declared[..] {
            [only] => only.parse().ok(),
            some if some.iter().any(|name| name == "default") => default_name(),
            _ => {
                let name = quoted(runtime);
                let message = format!("the runtime {name} does not say which {section} it has");
                let names: Vec<String> = declared().map(quoted).collect();
                let names = names.join(", ");
                cx.report
                    .error(runtime.span, message)
                    .hint(format!("add `{section}:` with one of {names}"));
                None
            }
        },
    }
}

fn default_name() -> Option<Name> {
    "default".parse().ok()
}
