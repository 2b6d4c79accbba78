//! Turning an installed rootfs or initramfs into the image of one runtime.

use std::path::{Path, PathBuf};

use avocado_backend::{Tool, ToolQuery};
use avocado_engine::{AnyTaskId, InputsHash, Needs, StampKey, Task, TaskId};
use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, LONGEST_MANIFEST_TEXT, Name, release_file};
use avocado_project::{Filesystem, OsImageConfig, Permissions, Runtime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::PACKAGE_STATE;
use super::compiled_package::CompiledPackage;
use super::hook::Hook;
use super::install::{self, InstallOutput, PackageTree};
use super::overlay::OverlayFiles;
use super::scripts::{ScriptInputs, Scripts};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::scriptlets::SYSTEMCTL;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, CopyModes, Tree, passwd};

/// The namespace of OS build ids, as published.
const BUILD_ID_NAMESPACE: Uuid = Uuid::NAMESPACE_DNS;

/// Writes the cache of libraries of a rootfs.
const LDCONFIG: ToolQuery = ToolQuery {
    tool: "ldconfig",
    arguments: &["--version"],
};

/// The release files of an initramfs; the first that is there says its version.
const INITRAMFS_RELEASES: [&str; 2] = ["usr/lib/initrd-release", "usr/lib/os-release-initrd"];

/// Which of the two file systems of an OS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OsPart {
    Rootfs,
    Initramfs,
}

impl OsPart {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            OsPart::Rootfs => "rootfs",
            OsPart::Initramfs => "initramfs",
        }
    }

    fn releases(self) -> &'static [&'static str] {
        match self {
            OsPart::Rootfs => &["usr/lib/os-release"],
            OsPart::Initramfs => &INITRAMFS_RELEASES,
        }
    }
}

/// An OS image, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OsImageRequest {
    part: OsPart,
    /// Which of the project's rootfs or initramfs.
    name: Name,
    filesystem: Filesystem,
    /// Those of its packages that the project compiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    compiled: Vec<CompiledPackage>,
    overlay: Option<OverlayFiles>,
    post_install: Option<Hook>,
    permissions: Option<Permissions>,
    runtime: Name,
    runtime_version: Option<String>,
    source_date_epoch: u64,
    /// What `AVOCADO_OS_BUILD_ID` follows from: everything that shapes the image. What scripts make
    /// of it is found out by running them, and added then.
    build_id_source: String,
}

/// What an OS image step made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OsImageOutput {
    pub(crate) image: FileDigest,
    pub(crate) version: Option<String>,
    pub(crate) build_id: String,
}

/// Adds an OS image of a runtime, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    part: OsPart,
    runtime: &Name,
) -> Result<TaskId<OsImageOutput>, BuildError> {
    plan.once(&stamp_key(part, runtime), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        let (name, tree) = match part {
            OsPart::Rootfs => {
                let name = &runtime.rootfs;
                (name, PackageTree::Rootfs(name.clone()))
            }
            OsPart::Initramfs => {
                let name = &runtime.initramfs;
                (name, PackageTree::Initramfs(name.clone()))
            }
        };
        let os = context.os_image(part.as_str(), name)?;
        needed::for_os_image(context.project, &stage(part, &runtime.name), os)?;
        let packages = install::plan_tree(plan, &tree)?;
        let has_hook = os.post_install.is_some();
        let scripts = Scripts::plan(plan, &os.project_packages, has_hook)?;
        Ok(OsImageTask {
            context,
            part,
            name,
            os,
            runtime,
            packages,
            scripts,
        })
    })
}

fn stamp_key(part: OsPart, runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: match part {
            OsPart::Rootfs => "rootfs-image",
            OsPart::Initramfs => "initramfs-image",
        },
    }
}

fn stage(part: OsPart, runtime: &Name) -> String {
    format!("{} image {runtime}", part.as_str())
}

/// The parent's side of an OS image.
struct OsImageTask<'a> {
    context: &'a BuildContext<'a>,
    part: OsPart,
    name: &'a Name,
    os: &'a OsImageConfig,
    runtime: &'a Runtime,
    packages: TaskId<InstallOutput>,
    scripts: Scripts,
}

