//! Paths of a tree as they are named in a message.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// How many are named before the rest is counted.
const NAMED: usize = 5;

/// `/a, /b and 3 more`: paths relative to the root, as a device has them.
pub(crate) fn list_of(paths: &[PathBuf]) -> String {
    let named = paths.iter().take(NAMED);
    let named = named.map(|path| Path::new("/").join(path).display().to_string());
    let mut list = named.collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        // Writing to a string cannot fail.
        let _ = write!(list, " and {} more", paths.len() - NAMED);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_has_an_end() {
        let paths: Vec<PathBuf> = (1..=7).map(|n| format!("etc/{n}").into()).collect();
        assert_eq!(list_of(&paths[..1]), "/etc/1");
        let all = "/etc/1, /etc/2, /etc/3, /etc/4, /etc/5 and 2 more";
        assert_eq!(list_of(&paths), all);
    }
}
