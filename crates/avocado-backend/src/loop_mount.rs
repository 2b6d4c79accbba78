//! Mounting the file system in an image, for jobs that were allowed to.

use std::io;
use std::path::{Path, PathBuf};

use avocado_events::Sink;
use rustix::mount::{UnmountFlags, unmount};

use crate::host::devices;
use crate::host::mounts::mounted_below;
use crate::{Tool, ToolError};

/// The right to mount images. A job has it if it declared that it may need it
/// ([`Job::loop_mounts`](crate::Job::loop_mounts)) and the backend can do it
/// ([`Capabilities::loop_mounts`](crate::Capabilities::loop_mounts)).
#[derive(Debug)]
pub struct LoopMounts(());

/// An image that is mounted in the job's own namespace: the mount ends with the job at the
/// latest, however that ends.
#[derive(Debug)]
pub struct LoopMount {
    /// `None` once it is unmounted.
    point: Option<PathBuf>,
}

/// An image could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopMountError {
    /// It could not be mounted.
    #[error("cannot mount {}", image.display())]
    Mount {
        /// The image.
        image: PathBuf,
        /// Why.
        #[source]
        source: ToolError,
    },
    /// The devices of the host could not be shown or hidden again.
    #[error("cannot reach the host's loop devices")]
    Devices(#[source] io::Error),
    /// The quotas of its subvolumes could not be set.
    #[error("cannot set the quota of {}", path.display())]
    Quota {
        /// Of which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ToolError,
    },
    /// It could not be unmounted, so that not all may be written.
    #[error("cannot unmount {}", point.display())]
    Unmount {
        /// Where it is mounted.
        point: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LoopMounts {
    /// For the worker, which knows what was asked for and granted.
    pub(crate) fn granted() -> Self {
        LoopMounts(())
    }

    /// Lets a tool mount by itself, as an engine of containers does, and see what only who may mount
    /// sees. It does so in the job's own namespace, where its mounts end with the job.
    #[must_use]
    pub fn give_to(&self, tool: Tool) -> Tool {
        tool.may_mount()
    }

    /// Unmounts what a tool that mounts by itself has left below `directory`, or there, once it has ended.
    ///
    /// # Errors
    /// When the system does not unmount it.
    pub fn unmount_below(&self, directory: &Path) -> Result<(), LoopMountError> {
        let failed = |point: &Path, source| LoopMountError::Unmount {
            point: point.to_owned(),
            source,
        };
        let points = mounted_below(directory).map_err(|e| failed(directory, e))?;
        for point in points.iter().rev() {
            let unmounted = unmount(point, UnmountFlags::empty());
            unmounted.map_err(|e| failed(point, e.into()))?;
        }
        Ok(())
    }

    /// Mounts the file system of type `filesystem` in `image` on the directory `point`, with
    /// `options` of that type.
    ///
    /// # Errors
    /// When there is no free loop device, or the image holds no such file system.
    pub fn mount(
        &self,
        filesystem: &str,
        image: &Path,
        point: &Path,
        options: &[&str],
        sink: &dyn Sink,
    ) -> Result<LoopMount, LoopMountError> {
        let options = [&["loop", "nodev", "nosuid"], options].concat().join(",");
        // The loop device is one of the host's. Nothing but the tool runs while they are in view.
        devices::uncover().map_err(LoopMountError::Devices)?;
        let mounted = Tool::new("mount")
            .may_mount()
            .args(["-t", filesystem, "-o", &options])
            .arg(image)
            .arg(point)
            .run(sink);
        let covered = devices::cover().map_err(LoopMountError::Devices);
        mounted.map_err(|source| LoopMountError::Mount {
            image: image.to_owned(),
            source,
        })?;
        let mounted = LoopMount {
            point: Some(point.to_owned()),
        };
        covered.map(|()| mounted)
    }
}

impl LoopMount {
    /// Has a btrfs count what its subvolumes take, which their quotas need. Only who may mount can
    /// ask for it.
    ///
    /// # Errors
    /// When the kernel cannot.
    pub fn count_for_quotas(&self, sink: &dyn Sink) -> Result<(), LoopMountError> {
        let Some(point) = &self.point else {
            return Ok(());
        };
        // It counts in the background what is there already, and the image is not to have that
        // half done.
        for arguments in [&["quota", "enable"][..], &["quota", "rescan", "-w"]] {
            let tool = Tool::new("btrfs").may_mount().args(arguments).arg(point);
            tool.run(sink).map_err(|source| LoopMountError::Quota {
                path: point.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Lets the subvolume at the relative path `subvolume` take so many bytes at most.
    ///
    /// # Errors
    /// When it is no subvolume, or nothing is counted.
    pub fn set_quota(
        &self,
        subvolume: &Path,
        bytes: u64,
        sink: &dyn Sink,
    ) -> Result<(), LoopMountError> {
        let Some(point) = &self.point else {
            return Ok(());
        };
        let path = point.join(subvolume);
        let tool = Tool::new("btrfs").may_mount().args(["qgroup", "limit"]);
        let limited = tool.arg(bytes.to_string()).arg(&path).run(sink);
        limited.map_err(|source| LoopMountError::Quota { path, source })
    }

    /// Unmounts the image, whose bytes are complete then.
    ///
    /// # Errors
    /// When something is still open in it, or the device cannot be written.
    pub fn unmount(mut self) -> Result<(), LoopMountError> {
        let Some(point) = self.point.take() else {
            return Ok(());
        };
        unmount(&point, UnmountFlags::empty()).map_err(|e| LoopMountError::Unmount {
            point,
            source: e.into(),
        })
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        if let Some(point) = &self.point {
            // The job has failed; the image is of no use, and its loop device goes with the mount.
            let _ = unmount(point, UnmountFlags::DETACH);
        }
    }
}
