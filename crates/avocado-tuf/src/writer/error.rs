use std::path::PathBuf;

use avocado_fs::PathError;
use avocado_manifest::NameError;

use crate::keys::KeyError;
use crate::metadata_error::MetadataError;

/// Why a repository could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The name of the role or of a target cannot be used.
    #[error("the name cannot be used in a repository")]
    Name(#[from] NameError),
    /// The role has a name that the specification has taken.
    #[error("`{0}` cannot be the name of a delegated role")]
    Role(String),
    /// The role may not speak about this target.
    #[error("the target `{0}` is no kind of file that a runtime has")]
    Uncovered(String),
    /// Two targets have the same name.
    #[error("two targets have the name `{0}`")]
    Duplicate(String),
    /// The source is not as long as it should be.
    #[error("{} has {found} bytes and not {expected}", path.display())]
    Length {
        /// The source.
        path: PathBuf,
        /// The length given.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// The repository's root is not of the key given.
    #[error("the repository {} belongs to another signing key", directory.display())]
    OtherKey {
        /// The repository.
        directory: PathBuf,
    },
    /// There is nothing published that could be renewed.
    #[error("nothing is published in {}", directory.display())]
    Empty {
        /// The repository.
        directory: PathBuf,
    },
    /// Metadata in the repository is not what this writer left there.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: MetadataError,
    },
    /// Metadata in the repository does not fit to what announces it.
    #[error("{} does not fit to the metadata that announces it", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot write the repository")]
    Io(#[from] PathError),
    /// The key of a signer cannot be written down.
    #[error("the key of a signer cannot be used")]
    Key(#[from] KeyError),
    /// A signer did not sign.
    #[error("the signer of `{role}` did not sign")]
    Signer {
        /// The role.
        role: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A signer signed with another key than its own.
    #[error("what the signer of `{role}` signed does not verify with its key")]
    Signature {
        /// The role.
        role: String,
    },
    /// The expiry would be out of range.
    #[error("the time of publication is out of range")]
    Time,
    /// Metadata kept from before holds what cannot be signed.
    #[error("the metadata cannot be signed")]
    Unsignable,
}
