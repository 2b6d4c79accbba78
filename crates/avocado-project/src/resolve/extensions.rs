use avocado_manifest::Name;

use crate::decode::{Decoded, Spanned, TextOr, decode};
use crate::diagnostic::quoted;
use crate::model::{Extension, Filesystem};
use crate::raw::{RawExtension, RawVersionFile, Text, listed};
use crate::suggest;

use super::values::{MOUNTED, is_version};
use super::{Resolver, spanned};

/// The extensions of the project.
pub(super) struct Extensions {
    pub(super) entries: Vec<Extension>,
    /// The names in the file, also of those that are wrong.
    pub(super) declared: Vec<String>,
}

impl Resolver<'_, '_> {
    pub(super) fn extensions(&mut self) -> Extensions {
        let mut extensions = Extensions {
            entries: Vec::new(),
            declared: Vec::new(),
        };
        for entry in self.section("extensions") {
            let key = spanned(&entry.key);
            extensions.declared.push(key.value.clone());
            let name = self.name(&key);
            let Some(raw) = decode(&entry.value, self.report) else {
                continue;
            };
            let extension = self.extension(&key, name, raw);
            extensions.entries.extend(extension);
        }
        extensions
    }

    fn extension(
        &mut self,
        key: &Text,
        name: Option<Name>,
        raw: Decoded<RawExtension>,
    ) -> Option<Extension> {
        let Decoded {
            value: raw,
            dropped,
        } = raw;
        if let Some(source) = &raw.source {
            let what = "an extension that is fetched (`source`)";
            self.unsupported(source.span, what);
            // It has its version and the rest where it comes from.
            return None;
        }
        if let Some(nested) = &raw.extensions {
            self.unsupported(nested.span, "an extension that needs other extensions");
        }
        for part in [&raw.users, &raw.groups].into_iter().flatten() {
            self.report
                .warning(part.span, "users and groups of an extension have no effect")
                .hint("move them to `permissions:` and name that in `rootfs.permissions`");
        }
        self.image_type(raw.image.as_ref(), None);
        let version = match raw.version {
            Some(version) => self.version(version),
            None => {
                if !dropped.iter().any(|key| key == "version") {
                    let message = format!("the extension {} has no `version`", quoted(key));
                    self.report
                        .error(key.span, message)
                        .hint("add for example `version: 0.1.0`");
                }
                None
            }
        };
        let (sysext, confext) = self.types(raw.types);
        let scopes = self.words(raw.scopes, "scope");
        let scopes = match scopes.is_empty() {
            true => vec!["system".to_owned()],
            false => scopes,
        };
        let own_scopes = |this: &mut Self, own: Option<Vec<Text>>| match own {
            Some(own) => this.words(Some(own), "scope"),
            None => scopes.clone(),
        };
        let extension = Extension {
            sysext,
            confext,
            packages: self.packages(raw.packages),
            overlay: self.overlay(raw.overlay),
            post_build: self.script(raw.post_build.as_ref()),
            filesystem: self.filesystem(raw.filesystem.as_ref(), MOUNTED, Filesystem::Squashfs),
            var_files: self.var_patterns(raw.var_files),
            enable_services: self.words(raw.enable_services, "service"),
            modprobe: self.words(raw.modprobe, "kernel module"),
            on_merge: self.lines(raw.on_merge.map(listed)),
            on_unmerge: self.lines(raw.on_unmerge.map(listed)),
            reload_service_manager: raw.reload_service_manager.unwrap_or(false),
            sysext_scopes: own_scopes(self, raw.sysext_scopes),
            confext_scopes: own_scopes(self, raw.confext_scopes),
            // Last, so that one without a name or version is checked as well.
            name: name?,
            version: version?,
        };
        Some(extension)
    }

    fn version(&mut self, version: Spanned<TextOr<RawVersionFile>>) -> Option<Name> {
        let span = version.span;
        match version.value {
            TextOr::Other(_) => {
                self.unsupported(span, "a version that is read from a file");
                None
            }
            TextOr::Text(value) if is_version(&value) => self.name(&Spanned { value, span }),
            TextOr::Text(value) => {
                let message = format!("{} is not a version of an extension", quoted(&value));
                self.report.error(span, message).hint(
                    "write three numbers or more, for example `0.1.0`, `1.2.3-rc.1` or `1.2.3+7`",
                );
                None
            }
        }
    }

    /// Whether it is a sysext, and whether it is a confext.
    fn types(&mut self, types: Option<Spanned<Vec<Text>>>) -> (bool, bool) {
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
                    self.report
                        .error(text.span, message)
                        .hint(suggest::hint(other, ["sysext", "confext"]));
                }
            }
        }
        if types.value.is_empty() {
            let message = "an extension is a `sysext`, a `confext` or both";
            self.report.error(types.span, message);
        }
        (sysext, confext)
    }
}
