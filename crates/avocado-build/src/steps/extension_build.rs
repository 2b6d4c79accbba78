//! Building an extension's sysroot: its packages, its overlay, its hook, and the metadata by
//! which systemd and avocadoctl know it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::Extension;
use serde::{Deserialize, Serialize};

use super::accounts::ExtensionAccounts;
use super::compiled_package::CompiledPackage;
use super::hook::{Hook, OverlayFiles};
use super::install::{self, InstallOutput};
use super::scripts::{ScriptInputs, Scripts};
use crate::build_context::BuildContext;
use crate::error::Error;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, CopyModes, Tree};

/// A build, as it travels to the child: what of the extension's configuration it consumes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExtensionBuildRequest {
    name: Name,
    version: Name,
    sysext: bool,
    confext: bool,
    overlay: Option<OverlayFiles>,
    post_build: Option<Hook>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accounts: Option<ExtensionAccounts>,
    enable_services: Vec<String>,
    modprobe: Vec<String>,
    on_merge: Vec<String>,
    on_unmerge: Vec<String>,
    reload_service_manager: bool,
    sysext_scopes: Vec<String>,
    confext_scopes: Vec<String>,
    /// Whether there is an installed tree to start from.
    packages: bool,
    /// The rootfs tree that it is for, to look for units in.
    base: Option<Name>,
    /// Those of its packages that the project compiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    compiled: Vec<CompiledPackage>,
}

/// What a build made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExtensionBuildOutput {
    /// Of the sysroot.
    pub(crate) digest: Digest,
}

/// Adds the build of an extension, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    name: &Name,
) -> Result<TaskId<ExtensionBuildOutput>, Error> {
    plan.once(&stamp_key(name, "build"), |plan| {
        let extension = plan.context.extension(name)?;
        needed::for_extension_build(plan.context.project, extension)?;
        let version = plan.context.version_of(extension)?;
        let packages = install::plan_extension(plan, name)?;
        let needs_base = !extension.enable_services.is_empty() || extension.permissions.is_some();
        let base = if needs_base {
            install::plan_base(plan, name)?
        } else {
            None
        };
        let has_hook = extension.post_build.is_some();
        let scripts = Scripts::plan(plan, &extension.project_packages, has_hook)?;
        Ok(ExtensionBuildTask {
            context: plan.context,
            extension,
            version,
            packages,
            base,
            scripts,
        })
    })
}

/// The stamp of a step of an extension.
pub(super) fn stamp_key(extension: &Name, command: &'static str) -> StampKey {
    StampKey {
        component: "extension",
        // As published: shorter than the component.
        directory: "ext",
        name: Some(extension.to_string()),
        command,
    }
}

/// The parent's side of a build.
struct ExtensionBuildTask<'a> {
    context: &'a BuildContext<'a>,
    extension: &'a Extension,
    version: &'a Name,
    /// The install of its packages, if it has any.
    packages: Option<TaskId<InstallOutput>>,
    /// The rootfs that the extension is for, with its install. The units that are enabled are
    /// looked up in it, and the users that there are.
    base: Option<(Name, TaskId<InstallOutput>)>,
    scripts: Scripts,
}

/// Counts how often the same inputs came to mean another sysroot: what was made before is not good
/// any more. The last was that hard links of an overlay are files of their own.
const REVISION: u32 = 2;

/// What a build consumes.
#[derive(Debug, Serialize)]
struct ExtensionBuildInputs {
    revision: u32,
    build: ExtensionBuildRequest,
    packages: Option<Digest>,
    base: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<ScriptInputs>,
}

impl ExtensionBuildTask<'_> {
    fn request(&self) -> Result<ExtensionBuildRequest, Error> {
        let e = self.extension;
        let overlay = e.overlay.as_ref();
        let post_build = e.post_build.as_deref();
        let files = self.context.files_of(e);
        Ok(ExtensionBuildRequest {
            name: e.name.clone(),
            version: self.version.clone(),
            sysext: e.sysext,
            confext: e.confext,
            overlay: overlay
                .map(|o| OverlayFiles::new(self.context, &files, o))
                .transpose()?,
            post_build: post_build.map(|p| Hook::new(&files, p)).transpose()?,
            accounts: match &self.base {
                Some((rootfs, _)) => ExtensionAccounts::new(self.context, e, rootfs)?,
                None => None,
            },
            enable_services: e.enable_services.clone(),
            modprobe: e.modprobe.clone(),
            on_merge: e.on_merge.clone(),
            on_unmerge: e.on_unmerge.clone(),
            reload_service_manager: e.reload_service_manager,
            sysext_scopes: e.sysext_scopes.clone(),
            confext_scopes: e.confext_scopes.clone(),
            packages: self.packages.is_some(),
            base: self.base.as_ref().map(|(name, _)| name.clone()),
            compiled: CompiledPackage::all(&files, &e.project_packages)?,
        })
    }
}

