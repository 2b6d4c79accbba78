//! The user to whom a project belongs, where root works on it: with `sudo`, or in a container.

use std::path::{Path, PathBuf};

/// The home directory of the owner of `directory`, if this process is root's and the directory is
/// not. `passwd` is the list of users.
#[cfg(target_os = "linux")]
pub(crate) fn home_of_owner(directory: &Path, passwd: &Path) -> Option<PathBuf> {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    // The owner of the process's own directory is the user who counts for files.
    let we = fs::metadata("/proc/self").ok()?.uid();
    let owner = fs::metadata(directory).ok()?.uid();
    if we != 0 || owner == 0 {
        return None;
    }
    home(&fs::read_to_string(passwd).ok()?, owner)
}

/// Elsewhere nothing is done as somebody else.
#[cfg(not(target_os = "linux"))]
pub(crate) fn home_of_owner(_directory: &Path, _passwd: &Path) -> Option<PathBuf> {
    None
}

#[cfg(target_os = "linux")]
fn home(passwd: &str, user: u32) -> Option<PathBuf> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    let found = lines.find(|fields| {
        let id = fields.clone().nth(2);
        id.and_then(|id| id.parse().ok()) == Some(user)
    });
    let home = PathBuf::from(found?.nth(5)?);
    home.is_absolute().then_some(home)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_the_number_of_its_user() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n\
                      broken\n\
                      none:x:7:7::nowhere:/bin/false\n\
                      one:x:1000:1000:One,,,:/home/one:/bin/bash\n";
        for (user, expected) in [(1000, Some("/home/one")), (7, None), (8, None)] {
            assert_eq!(home(passwd, user), expected.map(PathBuf::from), "{user}");
        }
    }

    #[test]
    fn who_works_on_an_own_project_has_no_other_owner() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            home_of_owner(directory.path(), Path::new("/etc/passwd")),
            None
        );
    }
}
