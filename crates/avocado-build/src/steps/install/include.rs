//! An extension that comes in a package: which package that is, whether it is for this target, and
//! where in it the extension is.

use std::path::{Path, PathBuf};

use avocado_events::Sink;
use avocado_manifest::Name;
use avocado_project::Packages;
use rustix::fs::FileType;

use crate::error::BuildError;
use crate::extension_package::{ANY_TARGET, NESTED, target_of};
use crate::packages::dnf::{DATABASE, Dnf};
use crate::packages::version;
use crate::trees::{self, Tree, is};

/// Where an extension is in the tree that its package was installed into.
pub(super) struct IncludePlace {
    /// The names that its directory may have; none where it is the tree itself.
    directories: Vec<PathBuf>,
    package: String,
}

/// The packages with their versions as the feed has them: a project may state the version of the
/// extension, which rpm writes in another way.
pub(super) fn in_versions_of_feed(
    dnf: &Dnf<'_>,
    packages: Packages,
    sink: &dyn Sink,
) -> Result<Packages, BuildError> {
    let mut found = Packages::new();
    for (package, stated) in packages {
        let version = if stated.contains(['-', '+']) {
            version_of_feed(&stated, &dnf.versions_of(&package, sink)?)
        } else {
            stated
        };
        found.insert(package, version);
    }
    Ok(found)
}

/// One that the feed has as it is stated comes first: what is behind a `-` may be the release, and `+`
/// a part of another packager's version.
fn version_of_feed(stated: &str, available: &[String]) -> String {
    let mut pairs = available.iter().filter_map(|found| found.rsplit_once('-'));
    let is_stated = pairs.clone().any(|(version, release)| {
        let rest = stated.strip_prefix(&format!("{version}-{release}"));
        stated == version || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    match pairs.find(|(version, _)| version::from_rpm(version) == stated) {
        Some((version, _)) if !is_stated => version.to_owned(),
        _ => stated.to_owned(),
    }
}

/// Asks the package that was just installed.
pub(super) fn place_of(
    dnf: &Dnf<'_>,
    extension: &Name,
    packages: &Packages,
    target: &Name,
    sink: &dyn Sink,
) -> Result<IncludePlace, BuildError> {
    let package = packages.keys().next().cloned().unwrap_or_default();
    let provided = dnf.provided_by(&package, sink)?;
    check_target(&package, &provided, target)?;
    let is_nested = provided.iter().any(|name| name == NESTED);
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

/// That the package is for the target, where it says which ones it is for.
fn check_target(package: &str, provided: &[String], target: &Name) -> Result<(), BuildError> {
    let targets = provided.iter().filter_map(|name| target_of(name));
    let targets: Vec<&str> = targets.collect();
    // A feed calls a machine by less than its whole name.
    let machine = target.as_str();
    let short = machine.strip_prefix("avocado-").unwrap_or(machine);
    if targets.is_empty()
        || [ANY_TARGET, machine, short]
            .iter()
            .any(|t| targets.contains(t))
    {
        return Ok(());
    }
    Err(BuildError::OtherTarget {
        package: package.to_owned(),
        target: target.to_string(),
        targets: targets.into_iter().map(str::to_owned).collect(),
    })
}

impl IncludePlace {
    /// Puts the extension that is in `tree` at `place`. Of the rest of the tree nothing stays.
    pub(super) fn put(&self, tree: &Tree, place: &Path) -> Result<(), BuildError> {
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
        Err(BuildError::Invalid(format!(
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
    fn a_package_says_which_targets_it_is_for() {
        let target = "qemux86-64".parse().unwrap();
        for (provided, is_refused) in [
            ("app", false),
            ("avocado-target(*)", false),
            ("avocado-target(a) avocado-target(qemux86-64)", false),
            ("avocado-target(qemux86) avocado-target(pi)", true),
            ("avocado-target()", true),
        ] {
            let names: Vec<String> = provided.split(' ').map(str::to_owned).collect();
            let checked = check_target("app", &names, &target);
            assert_eq!(checked.is_err(), is_refused, "{provided}");
        }
    }

    #[test]
    fn the_version_of_an_extension_is_found_as_rpm_writes_it() {
        for (stated, feed, expected) in [
            ("1.0.0-rc.1", "1.0.0~rc.1-r0", "1.0.0~rc.1"),
            ("1.0.0-rc.1+7", "1.0.0~rc.1^7-r0 1.0.0-r0", "1.0.0~rc.1^7"),
            ("1.0.0-r0", "1.0.0-r0 1.0.0~r0-r0", "1.0.0-r0"),
            ("1.0.0-r0.noarch", "1.0.0-r0", "1.0.0-r0.noarch"),
            ("1.0.0+7", "1.0.0+7-r0 1.0.0^7-r0", "1.0.0+7"),
            ("1.0.0+7", "1.0.0^7-r0", "1.0.0^7"),
            ("1.0.0-rc.2", "1.0.0~rc.1-r0", "1.0.0-rc.2"),
        ] {
            let versions: Vec<String> = feed.split(' ').map(str::to_owned).collect();
            assert_eq!(
                version_of_feed(stated, &versions),
                expected,
                "{stated} {feed}"
            );
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
