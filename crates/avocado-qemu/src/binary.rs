//! Which QEMU.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use avocado_fs::find_program;
use serde::{Deserialize, Serialize};

use crate::error::QemuError;
use crate::spec::Architecture;

/// The first QEMU for `architecture` in `directories` (those of PATH).
pub fn find_binary(
    directories: impl IntoIterator<Item = PathBuf>,
    architecture: Architecture,
) -> Result<PathBuf, QemuError> {
    let name = format!(
        "{}{}",
        architecture.binary_name(),
        std::env::consts::EXE_SUFFIX
    );
    find_program(&name, directories).ok_or(QemuError::NoBinary { name })
}

/// Which build of QEMU it is, cheap to ask: a new version of the program is a new file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BinaryIdentity {
    /// The program, with links resolved.
    pub path: PathBuf,
    /// When it was written, in nanoseconds since 1970.
    pub mtime: u64,
    /// Its size in bytes.
    pub size: u64,
}

impl BinaryIdentity {
    /// Looks at a program.
    ///
    /// # Errors
    /// [`QemuError::File`] where it is not there.
    pub fn of(binary: &Path) -> Result<Self, QemuError> {
        let look = || {
            let path = binary.canonicalize()?;
            let metadata = path.metadata()?;
            let mtime = metadata
                .modified()?
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Ok(BinaryIdentity {
                path,
                mtime: u64::try_from(mtime.as_nanos()).unwrap_or(u64::MAX),
                size: metadata.len(),
            })
        };
        look().map_err(|source| QemuError::File {
            action: "look at",
            path: binary.to_owned(),
            source,
        })
    }
}
