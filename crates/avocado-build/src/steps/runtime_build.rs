//! Assembling a runtime: its manifest, the content of the var partition with the runtime staged
//! and active, and the partition's image.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use avocado_events::Sink;
use avocado_manifest::{
    Digest, Extension, Image, ImageId, MANIFEST_VERSION, Manifest, Name, RuntimeId, RuntimeInfo,
};
use avocado_project::{Runtime, VarFile};
use avocado_sdk::SOURCE_MOUNT;
use serde::{Deserialize, Serialize};

use super::extension_image::{Imaged, var_destination};
use super::hook::Hook;
use super::install::InstallDetail;
use super::os_image::OsImaged;
use super::{Bench, Context, Made, Step, detail};
use crate::error::At as _;
use crate::graph::{Done, Task, TaskId};
use crate::keys::RuntimeKey;
use crate::stamp::{Outcome, Slot};
use crate::tree::{self, Modes};
use crate::{Error, image};

/// An assembly, as it travels to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuntimeBuild {
    name: Name,
    version: Option<String>,
    built_at: String,
    extensions: Vec<Member>,
    rootfs: OsImaged,
    initramfs: OsImaged,
    kernel: Option<String>,
    var_files: Vec<(VarFile, Digest)>,
    post_build: Option<Hook>,
    /// The digest of the trust anchor.
    anchor: Digest,
    packages: Option<Digest>,
}

/// An extension in its runtime.
#[derive(Debug, Serialize, Deserialize)]
struct Member {
    name: Name,
    version: Name,
    enabled: bool,
    imaged: Imaged,
}

/// What an assembly made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assembled {
    pub(crate) id: RuntimeId,
    pub(crate) manifest: Made,
    pub(crate) var_image: Made,
}

/// The parent's side of an assembly.
pub(crate) struct RuntimeBuildTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) key: &'a RuntimeKey,
    /// The images of its extensions, in the order of the runtime's list.
    pub(crate) images: Vec<TaskId>,
    pub(crate) rootfs: TaskId,
    pub(crate) rootfs_install: TaskId,
    pub(crate) initramfs: TaskId,
    pub(crate) packages: Option<TaskId>,
    /// The install of the SDK, where a hook may use its tools.
    pub(crate) sdk: Option<TaskId>,
}

impl RuntimeBuildTask<'_> {
    fn request(&self, done: &Done<'_>) -> Result<RuntimeBuild, Error> {
        let (context, runtime) = (self.context, self.runtime);
        let mut extensions = Vec::new();
        for (member, image) in runtime.extensions.iter().zip(&self.images) {
            let extension = context.project.extension(&member.name).ok_or_else(|| {
                Error::Invalid(format!("extension `{}` is not in the project", member.name))
            })?;
            extensions.push(Member {
                name: member.name.clone(),
                version: extension.version.clone(),
                enabled: member.enabled,
                imaged: detail(done.get(*image)?)?,
            });
        }
        let installed: InstallDetail = detail(done.get(self.rootfs_install)?)?;
        let mut var_files = Vec::new();
        for file in &runtime.var_files {
            let source = context.project.src_dir.join(&file.source);
            var_files.push((file.clone(), tree::digest(&source, context.modes())?));
        }
        let post_build = runtime.post_build.as_deref();
        let epoch = i64::try_from(context.project.source_date_epoch).unwrap_or(i64::MAX);
        let built_at = jiff::Timestamp::from_second(epoch)
            .map_err(|e| Error::Invalid(format!("source_date_epoch is out of range: {e}")))?;
        Ok(RuntimeBuild {
            name: runtime.name.clone(),
            version: runtime.version.clone(),
            built_at: built_at.to_string(),
            extensions,
            rootfs: detail(done.get(self.rootfs)?)?,
            initramfs: detail(done.get(self.initramfs)?)?,
            kernel: installed.kernel,
            var_files,
            post_build: post_build.map(|p| Hook::new(context, p)).transpose()?,
            anchor: Digest::of(&self.key.anchor),
            packages: done.digest(self.packages)?,
        })
    }
}

impl Task for RuntimeBuildTask<'_> {
    fn name(&self) -> String {
        format!("runtime build {}", self.runtime.name)
    }

    fn slot(&self) -> Slot {
        Slot {
            component: "runtime",
            name: Some(self.runtime.name.to_string()),
            command: "build",
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        Ok(serde_json::json!({
            "runtime": self.request(done)?,
            // For the kernel, of which the request has the version only.
            "rootfs_packages": done.get(self.rootfs_install)?.digest,
            "writer": self.context.tool("mkfs.btrfs"),
            "sdk": done.digest(self.sdk)?,
        }))
    }

    fn outputs(&self, _outcome: &Outcome) -> Vec<PathBuf> {
        let (layout, name) = (&self.context.layout, &self.runtime.name);
        vec![
            layout.var_tree(name),
            layout.var_image(name),
            layout.manifest(name),
        ]
    }

    fn run(&self, done: &Done<'_>, sink: &dyn Sink) -> Result<Outcome, Error> {
        let request = self.request(done)?;
        let anchor = anchor(&self.context.layout, &self.runtime.name);
        tree::write(&anchor, &self.key.anchor)?;
        let step = Step::RuntimeBuild(request);
        let assembled: Assembled = self.context.step(&self.name(), step, None, sink)?;
        Ok(Outcome {
            digest: assembled.manifest.sha256,
            detail: serde_json::to_value(assembled).unwrap_or_default(),
        })
    }
}

