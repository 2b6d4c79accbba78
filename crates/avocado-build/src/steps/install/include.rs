//! An extension that comes in a package: where in the package it is.

use std::path::{Path, PathBuf};

use avocado_events::Sink;
use avocado_manifest::Name;
use avocado_project::Packages;
use rustix::fs::FileType;

use crate::error::Error;
use crate::packages::dnf::{DATABASE, Dnf};
use crate::trees::{self, Tree, is};

/// What a package provides that has its extension in a directory of its name; the older ones are
/// the extension themselves.
const NESTED: &str = "avocado-ext-layout(nested)";

/// Where an extension is in the tree that its package was installed into.
pub(super) struct IncludePlace {
    /// The names that its directory may have; none where it is the tree itself.
    directories: Vec<PathBuf>,
    package: String,
}

/// Asks the package that was just installed.
pub(super) fn place_of(
    dnf: &Dnf<'_>,
    extension: &Name,
    packages: &Packages,
    sink: &dyn Sink,
) -> Result<IncludePlace, Error> {
    let package = packages.keys().next().cloned().unwrap_or_default();
    let is_nested = dnf.provides(&package, NESTED, sink)?;
    let names = [extension.as_str(), package.as_str()];
    Ok(IncludePlace {
        directories: names
            .map(PathBuf::from)
            .into_iter()
            .filter(|_| is_nested)
            .collect(),
        package,
    })
}

impl IncludePlace {
    /// Puts the extension that is in `tree` at `place`. Of the rest of the tree nothing stays.
    pub(super) fn put(&self, tree: &Tree, place: &Path) -> Result<(), Error> {
        if self.directories.is_empty() {
            tree.clear(DATABASE)?;
            tree.remove_if_empty("var/lib");
            tree.remove_if_empty("var");
            return trees::replace(tree.path(), place);
        }
        for directory in &self.directories {
            // The directory itself: a link would take something else along.
            let found = tree.look(directory)?;
            if found.is_some_and(|found| is(&found, FileType::Directory)) {
                trees::replace(&tree.shown(directory), place)?;
                return trees::clear(tree.path());
            }
        }
        let directory = self.directories.first().map(|d| d.display().to_string());
        Err(Error::Invalid(format!(
            "package {} provides {NESTED}, and has no directory /{}",
            self.package,
            directory.unwrap_or_default()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn place(directories: &[&str]) -> IncludePlace {
        IncludePlace {
            directories: directories.iter().map(PathBuf::from).collect(),
            package: "p".into(),
        }
    }

    #[test]
    fn an_extension_is_the_package_or_a_directory_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("app");
        let packaged = |files: &[&str]| {
            let tree = Tree::fresh(&directory.path().join(".app.new")).unwrap();
            for file in files {
                tree.write(file, "", 0o644).unwrap();
            }
            tree
        };
        let files = [
            "avocado.yaml",
            "app/avocado.yaml",
            "p/hook",
            "var/lib/rpm/rpmdb.sqlite",
        ];
        place(&[]).put(&packaged(&files), &to).unwrap();
        assert!(to.join("app/avocado.yaml").is_file());
        assert!(!to.join("var").exists());
        place(&["app", "p"]).put(&packaged(&files), &to).unwrap();
        assert!(to.join("avocado.yaml").is_file() && !to.join("app").exists());
        assert!(!directory.path().join(".app.new").exists());
        place(&["app", "p"])
            .put(&packaged(&["p/hook"]), &to)
            .unwrap();
        assert!(to.join("hook").is_file());

        let tree = packaged(&[]);
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        tree.symlink(&outside, "app").unwrap();
        let error = place(&["app"]).put(&tree, &to).unwrap_err().to_string();
        assert!(error.ends_with("has no directory /app"), "{error}");
        assert!(outside.is_dir());
    }
}
