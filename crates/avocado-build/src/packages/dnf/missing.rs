//! What a dnf that may ask nobody lacks. It ends with the same status whatever the reason is: so it is
//! asked which repositories it can use without a request, and which packages its solver chose, and
//! those are looked for in its cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use avocado_backend::ToolError;
use avocado_events::Silent;

use super::Dnf;
use super::cache::has_failed;
use crate::error::BuildError;
use crate::trees;

/// What changes a package, in the solver's result: a line of it is one of these and what follows, the
/// package that is installed last.
const CHANGES: [&str; 5] = ["install", "reinstall", "upgrade", "downgrade", "change"];

/// Of a package: how the solver names it, how large its file is, and where its repository has that.
const LOCATION: &str = "%{name}-%{evr}.%{arch}@%{repoid} %{downloadsize} %{location}\n";

impl Dnf<'_> {
    /// What of the metadata and packages, which an install of `specs` needs, is not in the cache; nothing
    /// where that is not why dnf failed.
    pub(super) fn missing_in_cache(&self, specs: &[String]) -> Result<Vec<String>, BuildError> {
        let indexes = self.missing_indexes()?;
        if !indexes.is_empty() || specs.is_empty() {
            return Ok(indexes);
        }
        self.missing_packages(specs)
    }

    fn missing_indexes(&self) -> Result<Vec<String>, BuildError> {
        if self.is_cached(&[])? {
            return Ok(Vec::new());
        }
        let listed = self.dnf("repolist").args(["--quiet", "--enabled"]);
        let Some(listed) = answered(listed.read(&Silent))? else {
            return Ok(Vec::new());
        };
        let mut missing = Vec::new();
        // The first line is a heading.
        for line in listed.lines().skip(1) {
            if let Some(repository) = line.split_whitespace().next()
                && !self.is_cached(&[format!("--repo={repository}")])?
            {
                missing.push(format!("the index of repository {repository}"));
            }
        }
        missing.sort();
        Ok(missing)
    }

    /// Whether dnf has the metadata of these repositories.
    fn is_cached(&self, repositories: &[String]) -> Result<bool, BuildError> {
        let tool = self.dnf("makecache").args(repositories);
        Ok(answered(tool.run(&Silent))?.is_some())
    }

    fn missing_packages(&self, specs: &[String]) -> Result<Vec<String>, BuildError> {
        let chosen = self.chosen(specs)?;
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let names = chosen.iter().filter_map(|package| package.rsplit_once('@'));
        let names: BTreeSet<&str> = names.map(|(name, _)| name).collect();
        let query = self.dnf("repoquery").args(["--quiet", "--qf", LOCATION]);
        let Some(found) = answered(query.args(names).read(&Silent))? else {
            return Ok(Vec::new());
        };
        let files: BTreeMap<&str, (&str, &str)> = found.lines().filter_map(location).collect();
        let missing = chosen.iter().filter(|package| {
            let file = files.get(package.as_str());
            file.is_some_and(|(size, path)| !self.has_file(package, size, path))
        });
        let names = missing.filter_map(|package| package.rsplit_once('@'));
        Ok(names.map(|(name, _)| format!("package {name}")).collect())
    }

    /// The packages that the solver chooses, each with its repository; nothing where it finds no way.
    fn chosen(&self, specs: &[String]) -> Result<BTreeSet<String>, BuildError> {
        let place = self.home.join("solver");
        trees::fresh(&place)?;
        let solve = self.dnf("install").args(["--debugsolver", "--assumeno"]);
        // What it says has been said, and that it installs nothing is a failure to it.
        let solve = solve.args(specs).current_dir(&place);
        answered(solve.run(&Silent))?;
        let result = place.join("debugdata/rpms/solver.result");
        let text = fs::read_to_string(result).unwrap_or_default();
        if text.lines().any(|line| line.starts_with("problem ")) {
            return Ok(BTreeSet::new());
        }
        Ok(text.lines().filter_map(installed_by).collect())
    }

    /// Whether the cache has the file of a package, whole.
    fn has_file(&self, package: &str, size: &str, path: &str) -> bool {
        let (Some((_, repository)), Some(name)) =
            (package.rsplit_once('@'), path.rsplit('/').next())
        else {
            return false;
        };
        // A directory of the cache is the repository's name and a digest of its URL.
        let is_of_repository = |directory: &PathBuf| {
            let directory = directory.file_name().unwrap_or_default().to_string_lossy();
            let of = directory.rsplit_once('-').map(|(of, _)| of);
            of == Some(repository)
        };
        let directories = fs::read_dir(&self.cache).into_iter().flatten().flatten();
        let mut directories = directories
            .map(|entry| entry.path())
            .filter(is_of_repository);
        directories.any(|directory| {
            let file = fs::metadata(directory.join("packages").join(name));
            file.is_ok_and(|file| file.len().to_string() == size)
        })
    }
}

/// The answer of a dnf that had one; nothing where it failed of something that it knows of.
fn answered<T>(answer: Result<T, ToolError>) -> Result<Option<T>, BuildError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if has_failed(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The package that a line of the solver's result installs.
fn installed_by(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let is_change = words.next().is_some_and(|word| CHANGES.contains(&word));
    let package = words.next_back().filter(|_| is_change)?;
    Some(package.to_owned())
}

/// A line of [`LOCATION`].
fn location(line: &str) -> Option<(&str, (&str, &str))> {
    let (package, rest) = line.split_once(' ')?;
    Some((package, rest.split_once(' ')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solver_says_what_it_installs() {
        for (line, package) in [
            ("install a-1-r0.noarch@target", Some("a-1-r0.noarch@target")),
            (
                "upgrade a-1-r0.x@@System a-2:2-r0.x@target",
                Some("a-2:2-r0.x@target"),
            ),
            ("erase a-1-r0.noarch@@System", None),
            ("problem 1a2b info nothing provides x", None),
            ("install", None),
            ("", None),
        ] {
            assert_eq!(installed_by(line).as_deref(), package, "{line}");
        }
    }
}
