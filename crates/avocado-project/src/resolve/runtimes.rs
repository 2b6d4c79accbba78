use avocado_manifest::Name;

use crate::decode::{Decoded, Spanned, TextOr, decode};
use crate::diagnostic::quoted;
use crate::model::{Runtime, RuntimeExtension, VarFile};
use crate::raw::{RawInclusions, RawRuntime, RawSigning, RawTop, RawVarFile, Text};
use crate::suggest;
use crate::yaml::Entry;

use super::extensions::Extensions;
use super::images::Images;
use super::permissions::Profiles;
use super::{Resolver, spanned};

/// What runtimes refer to.
pub(super) struct Surroundings<'a> {
    pub(super) target: &'a Name,
    pub(super) extensions: &'a Extensions,
    pub(super) permissions: &'a Profiles,
    pub(super) rootfs: &'a mut Images,
    pub(super) initramfs: &'a mut Images,
}

impl<'a> Resolver<'a, '_> {
    /// The entries of `runtimes`, or of its old name.
    pub(super) fn runtime_section(&mut self) -> &'a [Entry] {
        let name = match self.root.get("runtimes") {
            Some(_) => "runtimes",
            None => "runtime",
        };
        self.section(name)
    }

    /// The runtimes of the current target. Those of other targets are read for their types only:
    /// what they refer to may exist for those targets alone.
    pub(super) fn runtimes(&mut self, top: &RawTop, around: &mut Surroundings<'_>) -> Vec<Runtime> {
        let section = self.runtime_section();
        if section.is_empty() {
            return self.synthesised(top, around).into_iter().collect();
        }
        let mut runtimes = Vec::new();
        for entry in section {
            let key = spanned(&entry.key);
            let name = self.name(&key);
            let Some(raw) = decode::<RawRuntime>(&entry.value, self.report) else {
                continue;
            };
            let target = raw.value.target.as_ref();
            if target.is_some_and(|target| target.value != around.target.as_str()) {
                continue;
            }
            runtimes.extend(self.runtime(&key, name, raw, around));
        }
        runtimes
    }

    /// A project without runtimes that states an OS has one, `default`.
    fn synthesised(&mut self, top: &RawTop, around: &mut Surroundings<'_>) -> Option<Runtime> {
        let default_target = top.default_target.as_ref()?;
        let states = |section: &&str| self.root.get(section).is_some();
        ["rootfs", "initramfs", "kernel"]
            .iter()
            .find(|s| states(s))?;
        let key = Spanned {
            value: "default".to_owned(),
            span: default_target.span,
        };
        let raw = Decoded {
            value: RawRuntime::default(),
            dropped: Vec::new(),
        };
        let name = self.name(&key);
        self.runtime(&key, name, raw, around)
    }

    fn runtime(
        &mut self,
        key: &Text,
        name: Option<Name>,
        raw: Decoded<RawRuntime>,
        around: &mut Surroundings<'_>,
    ) -> Option<Runtime> {
        let raw = raw.value;
        if let Some(kind) = &raw.r#type {
            let what = format!("a runtime of type {}", quoted(kind));
            self.unsupported(kind.span, &what);
        }
        if let Some(TextOr::Other(kernel)) = &raw.kernel {
            self.kernel(kernel);
        }
        let profiles = around.permissions;
        let rootfs = self.image_of(key, raw.rootfs, around.rootfs, profiles);
        let initramfs = self.image_of(key, raw.initramfs, around.initramfs, profiles);
        let inclusions = raw.extensions.unwrap_or_default();
        let runtime = Runtime {
            version: self.lines(raw.version.map(|v| vec![v])).pop(),
            extensions: self.inclusions(inclusions, around.extensions),
            packages: self.packages(raw.packages),
            var_files: self.var_files(raw.var_files.unwrap_or_default()),
            signing_key: raw.signing.and_then(|signing| self.signing(signing)),
            post_build: self.script(raw.post_build.as_ref()),
            rootfs: rootfs?,
            initramfs: initramfs?,
            name: name?,
        };
        Some(runtime)
    }

    fn inclusions(&mut self, raw: RawInclusions, known: &Extensions) -> Vec<RuntimeExtension> {
        let mut inclusions: Vec<RuntimeExtension> = Vec::new();
        for Spanned { value, span } in raw {
            let (text, enabled) = match value {
                TextOr::Text(value) => (Spanned { value, span }, true),
                TextOr::Other(entries) => match <[_; 1]>::try_from(entries.0) {
                    Ok([(name, settings)]) => {
                        (name, settings.and_then(|s| s.enabled).unwrap_or(true))
                    }
                    Err(_) => {
                        let message = "each entry names one extension";
                        self.report
                            .error(span, message)
                            .hint("write `- name` or `- name: {enabled: false}`");
                        continue;
                    }
                },
            };
            let declared = || known.declared.iter().map(String::as_str);
            if declared().all(|name| name != text.value) {
                let message = format!("the extension {} does not exist", quoted(&text));
                self.report
                    .error(text.span, message)
                    .hint(suggest::hint(&text, declared()));
                continue;
            }
            // One that is declared with an unusable name is reported there.
            let Ok(name) = text.parse::<Name>() else {
                continue;
            };
            if inclusions.iter().any(|known| known.name == name) {
                let message = format!("the extension {} is listed twice", quoted(&text));
                self.report
                    .warning(text.span, message)
                    .hint("the first place counts");
                continue;
            }
            inclusions.push(RuntimeExtension { name, enabled });
        }
        inclusions
    }

    fn var_files(&mut self, raw: Vec<Spanned<RawVarFile>>) -> Vec<VarFile> {
        let mut files = Vec::new();
        for Spanned { value, span } in raw {
            let (Some(source), Some(dest)) = (value.source, value.dest) else {
                let message = "an entry of `var_files` has a `source` and a `dest`";
                self.report.error(span, message);
                continue;
            };
            let source = self.source_path(&source, "source");
            let dest = self.var_dest(&dest);
            if let (Some(source), Some(dest)) = (source, dest) {
                files.push(VarFile { source, dest });
            }
        }
        files
    }

    fn signing(&mut self, raw: RawSigning) -> Option<String> {
        if let Some(key) = &raw.content_key {
            self.unsupported(key.span, "a second key for the content");
        }
        if let Some(algorithm) = raw.checksum_algorithm {
            match algorithm.as_str() {
                "sha256" => {}
                "blake3" => {
                    self.unsupported(algorithm.span, "the checksum algorithm `blake3`");
                }
                other => {
                    let message = format!("{} is not a checksum algorithm", quoted(other));
                    self.report
                        .error(algorithm.span, message)
                        .hint(suggest::hint(other, ["sha256", "blake3"]));
                }
            }
        }
        self.lines(raw.key.map(|key| vec![key])).pop()
    }
}
