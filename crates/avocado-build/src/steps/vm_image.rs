//! The image of a development VM: a runtime's kernel, initramfs, rootfs and var partition in one
//! directory, with the manifest from which `avocado vm` starts them.

use std::fs;
use std::path::PathBuf;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name, UpdatePolicy, VmArtifact, VmImage, VmRole};
use avocado_project::{Filesystem, OsImageConfig, Runtime};
use serde::{Deserialize, Serialize};

use super::os_image::{self, OsImageOutput, OsPart};
use super::runtime_build::{self, RuntimeBuildOutput};
use super::runtime_kernel::{KernelInputs, KernelSteps, RuntimeKernel};
use super::var_image::{self, VarImageOutput};
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::plan::{BuildStep, Plan};
use crate::{images, trees};

/// The name of the manifest in the directory of the image.
const MANIFEST: &str = "manifest.json";

/// A machine that QEMU provides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QemuMachine {
    /// As in the manifest.
    architecture: &'static str,
    /// The serial line that the kernel writes to.
    console: &'static str,
}

impl QemuMachine {
    /// The machine of a target, if that is one of QEMU's.
    pub(crate) fn of(target: &Name) -> Option<Self> {
        match target.as_str().strip_prefix("qemu")? {
            machine if machine.starts_with("x86-64") => Some(QemuMachine {
                architecture: "x86_64",
                console: "ttyS0",
            }),
            machine if machine.starts_with("arm64") => Some(QemuMachine {
                architecture: "arm64",
                console: "ttyAMA0",
            }),
            _ => None,
        }
    }

    /// The disks and the console are a contract with `avocado vm`; so is the name of the network
    /// interface, `eth0`.
    fn cmdline(self, root_type: &str) -> String {
        let console = self.console;
        format!("root=/dev/vda rootfstype={root_type} ro console={console} net.ifnames=0 quiet")
    }
}

/// How the kernel calls the file system of a rootfs; `None` where it is none of the kernel's.
fn root_type(filesystem: Filesystem) -> Option<&'static str> {
    match filesystem {
        Filesystem::Squashfs => Some("squashfs"),
        Filesystem::Erofs | Filesystem::ErofsLz4 | Filesystem::ErofsZst => Some("erofs"),
        _ => None,
    }
}

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VmImageOutput {
    /// Of the image's manifest; of nothing where there is none.
    digest: Digest,
    /// `None` where a runtime is not something that a VM could start.
    image: Option<VmImage>,
}

/// Adds the image of a VM, and what it needs, where the target is a machine of QEMU's.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Name,
) -> Result<Option<TaskId<VmImageOutput>>, BuildError> {
    let context = plan.context;
    let Some(machine) = QemuMachine::of(&context.project.target) else {
        return Ok(None);
    };
    let id = plan.once(&stamp_key(runtime), |plan| {
        let runtime = context.runtime(runtime)?;
        let name = &runtime.name;
        let build = runtime_build::plan(plan, name)?;
        let var = var_image::plan(plan, name)?;
        let rootfs = os_image::plan(plan, OsPart::Rootfs, name)?;
        let initramfs = os_image::plan(plan, OsPart::Initramfs, name)?;
        Ok(VmImageTask {
            context,
            runtime,
            machine,
            build,
            var,
            rootfs: (context.os_image("rootfs", &runtime.rootfs)?, rootfs),
            kernel: KernelSteps::plan(plan, runtime)?,
            initramfs: (
                context.os_image("initramfs", &runtime.initramfs)?,
                initramfs,
            ),
        })
    })?;
    Ok(Some(id))
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "vm",
    }
}

/// The image of a VM.
struct VmImageTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    machine: QemuMachine,
    build: TaskId<RuntimeBuildOutput>,
    var: TaskId<VarImageOutput>,
    rootfs: (&'a OsImageConfig, TaskId<OsImageOutput>),
    kernel: KernelSteps,
    initramfs: (&'a OsImageConfig, TaskId<OsImageOutput>),
}

/// What the image of a VM consumes.
#[derive(Debug, Serialize)]
struct VmImageInputs {
    cmdline: Option<String>,
    kernel: Option<RuntimeKernel>,
    /// Of which the above is the version only, where it is of the feed.
    kernel_steps: KernelInputs,
    rootfs: Digest,
    initramfs: Digest,
    var: FileDigest,
    manifest: FileDigest,
}

/// One file of the image, and where it comes from.
struct VmImageFile {
    role: VmRole,
    source: PathBuf,
    kind: &'static str,
    content: FileDigest,
}

impl VmImageTask<'_> {
    fn directory(&self) -> PathBuf {
        self.context.layout.vm_image(&self.runtime.name)
    }

    fn files(
        &self,
        needs: &Needs<'_>,
        kernel: &RuntimeKernel,
    ) -> Result<Vec<VmImageFile>, BuildError> {
        let (layout, name) = (&self.context.layout, &self.runtime.name);
        let kernel = kernel.path(layout, name)?;
        let os = |part: OsPart, role, (os, id): (&OsImageConfig, TaskId<OsImageOutput>)| {
            let kind = images::extension(os.filesystem);
            Ok::<_, BuildError>(VmImageFile {
                role,
                source: layout.os_image(part.as_str(), name, kind),
                kind,
                content: needs.output(id)?.image,
            })
        };
        Ok(vec![
            VmImageFile {
                role: VmRole::Kernel,
                content: FileDigest::of(&kernel)?,
                source: kernel,
                kind: "kernel",
            },
            os(OsPart::Initramfs, VmRole::Initramfs, self.initramfs)?,
            os(OsPart::Rootfs, VmRole::Rootfs, self.rootfs)?,
            VmImageFile {
                role: VmRole::Var,
                source: layout.var_image(name),
                kind: "btrfs",
                content: needs.output(self.var)?.image,
            },
        ])
    }
}

