//! Root file systems and initial RAM file systems.

use avocado_manifest::Name;

use crate::decode::{Spanned, TextOr, decode};
use crate::diagnostic::quoted;
use crate::model::{Filesystem, OsImage, Packages, Permissions};
use crate::raw::{RawImage, Text};
use crate::suggest;

use super::Resolver;
use super::permissions::Profiles;
use super::values::{MOUNTED, UNPACKED};

/// What differs between the two.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) section: &'static str,
    package: &'static str,
    allowed: &'static [Filesystem],
    default: Filesystem,
}

pub(super) const ROOTFS: Kind = Kind {
    section: "rootfs",
    package: "avocado-pkg-rootfs",
    allowed: MOUNTED,
    default: Filesystem::ErofsLz4,
};

pub(super) const INITRAMFS: Kind = Kind {
    section: "initramfs",
    package: "avocado-pkg-initramfs",
    allowed: UNPACKED,
    default: Filesystem::CpioZst,
};

/// The images of one kind.
pub(super) struct Images {
    kind: Kind,
    pub(super) entries: Vec<(Name, OsImage)>,
    /// The names in the file, also of those that are wrong.
    declared: Vec<String>,
}

impl Resolver<'_, '_> {
    /// The images of a section; one called `default` where the file names none.
    pub(super) fn images(&mut self, kind: Kind, profiles: &Profiles) -> Images {
        let mut images = Images {
            kind,
            entries: Vec::new(),
            declared: Vec::new(),
        };
        for (name, node) in self.singleton_or_named(kind.section).unwrap_or_default() {
            images.declared.push(name.value.clone());
            if node.entries().is_none() {
                let found = node.describe();
                let message = format!("{} must be a map, found {found}", quoted(&name));
                let fields = crate::raw::section_fields(kind.section).unwrap_or_default();
                let near = suggest::nearest(&name, fields.iter().copied());
                let diagnostic = self.report.error(name.span, message);
                if let Some(near) = near {
                    diagnostic.hint(format!("did you mean `{near}`?"));
                }
                continue;
            }
            let image = decode(node, self.report);
            let image = image.map(|raw| self.image(raw.value, kind, profiles));
            if let (Some(name), Some(image)) = (self.name(&name), image) {
                images.entries.push((name, image));
            }
        }
        if images.declared.is_empty() {
            images.declared.push("default".to_owned());
            let image = self.image(RawImage::default(), kind, profiles);
            images
                .entries
                .extend(default_name().map(|name| (name, image)));
        }
        images
    }

    fn image(&mut self, raw: RawImage, kind: Kind, profiles: &Profiles) -> OsImage {
        if let Some(source) = &raw.source {
            self.unsupported(source.span, "a section from another project (`source`)");
        }
        self.image_type(raw.image.as_ref(), raw.image_type.as_ref());
        let packages = match raw.packages {
            Some(packages) => self.packages(Some(packages)),
            None => Packages::from([(kind.package.to_owned(), "*".to_owned())]),
        };
        OsImage {
            packages,
            filesystem: self.filesystem(raw.filesystem.as_ref(), kind.allowed, kind.default),
            overlay: self.overlay(raw.overlay),
            post_install: self.script(raw.post_install.as_ref()),
            permissions: raw.permissions.and_then(|p| self.profile(p, profiles)),
        }
    }

    fn profile(
        &mut self,
        raw: Spanned<TextOr<crate::raw::RawPermissions>>,
        profiles: &Profiles,
    ) -> Option<Permissions> {
        match raw.value {
            TextOr::Other(inline) => Some(self.users_and_groups(inline)),
            TextOr::Text(name) => match profiles.get(&name) {
                Ok(found) => found.cloned(),
                Err(hint) => {
                    let message = format!("the permissions {} do not exist", quoted(&name));
                    self.report.error(raw.span, message).hint(hint);
                    None
                }
            },
        }
    }

    /// The image that a runtime names, has inline, or gets because it says nothing.
    pub(super) fn image_of(
        &mut self,
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
                    self.report
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
                        self.report.error(span, message);
                        return None;
                    }
                    let name = self.name(&Spanned { value, span })?;
                    let image = self.image(inline, images.kind, profiles);
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
                    self.report
                        .error(runtime.span, message)
                        .hint(format!("add `{section}:` with one of {names}"));
                    None
                }
            },
        }
    }
}

fn default_name() -> Option<Name> {
    "default".parse().ok()
}
