//! The var partition of a runtime: its content with the runtime staged and active, and its image.
//! Nothing else is made of it but the image of a VM: manifest and repository are there before.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use avocado_backend::SOURCE_MOUNT;
use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, ImageId, Manifest, Name};
use avocado_project::{KernelOrigin, Project, Runtime, VarFile};
use serde::{Deserialize, Serialize};

use super::extension_image::{ExtensionImageOutput, var_destination};
use super::hook::Hook;
use super::install::{self, InstallOutput};
use super::runtime_build::{self, RuntimeBuildOutput};
use super::runtime_compile::{self, RuntimeCompileOutput};
use super::runtime_member::RuntimeMember;
use super::scripts::{ScriptInputs, Scripts};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::images;
use crate::keys::RuntimeKey;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, CopyModes, Tree};

/// A var partition, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VarImageRequest {
    name: Name,
    /// Of the runtime that is staged.
    manifest: FileDigest,
    extensions: Vec<RuntimeMember>,
    var_files: Vec<(VarFile, Digest)>,
    post_build: Option<Hook>,
    /// What that is told beside where things are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    told: BTreeMap<String, String>,
    /// The root metadata that its devices trust. It travels here and in no file of the state,
    /// where a hook that runs meanwhile could put another one.
    anchor: String,
}

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VarImageOutput {
    pub(crate) image: FileDigest,
}

/// Adds the var partition of a runtime, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Name,
) -> Result<TaskId<VarImageOutput>, BuildError> {
    plan.once(&stamp_key(runtime), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        needed::for_var_image(context.project, runtime)?;
        let build = runtime_build::plan(plan, &runtime.name)?;
        let scripts = Scripts::plan(plan, &[], runtime.post_build.is_some())?;
        Ok(VarImageTask {
            context,
            runtime,
            key: plan.runtime_key(runtime)?,
            build,
            images: runtime_build::plan_images(plan, runtime)?,
            packages: install::plan_runtime(plan, runtime)?,
            compiled: runtime_compile::plan(plan, runtime)?,
            scripts,
        })
    })
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "var",
    }
}

/// The parent's side of a var partition.
struct VarImageTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    key: Arc<RuntimeKey>,
    build: TaskId<RuntimeBuildOutput>,
    /// The images of its extensions, in the order of the runtime's list.
    images: Vec<TaskId<ExtensionImageOutput>>,
    /// The runtime's own packages, which a hook may look at.
    packages: Option<TaskId<InstallOutput>>,
    /// What the project's scripts put beside them.
    compiled: Option<TaskId<RuntimeCompileOutput>>,
    scripts: Scripts,
}

/// What a var partition consumes.
#[derive(Debug, Serialize)]
struct VarImageInputs {
    var: VarImageRequest,
    /// The tool that writes the image.
    writer: Option<String>,
    packages: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compiled: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<ScriptInputs>,
}

impl VarImageTask<'_> {
    fn request(&self, needs: &Needs<'_>) -> Result<VarImageRequest, BuildError> {
        let (context, runtime) = (self.context, self.runtime);
        let mut var_files = Vec::new();
        for file in &runtime.var_files {
            let source = context.project.src_dir.join(&file.source);
            let source = trees::of_project(&source)?;
            let known = &context.known_files;
            let content = trees::digest_of_project(&source, context.modes(), known)?;
            var_files.push((file.value.clone(), content));
        }
        let post_build = runtime.post_build.as_deref();
        let files = context.files();
        let extensions = runtime_build::members(context, runtime, &self.images, needs)?;
        Ok(VarImageRequest {
            name: runtime.name.clone(),
            manifest: needs.output(self.build)?.manifest,
            told: match post_build {
                Some(_) => told(context.project, runtime, &extensions),
                None => BTreeMap::new(),
            },
            extensions,
            var_files,
            post_build: post_build.map(|p| Hook::new(&files, p)).transpose()?,
            anchor: self.key.anchor.clone(),
        })
    }
}

