//! What was fetched before: which extension is here, as the project asks for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;

use super::source::{ExtensionSource, SourceKind};

/// The longest record, in bytes.
const LARGEST: u64 = 1024;

impl ExtensionSource {
    /// Where its files are, if they are here: `includes` is where this project's target has what
    /// was fetched. A directory of this machine is used where it is.
    pub fn find(&self, includes: &Path) -> Option<PathBuf> {
        if let SourceKind::Path { path } = &self.kind {
            return path.is_dir().then(|| path.clone());
        }
        let place = includes.join(&self.extension);
        let recorded = avocado_fs::read_at_most(&self.record(includes), LARGEST).ok()?;
        let is_as_asked = recorded == self.identity()?.as_bytes();
        // A link would have the project read from elsewhere.
        (is_as_asked && place.is_dir() && !place.is_symlink()).then_some(place)
    }

    /// Notes that what is in `includes` is of this source.
    ///
    /// # Errors
    /// Where the note cannot be written.
    pub fn note(&self, includes: &Path) -> io::Result<()> {
        let identity = self.identity();
        let identity = identity.ok_or(io::ErrorKind::InvalidData)?;
        fs::write(self.record(includes), identity)
    }

    /// Takes the note back, before something else is put in the place.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn forget(&self, includes: &Path) -> io::Result<()> {
        match fs::remove_file(self.record(includes)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The file of that note. No extension has a name that begins with a dot.
    pub fn record(&self, includes: &Path) -> PathBuf {
        includes.join(format!(".{}.source", self.extension))
    }

    /// A digest of what is asked for. Who asks, of which a URL may have the password, does not matter.
    fn identity(&self) -> Option<String> {
        let asked = match &self.kind {
            SourceKind::Git {
                sparse_checkout, ..
            } => serde_json::to_vec(&(self.kind.git_source()?, sparse_checkout)),
            kind => serde_json::to_vec(kind),
        };
        Some(Digest::of(&asked.ok()?).to_string())
    }
}
