//! The image of a development VM: a runtime's kernel, initramfs, rootfs and var partition in one
//! directory, with the manifest from which `avocado vm` starts them.

use std::fs;
use std::path::PathBuf;

use avocado_events::Sink;
use avocado_manifest::{Digest, Manifest, Name, UpdatePolicy, VmArtifact, VmImage, VmRole};
use avocado_project::{Filesystem, OsImage, Runtime};

use super::install::InstallDetail;
use super::os_image::OsImaged;
use super::runtime_build::Assembled;
use super::{Context, Made, detail};
use crate::error::At as _;
use crate::graph::{Done, Task, TaskId};
use crate::stamp::{Outcome, Slot};
use crate::{Error, image, tree};

/// The name of the manifest in the directory of the image.
const MANIFEST: &str = "manifest.json";

/// A machine that QEMU provides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    /// As in the manifest.
    architecture: &'static str,
    /// The serial line that the kernel writes to.
    console: &'static str,
}

impl Machine {
    /// The machine of a target, if that is one of QEMU's.
    pub(crate) fn of(target: &Name) -> Option<Self> {
        match target.as_str().strip_prefix("qemu")? {
            machine if machine.starts_with("x86-64") => Some(Machine {
                architecture: "x86_64",
                console: "ttyS0",
            }),
            machine if machine.starts_with("arm64") => Some(Machine {
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

/// The image of a VM.
pub(crate) struct VmImageTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) machine: Machine,
    pub(crate) build: TaskId,
    pub(crate) rootfs: (&'a OsImage, TaskId),
    pub(crate) rootfs_install: TaskId,
    pub(crate) initramfs: (&'a OsImage, TaskId),
}

/// One file of the image, and where it comes from.
struct Part {
    role: VmRole,
    source: PathBuf,
    kind: &'static str,
    made: Made,
}

impl VmImageTask<'_> {
    fn directory(&self) -> PathBuf {
        self.context.layout.vm_image(&self.runtime.name)
    }

    /// The version of the kernel and the type of the root file system; `None` where a runtime is
    /// nothing that a VM could start.
    fn bootable(&self, done: &Done<'_>) -> Result<Option<(String, &'static str)>, Error> {
        let installed: InstallDetail = detail(done.get(self.rootfs_install)?)?;
        let root_type = root_type(self.rootfs.0.filesystem);
        Ok(installed.kernel.zip(root_type))
    }

    /// The version of the runtime, whether stated or not.
    fn version(&self) -> Result<String, Error> {
        let path = self.context.layout.manifest(&self.runtime.name);
        let text = fs::read(&path).at("read", &path)?;
        let manifest = Manifest::parse(&text)
            .map_err(|e| Error::Invalid(format!("{} is not a manifest: {e}", path.display())))?;
        Ok(manifest.runtime.version)
    }

    fn parts(&self, done: &Done<'_>, kernel: &str) -> Result<Vec<Part>, Error> {
        let (layout, name) = (&self.context.layout, &self.runtime.name);
        let kernel = layout.kernel(kernel).join("Image");
        // The published name is a link to the package's file.
        let kernel = fs::canonicalize(&kernel).at("find", &kernel)?;
        let os = |part: &'static str, role, (os, id): (&OsImage, TaskId)| -> Result<_, Error> {
            let imaged: OsImaged = detail(done.get(id)?)?;
            let kind = image::extension(os.filesystem);
            Ok(Part {
                role,
                source: layout.os_image(part, name, kind),
                kind,
                made: imaged.image,
            })
        };
        let assembled: Assembled = detail(done.get(self.build)?)?;
        Ok(vec![
            Part {
                role: VmRole::Kernel,
                made: Made::of(&kernel)?,
                source: kernel,
                kind: "kernel",
            },
            os("initramfs", VmRole::Initramfs, self.initramfs)?,
            os("rootfs", VmRole::Rootfs, self.rootfs)?,
            Part {
                role: VmRole::Var,
                source: layout.var_image(name),
                kind: "btrfs",
                made: assembled.var_image,
            },
        ])
    }
}

impl Part {
    /// The same for every version, so that an update replaces files instead of adding some.
    fn file(&self) -> Result<Name, Error> {
        let name = match self.role {
            VmRole::Kernel => Some("Image".into()),
            _ => self.source.file_name().map(|name| name.to_string_lossy()),
        };
        let name = name.unwrap_or_default().into_owned();
        name.try_into()
            .map_err(|e| Error::Invalid(format!("an image has an unusual name: {e}")))
    }

    fn artifact(&self) -> Result<VmArtifact, Error> {
        Ok(VmArtifact {
            file: self.file()?,
            sha256: self.made.sha256,
            size: Some(self.made.size),
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
    fn name(&self) -> String {
        format!("runtime vm {}", self.runtime.name)
    }

    fn slot(&self) -> Slot {
        Slot {
            component: "runtime",
            name: Some(self.runtime.name.to_string()),
            command: "vm",
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        let bootable = self.bootable(done)?;
        let assembled: Assembled = detail(done.get(self.build)?)?;
        Ok(serde_json::json!({
            "cmdline": bootable.as_ref().map(|(_, root_type)| self.machine.cmdline(root_type)),
            "kernel": bootable.map(|(kernel, _)| kernel),
            // For the kernel, of which the above is the version only.
            "rootfs_packages": done.get(self.rootfs_install)?.digest,
            "rootfs": done.get(self.rootfs.1)?.digest,
            "initramfs": done.get(self.initramfs.1)?.digest,
            "var": assembled.var_image,
            "manifest": assembled.manifest,
        }))
    }

    fn outputs(&self, outcome: &Outcome) -> Vec<PathBuf> {
        let directory = self.directory();
        let image = detail::<Option<VmImage>>(outcome).ok().flatten();
        let files = |image: VmImage| {
            let files = image
                .artifacts
                .into_values()
                .map(|a| directory.join(a.file));
            let mut files: Vec<_> = files.collect();
            files.push(directory.join(MANIFEST));
            files
        };
        image.map(files).unwrap_or_default()
    }

    fn run(&self, done: &Done<'_>, _sink: &dyn Sink) -> Result<Outcome, Error> {
        let place = self.directory();
        let Some((kernel, root_type)) = self.bootable(done)? else {
            tree::clear(&place)?;
            return Ok(Outcome {
                digest: Digest::of(b""),
                detail: serde_json::Value::Null,
            });
        };
        let mut image = VmImage::new(
            format!("avocado-{}", self.context.project.target),
            self.machine.architecture,
            self.machine.cmdline(root_type),
        );
        image.version = Some(self.version()?);
        let new = tree::unfinished(&place);
        tree::fresh(&new)?;
        for part in self.parts(done, &kernel)? {
            let artifact = part.artifact()?;
            let to = new.join(&artifact.file);
            fs::hard_link(&part.source, &to).at("link", &part.source)?;
            image.artifacts.insert(part.role.as_str().into(), artifact);
        }
        let text = image.to_json();
        tree::write(&new.join(MANIFEST), &text)?;
        tree::replace(&new, &place)?;
        Ok(Outcome {
            digest: Digest::of(&text),
            detail: serde_json::to_value(image).unwrap_or_default(),
        })
    }
}

/// The size of an image's files and the digest of its manifest; `None` where a runtime has no
/// image.
pub(crate) fn made(outcome: &Outcome) -> Result<Option<Made>, Error> {
    let image: Option<VmImage> = detail(outcome)?;
    Ok(image.map(|image| Made {
        sha256: outcome.digest,
        size: image.artifacts.values().filter_map(|a| a.size).sum(),
    }))
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
            let machine = Machine::of(&target.parse().unwrap());
            assert_eq!(machine.map(|m| m.architecture), expected, "{target}");
        }
    }
}