/// Counts how often the same inputs came to mean another result: what was made before is not good any
/// more. The last was that files of packages keep their times.
const REVISION: u32 = 3;

/// What an OS image consumes.
#[derive(Debug, Serialize)]
struct OsImageInputs {
    revision: u32,
    image: OsImageRequest,
    packages: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<ScriptInputs>,
    /// The tool that writes the format.
    writer: Option<String>,
    /// The tools that prepare the tree.
    tools: [Option<String>; 2],
}

/// What the build id of an OS image follows from: the request without the id, and the packages.
#[derive(Debug, Serialize)]
struct BuildIdSource<'r> {
    os: &'r OsImageRequest,
    packages: Digest,
}

impl OsImageTask<'_> {
    fn request(&self, packages: Digest) -> Result<OsImageRequest, BuildError> {
        let (context, os, runtime) = (self.context, self.os, self.runtime);
        let overlay = os.overlay.as_ref();
        let post_install = os.post_install.as_ref();
        let mut request = OsImageRequest {
            part: self.part,
            name: self.name.clone(),
            filesystem: os.filesystem,
            compiled: CompiledPackage::all_where_written(context, &os.project_packages)?,
            overlay: overlay
                .map(|o| OverlayFiles::new(context, &context.files_at(&o.place.file), o))
                .transpose()?,
            post_install: post_install
                .map(|p| Hook::new(&context.files_at(&p.place.file), p))
                .transpose()?,
            permissions: os.permissions.clone(),
            runtime: runtime.name.clone(),
            runtime_version: runtime.version.clone(),
            source_date_epoch: context.project.source_date_epoch,
            build_id_source: String::new(),
        };
        let os = &request;
        request.build_id_source = InputsHash::of(&BuildIdSource { os, packages })?.to_string();
        Ok(request)
    }

    fn path(&self) -> PathBuf {
        let extension = images::extension(self.os.filesystem);
        let layout = &self.context.layout;
        layout.os_image(self.part.as_str(), &self.runtime.name, extension)
    }
}

