//! The user's own scripts: the only programs that are started as the files they are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;
use avocado_sdk::{SOURCE_MOUNT, Tool};
use serde::{Deserialize, Serialize};

use super::{Bench, Context};
use crate::error::At as _;
use crate::{Error, tree};

/// A script of the project, with the digest of its content: editing it is a change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hook {
    path: PathBuf,
    content: Digest,
}

impl Hook {
    /// Describes the script at `path`, which is relative to the source directory.
    pub(crate) fn new(context: &Context<'_>, path: &Path) -> Result<Self, Error> {
        let file = context.project.src_dir.join(path);
        let bytes = std::fs::read(&file).at("read", &file)?;
        Ok(Hook {
            path: path.to_owned(),
            content: Digest::of(&bytes),
        })
    }

    /// Runs it in the source directory with the published variables.
    pub(crate) fn run<V: AsRef<OsStr>>(
        &self,
        bench: &Bench<'_>,
        variables: &[(&str, V)],
    ) -> Result<(), Error> {
        let file = Path::new(SOURCE_MOUNT).join(&self.path);
        let is_executable = {
            use std::os::unix::fs::PermissionsExt as _;
            let metadata = std::fs::metadata(&file).at("look at", &file)?;
            metadata.permissions().mode() & 0o111 != 0
        };
        // A script that nobody made executable is one for the shell, as it always was.
        let mut tool = if is_executable {
            Tool::new(&file)
        } else {
            Tool::new("bash").arg(&file)
        };
        tool = tool
            .current_dir(SOURCE_MOUNT)
            .env("SOURCE_DATE_EPOCH", bench.epoch.to_string());
        for (key, value) in variables {
            tool = tool.env(key, value);
        }
        Ok(tool.run(bench.sink)?)
    }
}

/// An overlay of the project, with the digest of its content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OverlayFiles {
    dir: PathBuf,
    content: Digest,
}

impl OverlayFiles {
    /// Describes an overlay, whose directory is relative to the source directory.
    pub(crate) fn new(
        context: &Context<'_>,
        overlay: &avocado_project::Overlay,
    ) -> Result<Self, Error> {
        let dir = context.project.src_dir.join(&overlay.dir);
        if !dir.is_dir() {
            return Err(Error::Invalid(format!(
                "the overlay directory {} does not exist",
                dir.display()
            )));
        }
        Ok(OverlayFiles {
            dir: overlay.dir.clone(),
            content: tree::digest(&dir, context.modes())?,
        })
    }

    /// Lays it over a tree.
    pub(crate) fn apply(&self, bench: &Bench<'_>, root: &Path) -> Result<(), Error> {
        tree::copy(&Path::new(SOURCE_MOUNT).join(&self.dir), root, bench.modes)
    }
}
