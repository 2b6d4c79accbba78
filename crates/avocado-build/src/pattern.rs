//! Path patterns of `var_files`: `*` within a name, `**` over directories.

use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use crate::Error;
use crate::error::At as _;

/// A list of patterns relative to a tree.
#[derive(Debug)]
pub(crate) struct Patterns(Vec<Vec<String>>);

impl Patterns {
    /// Reads patterns. What ends in `/`, `/*` or `/**` means the directory with all it holds.
    pub(crate) fn new(texts: &[String]) -> Result<Self, Error> {
        let parse = |text: &String| {
            let mut trimmed = text.as_str();
            for end in ["/**", "/*", "/"] {
                trimmed = trimmed.strip_suffix(end).unwrap_or(trimmed);
            }
            let path = Path::new(trimmed.trim_start_matches('/'));
            path.components()
                .map(|part| match part {
                    Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                    _ => None,
                })
                .collect::<Option<Vec<String>>>()
                .filter(|parts| !parts.is_empty())
                .ok_or_else(|| {
                    Error::Invalid(format!(
                        "`{text}` in var_files is no path inside the sysroot"
                    ))
                })
        };
        Ok(Patterns(texts.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// The topmost paths of the tree that match, sorted, relative to it.
    pub(crate) fn find(&self, root: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut found = Vec::new();
        let mut walk = WalkDir::new(root)
            .min_depth(1)
            .sort_by_file_name()
            .into_iter();
        while !self.0.is_empty()
            && let Some(entry) = walk.next()
        {
            let entry = entry.map_err(std::io::Error::from).at("read", root)?;
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
            let names: Vec<String> = relative
                .components()
                .map(|c| c.as_os_str().to_string_lossy().into_owned())
                .collect();
            if self.0.iter().any(|pattern| matches(pattern, &names)) {
                found.push(relative.to_owned());
                if entry.file_type().is_dir() {
                    walk.skip_current_dir();
                }
            }
        }
        Ok(found)
    }
}

fn matches(pattern: &[String], names: &[String]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            matches(rest, names)
                || names
                    .split_first()
                    .is_some_and(|(_, n)| matches(pattern, n))
        }
        (Some((first, rest)), Some((name, names))) => {
            name_matches(first.as_bytes(), name.as_bytes()) && matches(rest, names)
        }
        _ => false,
    }
}

fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            name_matches(rest, name)
                || name
                    .split_first()
                    .is_some_and(|(_, n)| name_matches(pattern, n))
        }
        (Some((b'?', rest)), Some((_, name))) => name_matches(rest, name),
        (Some((a, rest)), Some((b, name))) => a == b && name_matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn find(patterns: &[&str]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "var/lib/docker/a/b",
            "var/lib/app/data/x.db",
            "var/lib/app/log",
            "usr/bin/app",
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let texts: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let found = Patterns::new(&texts).unwrap().find(root.path()).unwrap();
        found.iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn patterns_find_the_topmost_paths() {
        for (patterns, expected) in [
            (&["var/lib/docker/**"][..], &["var/lib/docker"][..]),
            (&["var/lib/docker/*"], &["var/lib/docker"]),
            (&["var/lib/app/data/"], &["var/lib/app/data"]),
            (&["/var/lib/app"], &["var/lib/app"]),
            (&["**/*.db"], &["var/lib/app/data/x.db"]),
            (&["var/lib/*/l?g"], &["var/lib/app/log"]),
            (&["var/lib/none/**"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(find(patterns), expected, "{patterns:?}");
        }
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for bad in ["../x", "var/../../x", "", "/", "**/.."] {
            assert!(Patterns::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
