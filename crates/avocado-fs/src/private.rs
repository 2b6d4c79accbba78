//! Files that nobody else should read.

use std::fmt;
use std::path::{Path, PathBuf};

/// That a file with a secret can be read or written by others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFileWarning {
    /// The file.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
}

impl fmt::Display for OpenFileWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OpenFileWarning { path, mode } = self;
        let path = path.display();
        write!(
            f,
            "the key {path} has mode {mode:04o}: other users of this machine may have read it; close \
             it with `chmod 600 {path}`"
        )
    }
}

/// A warning where others than its owner may read or write the file; none where it cannot be
/// looked at, which its reader will say.
#[cfg(unix)]
pub fn open_to_others(path: &Path) -> Option<OpenFileWarning> {
    use std::os::unix::fs::MetadataExt;
    let mode = std::fs::metadata(path).ok()?.mode() & 0o7777;
    (mode & 0o066 != 0).then(|| OpenFileWarning {
        path: path.to_owned(),
        mode,
    })
}

/// Files have no mode there.
#[cfg(not(unix))]
pub fn open_to_others(_path: &Path) -> Option<OpenFileWarning> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        assert_eq!(open_to_others(&path), None);
        fs::write(&path, "").unwrap();
        for (mode, open) in [
            (0o600, false),
            (0o400, false),
            (0o700, false),
            (0o640, true),
            (0o604, true),
            (0o620, true),
            (0o666, true),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let warning = open_to_others(&path);
            assert_eq!(warning.is_some(), open, "{mode:o}");
            if let Some(warning) = warning {
                let said = warning.to_string();
                assert!(said.contains(&format!("mode 0{mode:o}")), "{said}");
                let way_out = format!("chmod 600 {}", path.display());
                assert!(said.contains(&way_out), "{said}");
            }
        }
    }
}