impl VmImageFile {
    /// The same for every version, so that an update replaces files instead of adding some.
    fn name(&self) -> Result<Name, BuildError> {
        let name = match self.role {
            VmRole::Kernel => Some("Image".into()),
            _ => self.source.file_name().map(|name| name.to_string_lossy()),
        };
        let name = name.unwrap_or_default().into_owned();
        name.try_into()
            .map_err(|e| BuildError::Invalid(format!("an image has an unusual name: {e}")))
    }

    fn artifact(&self) -> Result<VmArtifact, BuildError> {
        Ok(VmArtifact {
            file: self.name()?,
            sha256: self.content.sha256,
            size: Some(self.content.size),
            update_policy: match self.role {
                VmRole::Var => UpdatePolicy::SeedOnly,
                _ => UpdatePolicy::Replace,
            },
            kind: Some(self.kind.into()),
            role_link: None,
        })
    }
}

impl Task for VmImageTask<'_> {
    type Inputs = VmImageInputs;
    type Output = VmImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("runtime vm {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let mut needs = vec![
            self.build.into(),
            self.var.into(),
            self.rootfs.1.into(),
            self.initramfs.1.into(),
        ];
        needs.extend(self.kernel.needs());
        needs
    }

    fn failure_stops_others(&self) -> bool {
        false
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<VmImageInputs, BuildError> {
        // Without one of the two a runtime is nothing that a VM could start.
        let kernel = self.kernel.kernel(needs)?;
        let root_type = root_type(self.rootfs.0.filesystem);
        let (kernel, root_type) = kernel.zip(root_type).unzip();
        let build = needs.output(self.build)?;
        Ok(VmImageInputs {
            cmdline: root_type.map(|root_type| self.machine.cmdline(root_type)),
            kernel,
            kernel_steps: self.kernel.inputs(needs)?,
            rootfs: needs.digest(self.rootfs.1)?,
            initramfs: needs.digest(self.initramfs.1)?,
            var: needs.output(self.var)?.image,
            manifest: build.manifest,
        })
    }

    fn run(
        &self,
        inputs: &VmImageInputs,
        needs: &Needs<'_>,
        _sink: &dyn Sink,
    ) -> Result<VmImageOutput, BuildError> {
        self.context.layout.check_runtime(&self.runtime.name)?;
        let place = self.directory();
        let (Some(kernel), Some(cmdline)) = (&inputs.kernel, &inputs.cmdline) else {
            trees::clear(&place)?;
            return Ok(VmImageOutput {
                digest: Digest::of(b""),
                image: None,
            });
        };
        let mut image = VmImage::new(
            format!("avocado-{}", self.context.project.target),
            self.machine.architecture,
            cmdline.clone(),
        );
        image.version = Some(needs.output(self.build)?.version.clone());
        let new = trees::unfinished(&place);
        trees::fresh(&new)?;
        for file in self.files(needs, kernel)? {
            let artifact = file.artifact()?;
            let to = new.join(&artifact.file);
            fs::hard_link(&file.source, &to).at("link", &file.source)?;
            image.artifacts.insert(file.role.as_str().into(), artifact);
        }
        let text = image.to_json()?;
        trees::write(&new.join(MANIFEST), &text)?;
        trees::replace(&new, &place)?;
        Ok(VmImageOutput {
            digest: Digest::of(&text),
            image: Some(image),
        })
    }

    fn output_files(&self, output: &VmImageOutput) -> Vec<PathBuf> {
        let directory = self.directory();
        let Some(image) = &output.image else {
            return Vec::new();
        };
        let artifacts = image.artifacts.values();
        let mut files: Vec<_> = artifacts.map(|a| directory.join(&a.file)).collect();
        files.push(directory.join(MANIFEST));
        files
    }

    fn digest(&self, output: &VmImageOutput) -> Digest {
        output.digest
    }
}

impl BuildStep for VmImageTask<'_> {
    fn artifacts(&self, output: &VmImageOutput) -> Vec<Artifact> {
        let content = output.image.as_ref().map(|image| FileDigest {
            sha256: output.digest,
            size: image.artifacts.values().filter_map(|a| a.size).sum(),
        });
        let name = self.runtime.name.to_string();
        content
            .map(|content| Artifact::new("vm", name, self.directory(), content))
            .into_iter()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_known_by_their_target() {
        for (target, expected) in [
            ("qemux86-64", Some("x86_64")),
            ("qemuarm64", Some("arm64")),
            ("qemuriscv64", None),
            ("raspberrypi4", None),
            ("x86-64", None),
        ] {
            let machine = QemuMachine::of(&target.parse().unwrap());
            assert_eq!(machine.map(|m| m.architecture), expected, "{target}");
        }
    }
}