impl Task for OsImageTask<'_> {
    type Inputs = OsImageInputs;
    type Output = OsImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        stage(self.part, &self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(self.part, &self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let packages = AnyTaskId::from(self.packages);
        std::iter::once(packages)
            .chain(self.scripts.needs())
            .collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<OsImageInputs, BuildError> {
        let packages = needs.digest(self.packages)?;
        let files = self.context.files();
        Ok(OsImageInputs {
            revision: REVISION,
            image: self.request(packages)?,
            packages,
            scripts: self.scripts.inputs(self.context, &files, needs)?,
            writer: match images::writer(self.os.filesystem) {
                Some(writer) => self.context.tool(writer)?,
                None => None,
            },
            tools: [
                self.context.tool(&SYSTEMCTL)?,
                self.context.tool(&LDCONFIG)?,
            ],
        })
    }

    fn recorded_inputs(&self, before: OsImageInputs) -> Result<OsImageInputs, BuildError> {
        Ok(OsImageInputs {
            scripts: before.scripts.map(ScriptInputs::recorded),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &OsImageInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<OsImageOutput, BuildError> {
        let mut request = inputs.image.clone();
        if let (Some(files), Some(overlay)) = (&mut request.overlay, &self.os.overlay) {
            let place = self.context.files_at(&overlay.place.file);
            files.fill(self.context, &place, overlay, sink)?;
        }
        self.context.run_step(&self.stage(), request, sink)
    }

    fn output_files(&self, _output: &OsImageOutput) -> Vec<PathBuf> {
        vec![self.path()]
    }

    fn digest(&self, output: &OsImageOutput) -> Digest {
        output.image.sha256
    }
}

impl BuildStep for OsImageTask<'_> {
    fn artifacts(&self, output: &OsImageOutput) -> Vec<Artifact> {
        let name = self.runtime.name.to_string();
        let kind = self.part.as_str();
        vec![Artifact::new(kind, name, self.path(), output.image)]
    }
}

impl StepRequest for OsImageRequest {
    const KIND: &'static str = "os_image";
    type Result = OsImageOutput;

    fn runs_hook(&self) -> bool {
        self.post_install.is_some() || !self.compiled.is_empty()
    }

    fn work(self, context: &StepContext<'_>) -> Result<OsImageOutput, BuildError> {
        let prepared = self.prepare(context);
        let (root, build_id) = prepared.map_err(|error| match &self.overlay {
            Some(overlay) => overlay.blamed_for(error),
            None => error,
        })?;
        let extension = images::extension(self.filesystem);
        let layout = &context.layout;
        let packages = layout.os_tree(self.part.as_str(), &self.name);
        let features = trees::settle(&root, Some(&packages), context.epoch)?;
        let place = layout.os_image(self.part.as_str(), &self.runtime, extension);
        let new = trees::unfinished(&place);
        images::write(context, self.filesystem, root.path(), &features, &new, &[])?;
        let image_file = FileDigest::of(&new)?;
        trees::replace(&new, &place)?;
        let mut releases = self.part.releases().iter();
        let version = releases
            .find_map(|file| release_value(&root, file, "VERSION_ID").transpose())
            .transpose()?;
        trees::clear(root.path())?;
        Ok(OsImageOutput {
            image: image_file,
            version,
            build_id,
        })
    }
}

impl OsImageRequest {
    /// A copy of the installed tree with overlay, users and groups, made fit by the user's hook or
    /// else by what is built in, and with our keys in its release files. And its build id.
    fn prepare(&self, context: &StepContext<'_>) -> Result<(Tree, String), BuildError> {
        let root = self.assemble(context)?;
        let mut source = self.build_id_source.clone();
        if self.runs_hook() {
            // What a script read is nowhere to be seen but in what it made.
            source += &trees::digest(root.path(), CopyModes::Keep)?.to_string();
        }
        let build_id = Uuid::new_v5(&BUILD_ID_NAMESPACE, source.as_bytes()).to_string();
        for file in self.part.releases() {
            self.extend_release(&root, file, &build_id)?;
        }
        Ok((root, build_id))
    }

    fn assemble(&self, context: &StepContext<'_>) -> Result<Tree, BuildError> {
        let part = self.part.as_str();
        let place = context
            .layout
            .work(&format!("{part}-image-{}", self.runtime));
        let root = Tree::fresh(&place)?;
        let packages = context.layout.os_tree(part, &self.name);
        trees::copy(&packages, &root, Path::new(""), CopyModes::Keep)?;
        for state in PACKAGE_STATE {
            root.clear(state)?;
        }
        let variable = format!("AVOCADO_{}_SYSROOT", part.to_uppercase());
        for package in &self.compiled {
            package.install(
                context,
                &format!("{part} image {}", self.runtime),
                &[
                    (&variable, place.as_os_str()),
                    // The same script installs into an extension.
                    ("AVOCADO_BUILD_EXT_SYSROOT", place.as_os_str()),
                ],
            )?;
        }
        // A script may have put another directory there.
        let root = Tree::open(&place)?;
        if let Some(overlay) = &self.overlay {
            overlay.tell_of_losses(context)?;
            overlay.apply(context, &root)?;
        }
        if let Some(permissions) = &self.permissions {
            for told in passwd::apply(&root, permissions)? {
                context.sink.emit(Event::warning(told));
            }
        }
        match (&self.post_install, self.part) {
            (Some(hook), _) => {
                let root = place.as_os_str();
                let log = format!("{part} image {} post_install", self.runtime);
                hook.run(
                    context,
                    &log,
                    &[(&variable, root), ("AVOCADO_BUILD_DIR", root)],
                )?;
                // The hook may have put another directory there.
                return Tree::open(&place);
            }
            (None, OsPart::Rootfs) => finish_rootfs(context, &root)?,
            (None, OsPart::Initramfs) => finish_initramfs(&root)?,
        }
        Ok(root)
    }

    /// Adds our keys to a release file of the tree.
    fn extend_release(&self, root: &Tree, file: &str, build_id: &str) -> Result<(), BuildError> {
        let Some(mut text) = root.read(file)? else {
            return Ok(());
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &format!("AVOCADO_OS_BUILD_ID={build_id}\n");
        text += &format!("AVOCADO_RUNTIME_NAME={}\n", self.runtime);
        if let Some(version) = &self.runtime_version {
            text += &format!("AVOCADO_RUNTIME_VERSION=\"{}\"\n", version.replace('"', ""));
        }
        root.rewrite(file, text, 0o644)
    }
}

/// The value of a key in a release file, as it goes into a manifest.
fn release_value(root: &Tree, file: &str, key: &str) -> Result<Option<String>, BuildError> {
    let text = root.read(file)?.unwrap_or_default();
    match release_file::value(&text, key) {
        Some(value) if value.len() > LONGEST_MANIFEST_TEXT => Err(BuildError::Invalid(format!(
            "{} of {} has {} bytes: a device takes {LONGEST_MANIFEST_TEXT} at most",
            key,
            root.shown(file).display(),
            value.len()
        ))),
        value => Ok(value.map(ToOwned::to_owned)),
    }
}

/// What makes a tree of packages a root file system, where the project has no hook of its own.
fn finish_rootfs(context: &StepContext<'_>, root: &Tree) -> Result<(), BuildError> {
    for name in ["bin", "sbin", "lib"] {
        if !root.has(name) {
            let directory = Path::new("usr").join(name);
            root.make_directories(&directory)?;
            root.symlink(&directory, name)?;
        }
    }
    // The kernel travels beside the rootfs, not inside it.
    root.clear("boot")?;
    for name in ["boot", "opt", "var", "proc", "sys", "dev", "run", "tmp"] {
        root.make_directories(name)?;
    }
    root.write("etc/machine-id", "", 0o644)?;
    if root.is_directory("usr/lib/systemd/system-preset") {
        Tool::new(SYSTEMCTL.tool)
            .arg(format!("--root={}", root.path().display()))
            .args(["preset-all", "--preset-mode=enable-only"])
            .run(context.sink)?;
    }
    if root.file("etc/ld.so.conf")?.is_some() {
        Tool::new(LDCONFIG.tool)
            .arg("-X")
            .arg("-r")
            .arg(root.path())
            .run(context.sink)?;
        // Holds inode numbers and times of the build host's file system.
        root.clear("var/cache/ldconfig")?;
    }
    Ok(())
}

/// What makes a tree of packages an initramfs, where the project has no hook of its own.
fn finish_initramfs(root: &Tree) -> Result<(), BuildError> {
    root.make_directories("sysroot")?;
    if !root.has("init") {
        root.symlink("/sbin/init", "init")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_initramfs_has_what_the_kernel_starts_and_where_the_root_goes() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        finish_initramfs(&tree).unwrap();
        assert!(root.path().join("sysroot").is_dir());
        let init = root.path().join("init");
        assert_eq!(fs::read_link(&init).unwrap(), Path::new("/sbin/init"));
        // One of the packages is left alone.
        fs::remove_file(&init).unwrap();
        fs::write(&init, "own").unwrap();
        finish_initramfs(&tree).unwrap();
        assert_eq!(fs::read_to_string(&init).unwrap(), "own");
    }

    #[test]
    fn the_version_is_the_one_that_a_device_reads() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let version = || release_value(&tree, "usr/lib/os-release", "VERSION_ID").unwrap();
        assert_eq!(version(), None);
        let text = "#VERSION_ID=0\nVERSION_ID=1\nID=x\nVERSION_ID=\"2\"\n";
        tree.write("usr/lib/os-release", text, 0o644).unwrap();
        assert_eq!(version().as_deref(), Some("2"));
        let long = |length| format!("VERSION_ID={}\n", "1".repeat(length));
        tree.write("usr/lib/os-release", long(255), 0o644).unwrap();
        assert_eq!(version().unwrap().len(), 255);
        tree.write("usr/lib/os-release", long(256), 0o644).unwrap();
        let error = release_value(&tree, "usr/lib/os-release", "VERSION_ID").unwrap_err();
        let said = error.to_string();
        assert!(said.contains("usr/lib/os-release has 256 bytes"), "{said}");
    }

    #[test]
    fn the_release_files_of_each_part_are_those_that_systemd_reads() {
        assert_eq!(OsPart::Rootfs.releases(), ["usr/lib/os-release"]);
        assert_eq!(OsPart::Initramfs.releases()[0], "usr/lib/initrd-release");
    }
}
