//! `var_files` of an extension: what of its tree belongs on the var partition.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::{Tree, is};
use crate::error::BuildError;

/// The topmost paths of the tree that `var_files` names, sorted, relative to it. An entry means
/// the file, or the directory with all it holds; a `/`, `/*` or `/**` at its end says the same.
pub(crate) fn find(root: &Tree, var_files: &[String]) -> Result<Vec<PathBuf>, BuildError> {
    let mut named = BTreeSet::new();
    for text in var_files {
        let path = path_inside(text)?;
        if is_there(root, &path) {
            named.insert(path);
        }
    }
    let mut topmost: Vec<PathBuf> = Vec::new();
    for path in named {
        // In the order of paths a directory comes right before everything that it holds.
        if !topmost.last().is_some_and(|above| path.starts_with(above)) {
            topmost.push(path);
        }
    }
    Ok(topmost)
}

/// Those of `var_files` that name nothing in the tree.
pub(crate) fn unmatched<'t>(
    root: &Tree,
    var_files: &'t [String],
) -> Result<Vec<&'t str>, BuildError> {
    let mut unmatched = Vec::new();
    for text in var_files {
        if !is_there(root, &path_inside(text)?) {
            unmatched.push(text.as_str());
        }
    }
    Ok(unmatched)
}

fn path_inside(text: &str) -> Result<PathBuf, BuildError> {
    path_of(text).ok_or_else(|| {
        BuildError::Invalid(format!(
            "`{text}` in var_files is no path inside the sysroot"
        ))
    })
}

fn path_of(text: &str) -> Option<PathBuf> {
    let mut path = text;
    for end in ["/**", "/*", "/"] {
        path = path.strip_suffix(end).unwrap_or(path);
    }
    let names = Path::new(path.trim_start_matches('/')).components();
    let names = names.map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let path: PathBuf = names.collect::<Option<_>>()?;
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Whether the tree has something by this name. What is behind a link is in the tree under
/// another name, or not in the tree at all.
fn is_there(root: &Tree, path: &Path) -> bool {
    let above = path
        .ancestors()
        .skip(1)
        .filter(|p| !p.as_os_str().is_empty());
    let look = |p: &Path| root.look(p).ok().flatten();
    let is_directory = |p: &Path| look(p).is_some_and(|found| is(&found, FileType::Directory));
    look(path).is_some() && above.into_iter().all(is_directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn found(patterns: &[&str]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "var/lib/docker/a/b",
            "var/lib/app/data/x.db",
            "var/lib/app/log",
            "var/lib/app.d/y",
            "usr/bin/app",
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        symlink("app", root.path().join("var/lib/link")).unwrap();
        let texts: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let found = find(&Tree::open(root.path()).unwrap(), &texts).unwrap();
        found.iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn the_topmost_paths_are_found() {
        for (patterns, expected) in [
            (&["var/lib/docker/**"][..], &["var/lib/docker"][..]),
            (&["var/lib/docker/*"], &["var/lib/docker"]),
            (&["var/lib/app/data/"], &["var/lib/app/data"]),
            (&["/var/lib/app"], &["var/lib/app"]),
            (&["var/lib/app/log"], &["var/lib/app/log"]),
            (
                &["var/lib/app/log", "var/lib/app.d", "var/lib/app"],
                &["var/lib/app", "var/lib/app.d"],
            ),
            (
                &["var/lib/docker", "var/lib/app/data/x.db"],
                &["var/lib/app/data/x.db", "var/lib/docker"],
            ),
            (&["var/lib/none/**"], &[]),
            (&["var/lib/app/log/none"], &[]),
            (&["var/lib/link"], &["var/lib/link"]),
            (&["var/lib/link/log"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(found(patterns), expected, "{patterns:?}");
        }
    }

    #[test]
    fn what_names_nothing_is_found() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/app")).unwrap();
        let texts = ["var/lib/app/**", "var/lib/ap", "/var/lib/app/", "srv"].map(str::to_owned);
        let tree = Tree::open(root.path()).unwrap();
        assert_eq!(unmatched(&tree, &texts).unwrap(), ["var/lib/ap", "srv"]);
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        for bad in ["../x", "var/../../x", "", "/", "/**", "x/../.."] {
            assert!(find(&tree, &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
