//! The metadata by which systemd and avocadoctl know an extension: its release files, and the links
//! of the services that it enables.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;
use avocado_project::Extension;
use serde::{Deserialize, Serialize};

use crate::error::BuildError;
use crate::step_context::StepContext;
use crate::trees::{self, Tree};

/// Where the release file of an extension is, without which systemd takes no image.
pub(super) fn release_files(name: &Name, version: &Name) -> [PathBuf; 2] {
    ["usr/lib", "etc"].map(|directory| {
        let file = format!("extension-release.d/extension-release.{name}-{version}");
        Path::new(directory).join(file)
    })
}

/// What of an extension goes into its metadata.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ExtensionMetadata {
    pub(super) name: Name,
    version: Name,
    sysext: bool,
    confext: bool,
    enable_services: Vec<String>,
    modprobe: Vec<String>,
    on_merge: Vec<String>,
    on_unmerge: Vec<String>,
    reload_service_manager: bool,
    sysext_scopes: Vec<String>,
    confext_scopes: Vec<String>,
    /// The rootfs tree that it is for, to look for units in.
    base: Option<Name>,
}

impl ExtensionMetadata {
    pub(super) fn new(extension: &Extension, version: &Name, base: Option<&Name>) -> Self {
        let e = extension;
        ExtensionMetadata {
            name: e.name.clone(),
            version: version.clone(),
            sysext: e.sysext,
            confext: e.confext,
            enable_services: e.enable_services.clone(),
            modprobe: e.modprobe.clone(),
            on_merge: e.on_merge.clone(),
            on_unmerge: e.on_unmerge.clone(),
            reload_service_manager: e.reload_service_manager,
            sysext_scopes: e.sysext_scopes.clone(),
            confext_scopes: e.confext_scopes.clone(),
            base: base.cloned(),
        }
    }

    /// Makes the links of enabled services, and the release files.
    pub(super) fn apply(&self, context: &StepContext<'_>, root: &Tree) -> Result<(), BuildError> {
        if self.confext {
            self.enable(context, root, "etc/systemd/system")?;
        } else if self.sysext {
            self.enable(context, root, "usr/lib/systemd/system")?;
        }
        let [sysext, confext] = release_files(&self.name, &self.version);
        if self.sysext {
            let text = self.release(root, "usr", "SYSEXT_SCOPE", &self.sysext_scopes)?;
            root.write(sysext, text, 0o644)?;
        }
        if self.confext {
            let text = self.release(root, "etc", "CONFEXT_SCOPE", &self.confext_scopes)?;
            root.write(confext, text, 0o644)?;
        }
        Ok(())
    }

