//! Repositories beside the feed, and what dnf has to know to be let in. What is secret goes to dnf in
//! files of a directory that ends with the step: neither in arguments nor into the state.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;
use avocado_project::{PackageRepository, RepositoryCredentials};
use serde::{Deserialize, Serialize};

use crate::error::{At as _, BuildError};

/// The name of a variable of dnf's that stands for a `$`, which dnf has no other way to write.
pub(crate) const DOLLAR: &str = "avocado_dollar";

/// Who asks a repository.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AccessCredentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for AccessCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessCredentials").finish_non_exhaustive()
    }
}

impl From<&RepositoryCredentials> for AccessCredentials {
    fn from(credentials: &RepositoryCredentials) -> Self {
        AccessCredentials {
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        }
    }
}

impl AccessCredentials {
    /// As lines of dnf's configuration of one repository, where a `$` begins the name of a variable.
    pub(super) fn of_one(&self) -> String {
        let value = |text: &str| text.replace('$', &format!("${{{DOLLAR}}}"));
        let (username, password) = (value(&self.username), value(&self.password));
        format!("username={username}\npassword={password}\n")
    }
}

/// How dnf reaches a repository beside the feed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RepositoryAccess {
    name: String,
    url: String,
    credentials: Option<AccessCredentials>,
    pub(crate) for_sdk: bool,
    pub(crate) for_target: bool,
    ca: Option<PathBuf>,
    tls_verify: bool,
    /// The public keys that may sign its packages.
    pub(crate) signing_keys: Option<String>,
    priority: Option<u64>,
}

/// What of it shapes what is installed.
#[derive(Debug, Serialize)]
pub(crate) struct RepositoryInputs {
    name: String,
    url: String,
    signing_keys: Option<Digest>,
    priority: Option<u64>,
}

impl RepositoryAccess {
    pub(crate) fn of(repository: &PackageRepository, signing_keys: Option<String>) -> Self {
        RepositoryAccess {
            name: repository.name.to_string(),
            url: repository.url.clone(),
            credentials: None,
            for_sdk: repository.for_sdk,
            for_target: repository.for_target,
            ca: repository.ca.clone(),
            tls_verify: repository.tls_verify,
            signing_keys,
            priority: repository.priority,
        }
    }

    /// The same with who asks.
    pub(crate) fn with_credentials(self, who: Option<&RepositoryCredentials>) -> Self {
        RepositoryAccess {
            credentials: who.map(Into::into),
            ..self
        }
    }

    pub(crate) fn inputs(&self) -> RepositoryInputs {
        let keys = self.signing_keys.as_ref();
        RepositoryInputs {
            name: self.name.clone(),
            url: self.url.clone(),
            signing_keys: keys.map(|keys| Digest::of(keys.as_bytes())),
            priority: self.priority,
        }
    }

    /// As a file of dnf's, with its keys beside it.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), BuildError> {
        let RepositoryAccess { name, url, .. } = self;
        let mut text = format!("[{name}]\nname={name}\nbaseurl={url}\nenabled=1\n");
        if let Some(credentials) = &self.credentials {
            text += &credentials.of_one();
        }
        text += &format!("sslverify={}\n", u8::from(self.tls_verify));
        if let Some(ca) = &self.ca {
            text += &format!("sslcacert={}\n", ca.display());
        }
        if let Some(priority) = self.priority {
            text += &format!("priority={priority}\n");
        }
        if let Some(keys) = &self.signing_keys {
            let path = directory.join(format!("{name}.asc"));
            write_secret(&path, keys)?;
            text += &format!("gpgcheck=1\ngpgkey=file://{}\n", path.display());
        }
        write_secret(&directory.join(format!("{name}.repo")), &text)
    }

    /// What says so whatever is said of all repositories.
    pub(crate) fn options(&self, directory: &Path) -> Vec<String> {
        let name = &self.name;
        let keys = directory.join(format!("{name}.asc"));
        match &self.signing_keys {
            Some(_) => vec![
                format!("--setopt={name}.gpgcheck=1"),
                format!("--setopt={name}.gpgkey=file://{}", keys.display()),
            ],
            None => Vec::new(),
        }
    }
}

/// A directory that only this user can look into and that goes with its owner. A step has /tmp for
/// itself, so it goes even where the step is killed.
pub(crate) struct SecretDirectory(PathBuf);

impl SecretDirectory {
    pub(crate) fn new() -> Result<Self, BuildError> {
        // The keys of a hash map are the randomness that the standard library has.
        let random = || RandomState::new().build_hasher().finish();
        let path = PathBuf::from(format!("/tmp/.avocado-{:016x}{:016x}", random(), random()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .at("create", &path)?;
        Ok(SecretDirectory(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SecretDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A new file that only this user can read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), BuildError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.at("create", path)?;
    file.write_all(text.as_bytes()).at("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_written_for_dnf() {
        let who = AccessCredentials {
            username: "me@x".into(),
            password: "p$releasever:/ %".into(),
        };
        assert_eq!(
            who.of_one(),
            "username=me@x\npassword=p${avocado_dollar}releasever:/ %\n"
        );
        assert!(!format!("{who:?}").contains("me@x"));
    }

    #[test]
    fn what_is_secret_goes_with_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = SecretDirectory::new().unwrap();
        let path = directory.path().to_owned();
        write_secret(&path.join("a"), "x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(&path.join("a"))), (0o700, 0o600));
        drop(directory);
        assert!(!path.exists());
    }
}
