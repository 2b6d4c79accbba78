//! Building an extension's sysroot: its packages, its overlay, its hook, and the metadata by
//! which systemd and avocadoctl know it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::Extension;
use serde::{Deserialize, Serialize};

use super::hook::{Hook, OverlayFiles};
use super::{Bench, Context, Step};
use crate::Error;
use crate::error::At as _;
use crate::graph::{Done, Task, TaskId};
use crate::stamp::{Outcome, Slot};
use crate::tree::{self, Modes};

/// A build, as it travels to the child: what of the extension's configuration it consumes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExtensionBuild {
    name: Name,
    version: Name,
    sysext: bool,
    confext: bool,
    overlay: Option<OverlayFiles>,
    post_build: Option<Hook>,
    enable_services: Vec<String>,
    modprobe: Vec<String>,
    on_merge: Vec<String>,
    on_unmerge: Vec<String>,
    reload_service_manager: bool,
    sysext_scopes: Vec<String>,
    confext_scopes: Vec<String>,
    /// Whether there is an installed tree to start from.
    packages: bool,
    /// A rootfs tree to look for units in.
    base: Option<Name>,
}

/// What a build made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Built {
    digest: Digest,
}

/// The parent's side of a build.
pub(crate) struct ExtensionBuildTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) extension: &'a Extension,
    /// The install of its packages, if it has any.
    pub(crate) install: Option<TaskId>,
    /// The rootfs that the extension is for, with its install.
    pub(crate) base: Option<(Name, TaskId)>,
    /// The install of the SDK, where a hook may use its tools.
    pub(crate) sdk: Option<TaskId>,
}

impl ExtensionBuildTask<'_> {
    fn request(&self) -> Result<ExtensionBuild, Error> {
        let e = self.extension;
        let overlay = e.overlay.as_ref();
        let post_build = e.post_build.as_deref();
        Ok(ExtensionBuild {
            name: e.name.clone(),
            version: e.version.clone(),
            sysext: e.sysext,
            confext: e.confext,
            overlay: overlay
                .map(|o| OverlayFiles::new(self.context, o))
                .transpose()?,
            post_build: post_build.map(|p| Hook::new(self.context, p)).transpose()?,
            enable_services: e.enable_services.clone(),
            modprobe: e.modprobe.clone(),
            on_merge: e.on_merge.clone(),
            on_unmerge: e.on_unmerge.clone(),
            reload_service_manager: e.reload_service_manager,
            sysext_scopes: e.sysext_scopes.clone(),
            confext_scopes: e.confext_scopes.clone(),
            packages: self.install.is_some(),
            base: self.base.as_ref().map(|(name, _)| name.clone()),
        })
    }
}

impl Task for ExtensionBuildTask<'_> {
    fn name(&self) -> String {
        format!("ext build {}", self.extension.name)
    }

    fn slot(&self) -> Slot {
        Slot {
            component: "extension",
            name: Some(self.extension.name.to_string()),
            command: "build",
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        // Only the units that are enabled are looked up in the rootfs.
        let base = match &self.base {
            Some((_, id)) if !self.extension.enable_services.is_empty() => {
                Some(done.get(*id)?.digest)
            }
            _ => None,
        };
        Ok(serde_json::json!({
            "build": self.request()?,
            "packages": done.digest(self.install)?,
            "base": base,
            "sdk": done.digest(self.sdk)?,
        }))
    }

    fn outputs(&self, _outcome: &Outcome) -> Vec<PathBuf> {
        vec![self.context.layout.extension(&self.extension.name)]
    }

    fn run(&self, _done: &Done<'_>, sink: &dyn Sink) -> Result<Outcome, Error> {
        let step = Step::ExtensionBuild(self.request()?);
        let built: Built = self.context.step(&self.name(), step, None, sink)?;
        Ok(Outcome {
            digest: built.digest,
            detail: serde_json::Value::Null,
        })
    }
}

impl ExtensionBuild {
    pub(crate) fn work(self, bench: &Bench<'_>) -> Result<Built, Error> {
        let place = bench.layout.extension(&self.name);
        let root = tree::unfinished(&place);
        tree::fresh(&root)?;
        if self.packages {
            let packages = bench.layout.extension_packages(&self.name);
            tree::copy(&packages, &root, Modes::Keep)?;
        }
        if let Some(overlay) = &self.overlay {
            overlay.apply(bench, &root)?;
        }
        if let Some(hook) = &self.post_build {
            hook.run(
                bench,
                &[
                    ("AVOCADO_BUILD_EXT_SYSROOT", root.as_os_str()),
                    ("AVOCADO_EXT_NAME", self.name.as_str().as_ref()),
                ],
            )?;
        }
        if self.confext {
            self.enable(bench, &root, "etc/systemd/system")?;
        } else if self.sysext {
            self.enable(bench, &root, "usr/lib/systemd/system")?;
        }
        let file = format!("extension-release.{}-{}", self.name, self.version);
        if self.sysext {
            let path = root.join("usr/lib/extension-release.d").join(&file);
            tree::write(
                &path,
                self.release(&root, "usr", "SYSEXT_SCOPE", &self.sysext_scopes),
            )?;
        }
        if self.confext {
            let path = root.join("etc/extension-release.d").join(&file);
            tree::write(
                &path,
                self.release(&root, "etc", "CONFEXT_SCOPE", &self.confext_scopes),
            )?;
        }
        let digest = tree::digest(&root, Modes::Keep)?;
        tree::replace(&root, &place)?;
        Ok(Built { digest })
    }

