//! The key that opens a device.

use std::fs;
use std::path::{Path, PathBuf};

use crate::HarnessError;
use crate::error::file;
use crate::tools::ToolCall;

/// An ssh key pair.
#[derive(Debug, Clone)]
pub struct SshKeys {
    /// The file of the private key; the public one is beside it with `.pub`.
    pub private: PathBuf,
    /// The line for `authorized_keys`.
    pub public: String,
}

impl SshKeys {
    /// The ed25519 key pair in `directory`, made when it is not there yet.
    ///
    /// # Errors
    /// The directory cannot be written, or ssh-keygen failed.
    pub fn create(directory: &Path) -> Result<Self, HarnessError> {
        fs::create_dir_all(directory).map_err(file("make", directory))?;
        let directory = fs::canonicalize(directory).map_err(file("find", directory))?;
        let private = directory.join("device_key");
        let public = directory.join("device_key.pub");
        // ssh-keygen writes the public key last.
        if !public.exists() {
            let _ = fs::remove_file(&private);
            ToolCall::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "avocado-testbed"])
                .arg("-f")
                .arg(&private)
                .ok()?;
        }
        let public = fs::read_to_string(&public).map_err(file("read", &public))?;
        Ok(SshKeys { private, public })
    }
}