impl Task for ExtensionBuildTask<'_> {
    type Inputs = ExtensionBuildInputs;
    type Output = ExtensionBuildOutput;
    type Error = Error;

    fn stage(&self) -> String {
        format!("ext build {}", self.extension.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.extension.name, "build")
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let base = self.base.as_ref().map(|(_, id)| *id);
        let needs = [self.packages, base].into_iter().flatten();
        let needs = needs.map(AnyTaskId::from);
        needs.chain(self.scripts.needs()).collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<ExtensionBuildInputs, Error> {
        let base = self.base.as_ref().map(|(_, id)| *id);
        let files = self.context.files_of(self.extension);
        Ok(ExtensionBuildInputs {
            revision: REVISION,
            build: self.request()?,
            packages: needs.optional_digest(self.packages)?,
            base: needs.optional_digest(base)?,
            scripts: self.scripts.inputs(self.context, &files, needs)?,
        })
    }

    fn recorded_inputs(&self, before: ExtensionBuildInputs) -> Result<ExtensionBuildInputs, Error> {
        Ok(ExtensionBuildInputs {
            scripts: before.scripts.map(ScriptInputs::recorded),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &ExtensionBuildInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<ExtensionBuildOutput, Error> {
        let request = inputs.build.clone();
        self.context.run_step(&self.stage(), request, sink)
    }

    fn output_files(&self, _output: &ExtensionBuildOutput) -> Vec<PathBuf> {
        vec![self.context.layout.extension(&self.extension.name)]
    }

    fn digest(&self, output: &ExtensionBuildOutput) -> Digest {
        output.digest
    }
}

impl BuildStep for ExtensionBuildTask<'_> {}

impl StepRequest for ExtensionBuildRequest {
    const KIND: &'static str = "extension_build";
    type Result = ExtensionBuildOutput;

    fn runs_hook(&self) -> bool {
        self.post_build.is_some() || !self.compiled.is_empty()
    }

    fn work(self, context: &StepContext<'_>) -> Result<ExtensionBuildOutput, Error> {
        let place = context.layout.extension(&self.name);
        let new = trees::unfinished(&place);
        let root = Tree::fresh(&new)?;
        if self.packages {
            let packages = context.layout.extension_packages(&self.name);
            trees::copy(&packages, &root, Path::new(""), CopyModes::Keep)?;
        }
        for package in &self.compiled {
            package.install(
                context,
                &format!("ext build {}", self.name),
                &[
                    ("AVOCADO_BUILD_EXT_SYSROOT", new.as_os_str()),
                    ("AVOCADO_EXT_NAME", self.name.as_str().as_ref()),
                ],
            )?;
        }
        // A script may have put another directory there.
        let root = Tree::open(&new)?;
        if let Some(overlay) = &self.overlay {
            overlay.tell_of_modes(context)?;
            overlay.apply(context, &root)?;
        }
        if let Some(hook) = &self.post_build {
            hook.run(
                context,
                &format!("ext build {} post_build", self.name),
                &[
                    ("AVOCADO_BUILD_EXT_SYSROOT", new.as_os_str()),
                    ("AVOCADO_EXT_NAME", self.name.as_str().as_ref()),
                ],
            )?;
        }
        // The hook may have put another directory there.
        let root = Tree::open(&new)?;
        trees::remove_unused_directories(&root)?;
        if let Some(accounts) = &self.accounts {
            accounts.apply(context, &self.name, &root)?;
        }
        self.add_metadata(context, &root)
            .map_err(|error| match &self.overlay {
                Some(overlay) => overlay.blamed_for(error),
                None => error,
            })?;
        let digest = trees::digest(&new, CopyModes::Keep)?;
        trees::replace(&new, &place)?;
        Ok(ExtensionBuildOutput { digest })
    }
}

/// Where the release file of an extension is, without which systemd takes no image.
pub(super) fn release_files(name: &Name, version: &Name) -> [PathBuf; 2] {
    ["usr/lib", "etc"].map(|directory| {
        let file = format!("extension-release.d/extension-release.{name}-{version}");
        Path::new(directory).join(file)
    })
}

impl ExtensionBuildRequest {
    /// The links of enabled services, and the release files.
    fn add_metadata(&self, context: &StepContext<'_>, root: &Tree) -> Result<(), Error> {
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
    ) -> Result<String, Error> {
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
    fn enable(&self, context: &StepContext<'_>, root: &Tree, links: &str) -> Result<(), Error> {
        let base = match &self.base {
            Some(name) => Some(Tree::open(&context.layout.os_tree("rootfs", name))?),
            None => None,
        };
        for service in &self.enable_services {
            let (unit, text) = std::iter::once(root)
                .chain(&base)
                .find_map(|tree| find_unit(tree, service))
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
    use crate::layout::Layout;

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
        let both = ExtensionBuildRequest {
            name: "app".parse().unwrap(),
            version: "1".parse().unwrap(),
            sysext: true,
            confext: true,
            overlay: None,
            post_build: None,
            accounts: None,
            enable_services: vec!["app.service".into()],
            modprobe: vec!["m".into(), "n".into()],
            on_merge: vec!["in".into()],
            on_unmerge: vec!["out".into()],
            reload_service_manager: true,
            sysext_scopes: vec!["system".into(), "portable".into()],
            confext_scopes: vec!["initrd".into()],
            packages: false,
            base: None,
            compiled: Vec::new(),
        };
        let sysext = |request: &ExtensionBuildRequest| {
            let tree = Tree::open(root.path()).unwrap();
            let text = request.release(&tree, "usr", "SYSEXT_SCOPE", &request.sysext_scopes);
            text.unwrap()
        };
        let confext = |request: &ExtensionBuildRequest| {
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
        let alone = ExtensionBuildRequest {
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
    fn users_of_an_extension_are_added_to_those_of_its_rootfs() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        let rootfs = layout.os_tree("rootfs", &"default".parse().unwrap());
        fs::create_dir_all(rootfs.join("etc")).unwrap();
        for (file, text) in [
            (
                "passwd",
                "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n",
            ),
            ("shadow", "root:*:20000:0:99999:7:::\ndaemon:*:1::::::\n"),
            ("group", "root:x:0:\ndaemon:x:1:\n"),
        ] {
            fs::write(rootfs.join("etc").join(file), text).unwrap();
        }
        let accounts = serde_json::json!({
            "own": {"users": [{
                "name": "root", "password": "", "groups": [], "last_change": 19000,
                "min_days": 0, "max_days": 99999, "warn_days": 7,
            }], "groups": [{"name": "wheel"}]},
            "rootfs": "default",
            "rootfs_permissions": {"users": [{
                "name": "pi", "uid": 1500, "password": "$6$x", "groups": ["daemon"],
                "last_change": 19000, "min_days": 0, "max_days": 99999, "warn_days": 7,
            }], "groups": []},
        });
        let request = ExtensionBuildRequest {
            name: "config".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            sysext: false,
            confext: true,
            overlay: None,
            post_build: None,
            accounts: Some(serde_json::from_value(accounts).unwrap()),
            enable_services: Vec::new(),
            modprobe: Vec::new(),
            on_merge: Vec::new(),
            on_unmerge: Vec::new(),
            reload_service_manager: false,
            sysext_scopes: Vec::new(),
            confext_scopes: vec!["system".into()],
            packages: false,
            base: Some("default".parse().unwrap()),
            compiled: Vec::new(),
        };
        let context = StepContext {
            target: "t".parse().unwrap(),
            layout: layout.clone(),
            host_layout: layout.clone(),
            epoch: 0,
            modes: CopyModes::Keep,
            sink: &avocado_events::Silent,
            loop_mounts: None,
        };
        request.clone().work(&context).unwrap();
        let read = |file: &str| {
            let tree = layout.extension(&request.name);
            fs::read_to_string(tree.join("etc").join(file)).unwrap()
        };
        assert_eq!(
            read("shadow"),
            "root::19000:0:99999:7:::\ndaemon:*:1::::::\npi:$6$x:19000:0:99999:7:::\n"
        );
        assert_eq!(
            read("passwd"),
            "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n\
             pi:x:1500:1500:pi:/home/pi:/bin/sh\n"
        );
        let group = "root:x:0:\ndaemon:x:1:pi\npi:x:1500:\nwheel:x:1000:\n";
        assert_eq!(read("group"), group);
        let shadow = layout.extension(&request.name).join("etc/shadow");
        let mode = fs::metadata(shadow).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o640
        );
        assert!(!layout.work("accounts-config").exists());
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