/// What a runtime's hook is told of it.
fn told(
    project: &Project,
    runtime: &Runtime,
    extensions: &[RuntimeMember],
) -> BTreeMap<String, String> {
    let of_runtime = extensions
        .iter()
        .map(|e| format!("{}-{}", e.name, e.version));
    let list = of_runtime.collect::<Vec<_>>().join(" ");
    let mut told = vec![("AVOCADO_EXT_LIST", list)];
    let release = project.distro.release.clone();
    told.extend(release.map(|release| ("AVOCADO_DISTRO_VERSION", release)));
    let source = match runtime.kernel.as_ref().map(|kernel| &kernel.origin) {
        Some(KernelOrigin::Compiled { .. }) => "compile",
        Some(KernelOrigin::Feed { package, .. }) => {
            let package = package.as_ref().map(|package| package.value.clone());
            told.extend(package.map(|package| ("AVOCADO_KERNEL_PACKAGE", package)));
            "package"
        }
        None => "package",
    };
    told.push(("AVOCADO_KERNEL_SOURCE", source.to_owned()));
    let told = told
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    told.collect()
}

impl Task for VarImageTask<'_> {
    type Inputs = VarImageInputs;
    type Output = VarImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("runtime var {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let images = self.images.iter().map(|id| AnyTaskId::from(*id));
        let packages = self.packages.into_iter().map(AnyTaskId::from);
        let compiled = self.compiled.into_iter().map(AnyTaskId::from);
        let rest = images.chain(packages).chain(compiled);
        let rest = rest.chain(self.scripts.needs());
        std::iter::once(self.build.into()).chain(rest).collect()
    }

    /// Where it cannot be made (as a user who is not root, say), the repositories are.
    fn failure_stops_others(&self) -> bool {
        false
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<VarImageInputs, BuildError> {
        Ok(VarImageInputs {
            var: self.request(needs)?,
            writer: self.context.tool(&images::btrfs::MKFS)?,
            packages: needs.optional_digest(self.packages)?,
            compiled: needs.optional_digest(self.compiled)?,
            scripts: self
                .scripts
                .inputs(self.context, &self.context.files(), needs)?,
        })
    }

    fn recorded_inputs(&self, before: VarImageInputs) -> Result<VarImageInputs, BuildError> {
        Ok(VarImageInputs {
            scripts: before.scripts.map(ScriptInputs::recorded),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &VarImageInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<VarImageOutput, BuildError> {
        let request = inputs.var.clone();
        self.context.run_step(&self.stage(), request, sink)
    }

    fn output_files(&self, _output: &VarImageOutput) -> Vec<PathBuf> {
        let (layout, name) = (&self.context.layout, &self.runtime.name);
        vec![layout.var_tree(name), layout.var_image(name)]
    }

    fn digest(&self, output: &VarImageOutput) -> Digest {
        output.image.sha256
    }
}

impl BuildStep for VarImageTask<'_> {
    fn artifacts(&self, output: &VarImageOutput) -> Vec<Artifact> {
        let name = &self.runtime.name;
        let path = self.context.layout.var_image(name);
        vec![Artifact::new("var", name.to_string(), path, output.image)]
    }
}

impl StepRequest for VarImageRequest {
    const KIND: &'static str = "var_image";
    // For btrfs-progs before 6.12; see `images::btrfs`.
    const LOOP_MOUNTS: bool = true;
    type Result = VarImageOutput;

    fn runs_hook(&self) -> bool {
        self.post_build.is_some()
    }

    fn work(self, context: &StepContext<'_>) -> Result<VarImageOutput, BuildError> {
        let layout = &context.layout;
        let place = layout.var_tree(&self.name);
        let var = trees::unfinished(&place);
        trees::fresh(&var)?;
        let manifest = self.manifest(context)?;
        self.stage(context, &var, &manifest)?;
        self.seed(context, &var)?;
        trees::replace(&var, &place)?;
        if let Some(hook) = &self.post_build {
            let name = self.name.as_str();
            let runtime = layout.runtime(&self.name);
            let mut variables: Vec<(&str, &OsStr)> = vec![
                ("AVOCADO_RUNTIME", name.as_ref()),
                ("AVOCADO_RUNTIME_NAME", name.as_ref()),
                ("AVOCADO_RUNTIME_BUILD_DIR", runtime.as_os_str()),
            ];
            let told = self.told.iter();
            variables.extend(told.map(|(name, value)| (name.as_str(), value.as_ref())));
            hook.run(
                context,
                &format!("runtime build {name} post_build"),
                &variables,
            )?;
        }
        let image_place = layout.var_image(&self.name);
        let new = trees::unfinished(&image_place);
        images::btrfs::write(context, &place, &new)?;
        let image = FileDigest::of(&new)?;
        trees::replace(&new, &image_place)?;
        Ok(VarImageOutput { image })
    }
}

impl VarImageRequest {
    /// The manifest of the runtime, if it is still what was made.
    fn manifest(&self, context: &StepContext<'_>) -> Result<Manifest, BuildError> {
        let path = context.layout.manifest(&self.name);
        let bytes = fs::read(&path).at("read", &path)?;
        if Digest::of(&bytes) != self.manifest.sha256 {
            return Err(BuildError::Changed { path });
        }
        Manifest::parse(&bytes)
            .map_err(|e| BuildError::Invalid(format!("{} is no manifest: {e}", path.display())))
    }

    /// The device's store, with this runtime staged and active.
    fn stage(
        &self,
        context: &StepContext<'_>,
        var: &Path,
        manifest: &Manifest,
    ) -> Result<(), BuildError> {
        let base = var.join("lib/avocado");
        let images = base.join("images");
        fs::create_dir_all(&images).at("create", &images)?;
        for member in &self.extensions {
            let from = context
                .layout
                .extension_image(&member.name, &member.version);
            let id = ImageId::from_digest(member.image.image.sha256);
            let to = images.join(id.file_name());
            member.image.image.check(&from)?;
            // Two extensions of one content share one image, here as on the device.
            if !to.exists() {
                fs::hard_link(&from, &to).at("link", &from)?;
            }
        }
        let runtime = base.join("runtimes").join(&manifest.id);
        trees::write(&runtime.join("manifest.json"), manifest.to_json()?)?;
        let active = base.join("active");
        symlink(Path::new("runtimes").join(&manifest.id), &active).at("create", &active)?;
        for name in ["root.json", "1.root.json"] {
            trees::write(&base.join("metadata").join(name), &self.anchor)?;
        }
        Ok(())
    }

    /// Files for the var partition. The last extension comes first, so that the first wins; what
    /// the runtime itself states wins over all.
    fn seed(&self, context: &StepContext<'_>, var: &Path) -> Result<(), BuildError> {
        let var = Tree::open(var)?;
        for member in self.extensions.iter().rev() {
            let root = Tree::open(&context.layout.extension(&member.name))?;
            member.image.check_var_content(&root)?;
            for path in &member.image.var_paths {
                let destination = var_destination(path);
                trees::make_parents(&root, path, &var, destination)?;
                trees::copy(&root.shown(path), &var, destination, CopyModes::Keep)?;
            }
        }
        for (file, _) in &self.var_files {
            let source = Path::new(SOURCE_MOUNT).join(&file.source);
            let from = trees::of_project(&source)?;
            let mut to = file.dest.clone();
            // As `cp` does: a file goes into a directory that is named as the destination.
            let into = to.as_os_str().to_string_lossy().ends_with('/') || var.is_directory(&to);
            if from.is_file()
                && into
                && let Some(name) = source.file_name()
            {
                to.push(name);
            }
            if let Some(parent) = to.parent() {
                var.make_directories(parent)?;
            }
            let what = format!("`{}` of var_files", file.source.display());
            for told in trees::lost_in_clones(&what, &from, context.modes)? {
                context.sink.emit(Event::warning(told));
            }
            trees::copy(&from, &var, &to, context.modes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use avocado_events::Silent;
    use avocado_manifest::{MANIFEST_VERSION, RuntimeId, RuntimeLabel};
    use serde_json::json;

    use super::super::extension_image::ExtensionImageRequest;
    use super::*;
    use crate::layout::Layout;

    /// A runtime of one extension, `app`, which has this output.
    fn request(image: &ExtensionImageOutput, manifest: FileDigest) -> VarImageRequest {
        VarImageRequest {
            told: BTreeMap::new(),
            name: "dev".parse().unwrap(),
            manifest,
            extensions: vec![RuntimeMember {
                name: "app".parse().unwrap(),
                version: "1.0.0".parse().unwrap(),
                enabled: true,
                sysext: true,
                confext: false,
                enable_services: Vec::new(),
                image: image.clone(),
            }],
            var_files: Vec::new(),
            post_build: None,
            anchor: "the anchor".into(),
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            manifest_version: MANIFEST_VERSION,
            id: RuntimeId::from_digest(Digest::of(b"")),
            built_at: "2026-01-01T00:00:00Z".into(),
            runtime: RuntimeLabel {
                name: "dev".into(),
                version: "1".into(),
            },
            rootfs: None,
            initramfs: None,
            kernel: None,
            extensions: Vec::new(),
            os_bundle: None,
        }
    }

    /// Hooks of other steps run meanwhile, and can write everywhere in the state.
    #[test]
    fn the_store_has_what_was_made_and_no_file_that_a_hook_put_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let context = StepContext {
            target: "t".parse().unwrap(),
            layout: Layout::new(directory.path(), &"t".parse().unwrap()),
            host_layout: Layout::new(directory.path(), &"t".parse().unwrap()),
            epoch: 1,
            modes: CopyModes::Keep,
            sink: &Silent,
            loop_mounts: None,
        };
        let (layout, name) = (&context.layout, "app".parse().unwrap());
        let tree = Tree::fresh(&layout.extension(&name)).unwrap();
        let write = |text: &str, time| {
            tree.write("var/lib/app/seed", text, 0o644).unwrap();
            tree.set_time("var/lib/app/seed", time).unwrap();
        };
        write("made", 1);
        let image = json!({
            "name": name,
            "version": "1.0.0",
            "filesystem": "cpio",
            "var_files": ["var/lib/app"],
            "source_date_epoch": 1,
            "sysroot": trees::digest_with_times(tree.path()).unwrap(),
        });
        let image: ExtensionImageRequest = serde_json::from_value(image).unwrap();
        let image = image.work(&context).unwrap();
        let manifest_place = layout.manifest(&"dev".parse().unwrap());
        let made = manifest().to_json().unwrap();
        trees::write(&manifest_place, &made).unwrap();
        let request = request(&image, FileDigest::of(&manifest_place).unwrap());
        let var = directory.path().join("var");
        let assemble = || {
            trees::fresh(&var)?;
            request.stage(&context, &var, &request.manifest(&context)?)?;
            request.seed(&context, &var)
        };

        trees::write(&layout.work("dev.root.json"), "another").unwrap();
        assemble().unwrap();
        for anchor in ["root.json", "1.root.json"] {
            let anchor = var.join("lib/avocado/metadata").join(anchor);
            assert_eq!(fs::read_to_string(anchor).unwrap(), "the anchor");
        }
        let seed = fs::read_to_string(var.join("lib/app/seed")).unwrap();
        assert_eq!(seed, "made");

        for (text, time) in [("another", 1), ("made", 2)] {
            write(text, time);
            let error = assemble().unwrap_err();
            assert!(matches!(&error, BuildError::Changed { path } if path == tree.path()));
        }
        write("made", 1);
        assemble().unwrap();

        trees::write(&manifest_place, "{}").unwrap();
        let error = assemble().unwrap_err();
        assert!(matches!(&error, BuildError::Changed { path } if *path == manifest_place));
        trees::write(&manifest_place, &made).unwrap();
        assemble().unwrap();

        let file = layout.extension_image(&name, &"1.0.0".parse().unwrap());
        trees::write(&file, "another").unwrap();
        let error = assemble().unwrap_err();
        assert!(matches!(&error, BuildError::Changed { path } if *path == file));
    }

    #[test]
    fn a_hook_is_told_what_the_runtime_is_made_of() {
        let project = crate::tests::test_project::TestProject::new(
            "default_target: t
distro: {release: 2024, channel: edge}
kernel: {feed: {version: 6.*}, rt: {package: kernel-rt}, own: {compile: k, install: hook.sh}}
runtimes: {plain: {kernel: feed}, rt: {kernel: rt}, own: {kernel: own}}
",
        );
        let project = &project.options.project;
        let image = serde_json::json!({
            "image": {"sha256": Digest::of(b""), "size": 0}, "var_paths": [],
            "var_content": Digest::of(b""),
        });
        let member = |name: &str, enabled: bool| {
            let member = serde_json::json!({
                "name": name, "version": "1.0.0-rc.1", "enabled": enabled, "sysext": true,
                "confext": false, "enable_services": [], "image": image,
            });
            serde_json::from_value::<RuntimeMember>(member).unwrap()
        };
        let members = [member("b", true), member("a", false)];
        for (runtime, source, package) in [
            (0, "package", None),
            (1, "package", Some("kernel-rt")),
            (2, "compile", None),
        ] {
            let told = told(project, &project.runtimes[runtime], &members);
            let value = |name: &str| told.get(name).map(String::as_str);
            assert_eq!(value("AVOCADO_EXT_LIST"), Some("b-1.0.0-rc.1 a-1.0.0-rc.1"));
            assert_eq!(value("AVOCADO_DISTRO_VERSION"), Some("2024"));
            assert_eq!(value("AVOCADO_KERNEL_SOURCE"), Some(source));
            assert_eq!(value("AVOCADO_KERNEL_PACKAGE"), package);
        }
    }
}