/// Where the trust anchor waits for the child.
fn anchor(layout: &crate::layout::Layout, runtime: &Name) -> PathBuf {
    layout.work(&format!("{runtime}.root.json"))
}

impl RuntimeBuild {
    pub(crate) fn work(self, bench: &Bench<'_>) -> Result<Assembled, Error> {
        let layout = &bench.layout;
        let place = layout.var_tree(&self.name);
        let var = tree::unfinished(&place);
        tree::fresh(&var)?;
        let manifest = self.manifest(bench)?;
        self.stage(bench, &var, &manifest)?;
        self.seed(bench, &var)?;
        tree::replace(&var, &place)?;
        if let Some(hook) = &self.post_build {
            hook.run(
                bench,
                &[
                    ("AVOCADO_RUNTIME_NAME", self.name.as_str().as_ref()),
                    (
                        "AVOCADO_RUNTIME_BUILD_DIR",
                        layout.runtime(&self.name).as_os_str(),
                    ),
                ],
            )?;
        }
        let image_place = layout.var_image(&self.name);
        let new = tree::unfinished(&image_place);
        image::btrfs::write(bench, &place, &new)?;
        let var_image = Made::of(&new)?;
        tree::replace(&new, &image_place)?;
        let manifest_place = layout.manifest(&self.name);
        tree::write(&manifest_place, manifest.to_json())?;
        Ok(Assembled {
            id: manifest.id,
            manifest: Made::of(&manifest_place)?,
            var_image,
        })
    }

    fn manifest(&self, bench: &Bench<'_>) -> Result<Manifest, Error> {
        let os_image = |imaged: &OsImaged| Image {
            version: imaged.version.clone(),
            image_id: ImageId::from_digest(imaged.image.sha256),
            sha256: Some(imaged.image.sha256),
            image_type: None,
        };
        let kernel = match &self.kernel {
            Some(version) => {
                let made = Made::of(&bench.layout.kernel(version).join("Image"))?;
                Some(Image {
                    version: Some(version.clone()),
                    image_id: ImageId::from_digest(made.sha256),
                    sha256: Some(made.sha256),
                    image_type: None,
                })
            }
            None => None,
        };
        let member = |member: &Member| Extension {
            name: member.name.clone(),
            version: member.version.clone(),
            image_id: Some(ImageId::from_digest(member.imaged.image.sha256)),
            sha256: Some(member.imaged.image.sha256),
            image_type: None,
            enabled: member.enabled,
        };
        let mut manifest = Manifest {
            manifest_version: MANIFEST_VERSION,
            id: RuntimeId::from_digest(Digest::of(b"")),
            built_at: self.built_at.clone(),
            runtime: RuntimeInfo {
                name: self.name.to_string(),
                version: self.version.clone().unwrap_or_default(),
            },
            rootfs: Some(os_image(&self.rootfs)),
            initramfs: Some(os_image(&self.initramfs)),
            kernel,
            extensions: self.extensions.iter().map(member).collect(),
            os_bundle: None,
        };
        if self.version.is_none() {
            // A version that nobody states follows from the content, as the id does.
            manifest.runtime.version = manifest.content_id().short().to_owned();
        }
        manifest.id = manifest.content_id();
        Ok(manifest)
    }

    /// The device's store, with this runtime staged and active.
    fn stage(&self, bench: &Bench<'_>, var: &Path, manifest: &Manifest) -> Result<(), Error> {
        let base = var.join("lib/avocado");
        let images = base.join("images");
        fs::create_dir_all(&images).at("create", &images)?;
        for member in &self.extensions {
            let from = bench.layout.extension_image(&member.name, &member.version);
            let id = ImageId::from_digest(member.imaged.image.sha256);
            let to = images.join(id.file_name());
            member.imaged.image.check(&from)?;
            // Two extensions of one content share one image, here as on the device.
            if !to.exists() {
                fs::hard_link(&from, &to).at("link", &from)?;
            }
        }
        let runtime = base.join("runtimes").join(&manifest.id);
        tree::write(&runtime.join("manifest.json"), manifest.to_json())?;
        let active = base.join("active");
        symlink(Path::new("runtimes").join(&manifest.id), &active).at("create", &active)?;
        let anchor = anchor(&bench.layout, &self.name);
        let bytes = fs::read(&anchor).at("read", &anchor)?;
        for name in ["root.json", "1.root.json"] {
            tree::write(&base.join("metadata").join(name), &bytes)?;
        }
        Ok(())
    }

    /// Files for the var partition. The last extension comes first, so that the first wins; what
    /// the runtime itself states wins over all.
    fn seed(&self, bench: &Bench<'_>, var: &Path) -> Result<(), Error> {
        for member in self.extensions.iter().rev() {
            let root = bench.layout.extension(&member.name);
            for path in &member.imaged.var_paths {
                let destination = var_destination(path);
                let from = match path.starts_with("var") {
                    true => &root.join("var"),
                    false => &root,
                };
                tree::make_parents(from, var, destination)?;
                let to = tree::inside(var, destination);
                tree::copy(&root.join(path), &to, Modes::Keep)?;
            }
        }
        for (file, _) in &self.var_files {
            let from = Path::new(SOURCE_MOUNT).join(&file.source);
            let mut to = tree::inside(var, &file.dest);
            // As `cp` does: a file goes into a directory that is named as the destination.
            let into = file.dest.as_os_str().to_string_lossy().ends_with('/') || to.is_dir();
            if from.is_file()
                && into
                && let Some(name) = from.file_name()
            {
                to.push(name);
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).at("create", parent)?;
            }
            tree::copy(&from, &to, bench.modes)?;
        }
        Ok(())
    }
}