    /// The text of an extension-release file. Keys that are not systemd's are avocadoctl's.
    fn release(
        &self,
        root: &Tree,
        hierarchy: &str,
        scope_key: &str,
        scopes: &[String],
    ) -> Result<String, BuildError> {
        let mut text = String::from("ID=_any\n");
        let mut line = |key: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key}={value}");
        };
        if hierarchy == "usr" {
            let reload = u8::from(self.reload_service_manager);
            line("EXTENSION_RELOAD_MANAGER", &reload.to_string());
        }
        line(scope_key, &quoted(&scopes.join(" ")));
        let has =
            |directories: &[&str], suffix: &str| directories.iter().any(|d| holds(root, d, suffix));
        let (sysusers, tmpfiles): (&[&str], &[&str]) = if hierarchy == "usr" {
            (
                &["usr/lib/sysusers.d", "usr/local/lib/sysusers.d"],
                &["usr/lib/tmpfiles.d", "usr/local/lib/tmpfiles.d"],
            )
        } else {
            (&["etc/sysusers.d"], &["etc/tmpfiles.d"])
        };
        let automatic = [
            (
                "depmod",
                hierarchy == "usr" && holds_module(root, "usr/lib/modules"),
            ),
            (
                "ldconfig",
                hierarchy == "etc" && has(&["etc/ld.so.conf.d"], ".conf"),
            ),
            ("systemd-sysusers", has(sysusers, ".conf")),
            ("systemd-tmpfiles --create", has(tmpfiles, ".conf")),
        ];
        for (command, _) in automatic.iter().filter(|(_, wanted)| *wanted) {
            line("AVOCADO_ON_MERGE", &quoted(command));
        }
        if !self.modprobe.is_empty() {
            line("AVOCADO_MODPROBE", &quoted(&self.modprobe.join(" ")));
        }
        for command in &self.on_merge {
            line("AVOCADO_ON_MERGE", &quoted(command));
        }
        for command in &self.on_unmerge {
            line("AVOCADO_ON_UNMERGE", &quoted(command));
        }
        // With both types the confext, which holds the links, names the services.
        if !self.enable_services.is_empty() && (hierarchy == "etc" || !self.confext) {
            line(
                "AVOCADO_ENABLE_SERVICES",
                &quoted(&self.enable_services.join(" ")),
            );
        }
        Ok(text)
    }

    /// Makes the links that `systemctl enable` would make, from each unit's `[Install]` section.
    fn enable(
        &self,
        context: &StepContext<'_>,
        root: &Tree,
        links: &str,
    ) -> Result<(), BuildError> {
        let base = match &self.base {
            Some(name) => Some(Tree::open(&context.layout.os_tree("rootfs", name))?),
            None => None,
        };
        for service in &self.enable_services {
            let (unit, text) = std::iter::once(root)
                .chain(&base)
                .find_map(|tree| find_unit(tree, service))
                .ok_or_else(|| {
                    BuildError::Invalid(format!(
                        "extension `{}` enables {service}, but neither it nor the rootfs holds such a unit",
                        self.name
                    ))
                })?;
            let installs = install_links(&text);
            if installs.is_empty() {
                return Err(BuildError::Invalid(format!(
                    "extension `{}` enables {service}, whose [Install] section says neither WantedBy nor RequiredBy",
                    self.name
                )));
            }
            for (target, kind) in installs {
                let directory = Path::new(links).join(format!("{target}.{kind}"));
                root.symlink(&unit, directory.join(service))?;
            }
        }
        Ok(())
    }
}

/// A value between quotes that cannot end early: the format has no escapes.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace(['"', '\n', '\r'], " "))
}

/// Whether the extension itself has such files: a link out of it is one to what the device has.
fn holds(root: &Tree, directory: &str, suffix: &str) -> bool {
    root.names(directory).is_ok_and(|names| {
        let mut names = names.iter().map(|name| name.to_string_lossy());
        names.any(|name| name.ends_with(suffix))
    })
}

fn holds_module(root: &Tree, modules: &str) -> bool {
    root.resolve(modules).is_ok_and(|modules| {
        let entries = walkdir::WalkDir::new(modules).into_iter();
        entries.filter_map(Result::ok).any(|e| {
            let name = e.file_name().to_string_lossy();
            [".ko", ".ko.xz", ".ko.gz", ".ko.zst"]
                .iter()
                .any(|s| name.ends_with(s))
        })
    })
}

/// The path that a unit will have on the device, and its text. `name@instance` is found as the
/// template `name@`.
fn find_unit(root: &Tree, service: &str) -> Option<(PathBuf, String)> {
    trees::merged::unit_names(service).find_map(|name| {
        [
            "etc/systemd/system",
            "usr/lib/systemd/system",
            "lib/systemd/system",
        ]
        .iter()
        .map(|directory| Path::new(directory).join(&name))
        .find_map(|path| {
            let text = root.read(&path).ok()??;
            Some((Path::new("/").join(path), text))
        })
    })
}

