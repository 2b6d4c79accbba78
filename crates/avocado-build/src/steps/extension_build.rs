//! Building an extension's sysroot: its packages, its overlay, its hook, and its metadata.

use std::path::{Path, PathBuf};

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::Extension;
use serde::{Deserialize, Serialize};

use super::accounts::ExtensionAccounts;
use super::compiled_package::CompiledPackage;
use super::extension_metadata::ExtensionMetadata;
use super::hook::Hook;
use super::install::{self, InstallOutput};
use super::overlay::{CopiedOverlay, OverlayFiles};
use super::scripts::{ScriptInputs, Scripts};
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, CopiedFiles, CopyModes, Tree, TreeFeatures};

/// A build, as it travels to the child: what of the extension's configuration it consumes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExtensionBuildRequest {
    #[serde(flatten)]
    metadata: ExtensionMetadata,
    overlay: Option<OverlayFiles>,
    post_build: Option<Hook>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accounts: Option<ExtensionAccounts>,
    /// Whether there is an installed tree to start from.
    packages: bool,
    /// Those of its packages that the project compiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    compiled: Vec<CompiledPackage>,
}

/// What a build made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExtensionBuildOutput {
    /// Of the sysroot.
    pub(crate) digest: Digest,
    /// By which the sysroot is known without being read.
    pub(crate) state: Option<Digest>,
    pub(crate) features: TreeFeatures,
    /// The overlay, as it was when it was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overlay: Option<CopiedOverlay>,
    /// That of the rootfs, where users of it are looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rootfs_overlay: Option<CopiedOverlay>,
}

/// Adds the build of an extension, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    name: &Name,
) -> Result<TaskId<ExtensionBuildOutput>, BuildError> {
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
/// any more. The last was that everything in it has the time that the image holds.
const REVISION: u32 = 3;

/// What a build consumes.
#[derive(Debug, Serialize)]
struct ExtensionBuildInputs {
    revision: u32,
    /// The time of everything that no package gives an earlier one.
    source_date_epoch: u64,
    build: ExtensionBuildRequest,
    packages: Option<Digest>,
    base: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<ScriptInputs>,
}

impl ExtensionBuildTask<'_> {
    fn request(&self) -> Result<ExtensionBuildRequest, BuildError> {
        let e = self.extension;
        let overlay = e.overlay.as_ref();
        let post_build = e.post_build.as_deref();
        let files = self.context.files_of(e);
        Ok(ExtensionBuildRequest {
            metadata: ExtensionMetadata::new(
                e,
                self.version,
                self.base.as_ref().map(|(name, _)| name),
            ),
            overlay: overlay
                .map(|o| OverlayFiles::new(self.context, &files, o))
                .transpose()?,
            post_build: post_build.map(|p| Hook::new(&files, p)).transpose()?,
            accounts: match &self.base {
                Some((rootfs, _)) => ExtensionAccounts::new(self.context, e, rootfs)?,
                None => None,
            },
            packages: self.packages.is_some(),
            compiled: CompiledPackage::all(&files, &e.project_packages)?,
        })
    }
}