    /// The text of an extension-release file. Keys that are not systemd's are avocadoctl's.
    fn release(&self, root: &Path, hierarchy: &str, scope_key: &str, scopes: &[String]) -> String {
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
        let has = |directories: &[&str], suffix: &str| {
            directories.iter().any(|d| holds(&root.join(d), suffix))
        };
        let (sysusers, tmpfiles): (&[&str], &[&str]) = if hierarchy == "usr" {
            (
                &["usr/lib/sysusers.d", "usr/local/lib/sysusers.d"],
                &["usr/lib/tmpfiles.d", "usr/local/lib/tmpfiles.d"],
            )
        } else {
            (&["etc/sysusers.d"], &["etc/tmpfiles.d"])
        };
        let modules = &root.join("usr/lib/modules");
        let automatic = [
            ("depmod", hierarchy == "usr" && holds_module(modules)),
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
        text
    }

    /// Makes the links that `systemctl enable` would make, from each unit's `[Install]` section.
    fn enable(&self, bench: &Bench<'_>, root: &Path, links: &str) -> Result<(), Error> {
        for service in &self.enable_services {
            let base = self
                .base
                .as_ref()
                .map(|name| bench.layout.os_tree("rootfs", name));
            let (unit, text) = std::iter::once(root.to_owned())
                .chain(base)
                .find_map(|tree| find_unit(&tree, service))
                .ok_or_else(|| {
                    Error::Invalid(format!(
                        "extension `{}` enables {service}, but neither it nor the rootfs holds such a unit",
                        self.name
                    ))
                })?;
            let installs = install_links(&text);
            if installs.is_empty() {
                return Err(Error::Invalid(format!(
                    "extension `{}` enables {service}, whose [Install] section says neither WantedBy nor RequiredBy",
                    self.name
                )));
            }
            for (target, kind) in installs {
                let directory = root.join(links).join(format!("{target}.{kind}"));
                fs::create_dir_all(&directory).at("create", &directory)?;
                let link = directory.join(service);
                tree::clear(&link)?;
                symlink(&unit, &link).at("create", &link)?;
            }
        }
        Ok(())
    }
}

/// A value between quotes that cannot end early: the format has no escapes.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace(['"', '\n', '\r'], " "))
}

fn holds(directory: &Path, suffix: &str) -> bool {
    fs::read_dir(directory).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|e| e.file_name().to_string_lossy().ends_with(suffix))
    })
}

fn holds_module(modules: &Path) -> bool {
    walkdir::WalkDir::new(modules)
        .into_iter()
        .filter_map(Result::ok)
        .any(|e| {
            let name = e.file_name().to_string_lossy();
            [".ko", ".ko.xz", ".ko.gz", ".ko.zst"]
                .iter()
                .any(|s| name.ends_with(s))
        })
}

/// The path that a unit will have on the device, and its text. `name@instance` is found as the
/// template `name@`.
fn find_unit(root: &Path, service: &str) -> Option<(PathBuf, String)> {
    let template = service
        .split_once('@')
        .and_then(|(name, rest)| Some(format!("{name}@{}", &rest[rest.rfind('.')?..])));
    let names = std::iter::once(service.to_owned()).chain(template);
    names.into_iter().find_map(|name| {
        [
            "etc/systemd/system",
            "usr/lib/systemd/system",
            "lib/systemd/system",
        ]
        .iter()
        .map(|directory| Path::new(directory).join(&name))
        .find_map(|path| {
            let text = fs::read_to_string(tree::inside(root, &path)).ok()?;
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
    fn a_value_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"\nKEY=1"), "\"a  KEY=1\"");
    }

    #[test]
    fn units_are_found_by_name_or_template() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("a@.service"), "t").unwrap();
        let (path, text) = find_unit(root.path(), "a@1.service").unwrap();
        assert_eq!(path, Path::new("/usr/lib/systemd/system/a@.service"));
        assert_eq!(text, "t");
        assert!(find_unit(root.path(), "b.service").is_none());
        assert!(find_unit(root.path(), "a@").is_none());
    }
}