fn install_links(unit: &str) -> Vec<(String, &'static str)> {
    let mut section = "";
    let mut links = Vec::new();
    for line in unit.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[Install]"
            && let Some((key, value)) = line.split_once('=')
        {
            let kind = match key.trim() {
                "WantedBy" => "wants",
                "RequiredBy" => "requires",
                _ => continue,
            };
            let targets = value.split_whitespace().filter(|t| !t.contains('/'));
            links.extend(targets.map(|target| (target.to_owned(), kind)));
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn install_sections_are_read() {
        let unit = "[Unit]\nWantedBy=no.target\n[Install]\nWantedBy = a.target b.target\nRequiredBy=c.target\nAlias=x\n";
        let links = install_links(unit);
        let links: Vec<_> = links.iter().map(|(t, k)| (t.as_str(), *k)).collect();
        assert_eq!(
            links,
            [
                ("a.target", "wants"),
                ("b.target", "wants"),
                ("c.target", "requires")
            ]
        );
    }

    #[test]
    fn systemd_and_avocadoctl_know_an_extension_by_its_release_file() {
        let root = tempfile::tempdir().unwrap();
        let touch = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let both = ExtensionMetadata {
            name: "app".parse().unwrap(),
            version: "1".parse().unwrap(),
            sysext: true,
            confext: true,
            enable_services: vec!["app.service".into()],
            modprobe: vec!["m".into(), "n".into()],
            on_merge: vec!["in".into()],
            on_unmerge: vec!["out".into()],
            reload_service_manager: true,
            sysext_scopes: vec!["system".into(), "portable".into()],
            confext_scopes: vec!["initrd".into()],
            base: None,
        };
        let sysext = |request: &ExtensionMetadata| {
            let tree = Tree::open(root.path()).unwrap();
            let text = request.release(&tree, "usr", "SYSEXT_SCOPE", &request.sysext_scopes);
            text.unwrap()
        };
        let confext = |request: &ExtensionMetadata| {
            let tree = Tree::open(root.path()).unwrap();
            let text = request.release(&tree, "etc", "CONFEXT_SCOPE", &request.confext_scopes);
            text.unwrap()
        };
        let told =
            "AVOCADO_MODPROBE=\"m n\"\nAVOCADO_ON_MERGE=\"in\"\nAVOCADO_ON_UNMERGE=\"out\"\n";
        let scopes = "ID=_any\nEXTENSION_RELOAD_MANAGER=1\nSYSEXT_SCOPE=\"system portable\"\n";
        assert_eq!(sysext(&both), format!("{scopes}{told}"));
        // The confext has the links, so it names the services.
        let services = "AVOCADO_ENABLE_SERVICES=\"app.service\"\n";
        assert_eq!(
            confext(&both),
            format!("ID=_any\nCONFEXT_SCOPE=\"initrd\"\n{told}{services}")
        );
        let alone = ExtensionMetadata {
            confext: false,
            ..both.clone()
        };
        assert_eq!(sysext(&alone), format!("{scopes}{told}{services}"));

        // What its files need is done when it is merged.
        touch("usr/lib/modules/6.12/extra/m.ko.xz");
        touch("usr/lib/sysusers.d/app.conf");
        touch("usr/local/lib/tmpfiles.d/app.conf");
        touch("etc/ld.so.conf.d/app.conf");
        let on_merge = |text: String| {
            let lines = text.lines().map(ToOwned::to_owned);
            let on_merge = lines.filter(|l| l.starts_with("AVOCADO_ON_MERGE="));
            on_merge.collect::<Vec<_>>()
        };
        assert_eq!(
            on_merge(sysext(&both)),
            [
                "AVOCADO_ON_MERGE=\"depmod\"",
                "AVOCADO_ON_MERGE=\"systemd-sysusers\"",
                "AVOCADO_ON_MERGE=\"systemd-tmpfiles --create\"",
                "AVOCADO_ON_MERGE=\"in\""
            ]
        );
        assert_eq!(
            on_merge(confext(&both)),
            ["AVOCADO_ON_MERGE=\"ldconfig\"", "AVOCADO_ON_MERGE=\"in\""]
        );
    }

    #[test]
    fn a_value_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"\nKEY=1"), "\"a  KEY=1\"");
    }

    #[test]
    fn units_are_found_by_name_or_template() {
        let directory = tempfile::tempdir().unwrap();
        let units = directory.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join("a@.service"), "t").unwrap();
        let root = Tree::open(directory.path()).unwrap();
        let (path, text) = find_unit(&root, "a@1.service").unwrap();
        assert_eq!(path, Path::new("/usr/lib/systemd/system/a@.service"));
        assert_eq!(text, "t");
        assert!(find_unit(&root, "b.service").is_none());
        assert!(find_unit(&root, "a@").is_none());
    }
}