impl Task for ExtensionBuildTask<'_> {
    type Inputs = ExtensionBuildInputs;
    type Output = ExtensionBuildOutput;
    type Error = BuildError;

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

    fn inputs(&self, needs: &Needs<'_>) -> Result<ExtensionBuildInputs, BuildError> {
        let base = self.base.as_ref().map(|(_, id)| *id);
        let files = self.context.files_of(self.extension);
        Ok(ExtensionBuildInputs {
            revision: REVISION,
            source_date_epoch: self.context.project.source_date_epoch,
            build: self.request()?,
            packages: needs.optional_digest(self.packages)?,
            base: needs.optional_digest(base)?,
            scripts: self.scripts.inputs(self.context, &files, needs)?,
        })
    }

    fn recorded_inputs(
        &self,
        before: ExtensionBuildInputs,
    ) -> Result<ExtensionBuildInputs, BuildError> {
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
    ) -> Result<ExtensionBuildOutput, BuildError> {
        let mut request = inputs.build.clone();
        if let (Some(files), Some(overlay)) = (&mut request.overlay, &self.extension.overlay) {
            let place = self.context.files_of(self.extension);
            files.fill(self.context, &place, overlay, sink)?;
        }
        if let Some(accounts) = &mut request.accounts {
            accounts.fill(self.context)?;
        }
        self.context.run_step(&self.stage(), request, sink)
    }

    fn is_made_of(&self, inputs: &ExtensionBuildInputs, output: &ExtensionBuildOutput) -> bool {
        let build = &inputs.build;
        let of_rootfs = build.accounts.as_ref().and_then(|a| a.rootfs_overlay());
        [
            (build.overlay.as_ref(), output.overlay),
            (of_rootfs, output.rootfs_overlay),
        ]
        .into_iter()
        .all(|(overlay, copied)| overlay.is_none_or(|overlay| overlay.is(copied)))
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

    fn work(self, context: &StepContext<'_>) -> Result<ExtensionBuildOutput, BuildError> {
        let name = &self.metadata.name;
        let place = context.layout.extension(name);
        let new = trees::unfinished(&place);
        let root = Tree::fresh(&new)?;
        if self.packages {
            let packages = context.layout.extension_packages(name);
            trees::copy(&packages, &root, Path::new(""), CopyModes::Keep)?;
        }
        let step = format!("ext build {name}");
        let variables = [
            ("AVOCADO_BUILD_EXT_SYSROOT", new.as_os_str()),
            ("AVOCADO_EXT_NAME", name.as_str().as_ref()),
        ];
        for package in &self.compiled {
            package.install(context, &step, &variables)?;
        }
        // A script may have put another directory there.
        let root = Tree::open(&new)?;
        let mut copied = CopiedFiles::default();
        let mut copied_overlay = None;
        if let Some(overlay) = &self.overlay {
            overlay.tell_of_losses(context)?;
            // A hook sees the times of files, and can set them.
            let copied = self.post_build.is_none().then_some(&mut copied);
            copied_overlay = Some(overlay.apply(context, &root, copied)?);
        }
        if let Some(hook) = &self.post_build {
            hook.run(context, &format!("{step} post_build"), &variables)?;
        }
        // The hook may have put another directory there.
        let root = Tree::open(&new)?;
        trees::remove_unused_directories(&root)?;
        let rootfs_overlay = match &self.accounts {
            Some(accounts) => accounts.apply(context, name, &root)?,
            None => None,
        };
        let described = self.metadata.apply(context, &root);
        described.map_err(|error| match &self.overlay {
            Some(overlay) => overlay.blamed_for(error),
            None => error,
        })?;
        let packages = self
            .packages
            .then(|| context.layout.extension_packages(name));
        let (packages, epoch) = (packages.as_deref(), context.epoch);
        let features = trees::settle_copied(&root, packages, epoch, &mut copied)?;
        let state = trees::state_before_reading(&new)?;
        let digest = trees::digest_of_copied(&new, &copied)?;
        trees::replace(&new, &place)?;
        Ok(ExtensionBuildOutput {
            digest,
            state,
            features,
            overlay: copied_overlay,
            rootfs_overlay,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::build_context::FilesOfProject;
    use crate::layout::Layout;

    /// The build of a confext without anything, but for what is stated.
    fn request(stated: &Value) -> ExtensionBuildRequest {
        let mut request = json!({
            "name": "app", "version": "1.0.0", "sysext": false, "confext": true,
            "overlay": null, "post_build": null, "enable_services": [], "modprobe": [],
            "on_merge": [], "on_unmerge": [], "reload_service_manager": false,
            "sysext_scopes": [], "confext_scopes": ["system"], "packages": false, "base": null,
        });
        let stated = stated.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(stated);
        serde_json::from_value(request).unwrap()
    }

    fn context(layout: &Layout) -> StepContext<'static> {
        StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: layout.clone(),
            host_layout: layout.clone(),
            epoch: 0,
            modes: CopyModes::Keep,
            sink: &avocado_events::Silent,
            loop_mounts: None,
        }
    }

    #[test]
    fn a_hook_finds_the_overlay_and_may_change_it() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(&directory.path().join("state"), &"t".parse().unwrap());
        let project = directory.path().join("project");
        fs::create_dir_all(project.join("overlay/etc")).unwrap();
        fs::write(project.join("overlay/etc/key"), "overlay").unwrap();
        // What no clone could say of it.
        let hook = "chmod 0400 \"$AVOCADO_BUILD_EXT_SYSROOT/etc/key\"\n";
        fs::write(project.join("hook"), hook).unwrap();
        let files = FilesOfProject {
            on_host: project.clone(),
            in_step: project.clone(),
            is_foreign: false,
        };
        let request = request(&json!({
            "post_build": Hook::new(&files, Path::new("hook")).unwrap(),
            "overlay": {"project": project, "dir": "overlay", "content": Digest::of(b"")},
        }));
        request.clone().work(&context(&layout)).unwrap();
        let key = layout.extension(&request.metadata.name).join("etc/key");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o400);
        assert_eq!(fs::read_to_string(key).unwrap(), "overlay");
    }

    #[test]
    fn what_was_copied_is_known_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(&directory.path().join("state"), &"t".parse().unwrap());
        let project = directory.path().join("project");
        fs::create_dir_all(project.join("overlay/etc")).unwrap();
        fs::write(project.join("overlay/etc/key"), "overlay").unwrap();
        let hook = "echo hook >\"$AVOCADO_BUILD_EXT_SYSROOT/etc/key\"\n";
        fs::write(project.join("hook"), hook).unwrap();
        let files = FilesOfProject {
            on_host: project.clone(),
            in_step: project.clone(),
            is_foreign: false,
        };
        let context = StepContext {
            modes: CopyModes::Checkout(0o644),
            ..context(&layout)
        };
        let described = trees::digest(&project.join("overlay"), context.modes).unwrap();
        for (hook, content) in [(None, "overlay"), (Some("hook"), "hook\n")] {
            let request = request(&json!({
                "post_build": hook.map(|hook| Hook::new(&files, Path::new(hook)).unwrap()),
                "overlay": {"project": project, "dir": "overlay", "content": described},
            }));
            let overlay = request.overlay.clone().unwrap();
            let name = request.metadata.name.clone();
            let output = request.work(&context).unwrap();
            assert!(overlay.is(output.overlay));
            assert!(!overlay.is(None));
            let place = layout.extension(&name);
            let key = place.join("etc/key");
            assert_eq!(fs::read_to_string(&key).unwrap(), content);
            let time = std::os::unix::fs::MetadataExt::mtime(&fs::metadata(&key).unwrap());
            assert_eq!(time, 0);
            assert_eq!(output.digest, trees::digest_with_times(&place).unwrap());
        }
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
        let request = request(&serde_json::json!({"accounts": accounts, "base": "default"}));
        let context = context(&layout);
        request.clone().work(&context).unwrap();
        let read = |file: &str| {
            let tree = layout.extension(&request.metadata.name);
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
        let shadow = layout.extension(&request.metadata.name).join("etc/shadow");
        let mode = fs::metadata(shadow).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o640
        );
        assert!(!layout.work("accounts-app").exists());
    }
}
