//! dnf and rpm on a tree of ours, whatever the build host is: what is installed by them, and what
//! they are asked. `configuration` is how dnf is told of the tree and of the feed, `cache` what it
//! keeps of the feed, `missing` what it lacks of that, and `output` what it says.

mod cache;
mod configuration;
mod indexes;
mod missing;
mod output;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use avocado_backend::Tool;
use avocado_events::{Event, Sink};
use avocado_project::PackageHeaders;

pub(crate) use self::configuration::RepositoryView;
use self::output::transaction_step;
use crate::error::{At as _, BuildError};
use crate::packages::installed;
use crate::packages::lost;
use crate::packages::repository::SecretDirectory;
use crate::scriptlets::{self, PackageScriptlets};
use crate::trees::Tree;

/// Where later steps find rpm's database in a tree.
pub(crate) const DATABASE: &str = "var/lib/rpm";

/// Where rpm's database goes in the end.
pub(crate) enum DatabasePlace {
    /// Where it belongs in the tree.
    Tree,
    /// Beside the tree, until [`put_database`].
    Aside(PathBuf),
}

/// dnf for one tree.
pub(crate) struct Dnf<'a> {
    root: &'a Path,
    /// Beside the tree: configuration, and what rpm and dnf take for the user's home.
    home: PathBuf,
    options: Vec<OsString>,
    /// In the tree: where rpm has its database until [`Dnf::finish`]. Its name is new each time, so
    /// that no package can bring a file for it: what is installed is asked of it.
    database: PathBuf,
    /// The cache of metadata and packages that all trees share.
    cache: PathBuf,
    /// Whether the feed may be asked, and not the cache alone.
    may_ask: bool,
    /// Where its configuration is, if there is something secret in it.
    secrets: Option<SecretDirectory>,
}

impl Dnf<'_> {
    /// Asks one repository alone.
    pub(crate) fn only_from(mut self, repository: &str) -> Self {
        self.options.push(format!("--repo={repository}").into());
        self
    }

    /// The names of what a package that is installed provides.
    pub(crate) fn provided_by(
        &self,
        package: &str,
        sink: &dyn Sink,
    ) -> Result<Vec<String>, BuildError> {
        let query = self.tool("rpm").arg("--root").arg(self.root);
        let text = query.args(["-q", "--provides", package]).read(sink)?;
        let names = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// The versions that the feed has of a package, as `version-release`.
    pub(crate) fn versions_of(
        &self,
        package: &str,
        sink: &dyn Sink,
    ) -> Result<Vec<String>, BuildError> {
        let query = ["--quiet", "--qf", "%{version}-%{release}", package];
        let text = self.with_cache(|| self.dnf("repoquery").args(query).read(sink))?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// In the tree: where rpm has its database for now.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    fn tool(&self, name: &str) -> Tool {
        Tool::new(name).env("HOME", &self.home)
    }

    pub(in crate::packages) fn dnf(&self, command: &str) -> Tool {
        self.tool("dnf").args(&self.options).arg(command)
    }

    /// Removes what dnf leaves in a tree beside the packages. Their database stays: it says what
    /// is installed.
    pub(crate) fn finish(self, place: &DatabasePlace) -> Result<(), BuildError> {
        let Dnf {
            root,
            home,
            database,
            secrets,
            ..
        } = self;
        drop(secrets);
        crate::trees::clear(&home)?;
        let root = Tree::open(root)?;
        if root.has(&database) {
            let from = root.resolve(&database)?;
            match place {
                DatabasePlace::Tree => put_database(&root, &from)?,
                DatabasePlace::Aside(place) => {
                    crate::trees::clear(place)?;
                    fs::rename(&from, place).at("rename", &from)?;
                }
            }
        }
        for path in ["var/cache/dnf", "var/lib/dnf", "etc/dnf/modules.d"] {
            root.clear(path)?;
        }
        for name in root.names("var/log").unwrap_or_default() {
            let text = name.to_string_lossy();
            if text.starts_with("dnf") || text == "hawkey.log" {
                root.clear(Path::new("var/log").join(&name))?;
            }
        }
        // Directories that only these were in. Those with anything else in them stay.
        for path in ["var/cache", "var/log", "etc/dnf", "etc"] {
            root.remove_if_empty(path);
        }
        Ok(())
    }

    /// The scriptlets of everything that is installed in the tree.
    pub(crate) fn scriptlets(&self, sink: &dyn Sink) -> Result<Vec<PackageScriptlets>, BuildError> {
        if !Tree::open(self.root)?.is_directory(&self.database) {
            return Ok(Vec::new());
        }
        let tool = self.tool("rpm").arg("--root").arg(self.root);
        let text = tool
            .args(["-qa", "--qf", scriptlets::QUERY])
            .read_text(sink)?;
        scriptlets::parse(&text)
    }

    /// Installs `specs`; nothing to install is fine.
    pub(crate) fn install(&self, specs: &[String], sink: &dyn Sink) -> Result<(), BuildError> {
        if specs.is_empty() {
            return Ok(());
        }
        let counted = |event: Event| {
            if let Some((package, done, total)) = transaction_step(&event.message) {
                sink.emit(Event::items("", package, done, Some(total)));
            }
            sink.emit(event);
        };
        self.with_cache_for(specs, || self.dnf("install").args(specs).run(&counted))
    }

    /// Asks dnf what a user asks: the status, which is one of `answered`, and standard output.
    pub(crate) fn query(
        &self,
        arguments: &[String],
        answered: &[i32],
        sink: &dyn Sink,
    ) -> Result<(i32, String), BuildError> {
        let tool = || self.tool("dnf").args(&self.options).args(arguments);
        self.with_cache(|| tool().answer(answered, sink))
    }

    /// Everything that is installed in the tree, by name.
    pub(crate) fn installed(&self, sink: &dyn Sink) -> Result<PackageHeaders, BuildError> {
        if !Tree::open(self.root)?.is_directory(&self.database) {
            return Ok(PackageHeaders::new());
        }
        let text = self
            .tool("rpm")
            .arg("--root")
            .arg(self.root)
            .args(["-qa", "--qf", installed::QUERY])
            .read(sink)?;
        installed::parse(&text)
    }

    /// What there is to tell of the files of `packages`, which are installed in the tree: what of
    /// them no image holds.
    pub(crate) fn lost_owners(
        &self,
        packages: &PackageHeaders,
        sink: &dyn Sink,
    ) -> Result<Option<String>, BuildError> {
        if packages.is_empty() {
            return Ok(None);
        }
        let tool = self.tool("rpm").arg("--root").arg(self.root);
        let text = tool.args(["-qa", "--qf", lost::QUERY]).read(sink)?;
        Ok(lost::told(&text, packages))
    }

    /// Leaves packages out of everything that follows.
    pub(crate) fn exclude(&mut self, patterns: impl Iterator<Item = String>) {
        let options = patterns.map(|pattern| format!("--exclude={pattern}").into());
        self.options.extend(options);
    }
}

/// Puts rpm's database, which is at `from`, where it belongs in a tree.
pub(crate) fn put_database(root: &Tree, from: &Path) -> Result<(), BuildError> {
    root.clear(DATABASE)?;
    root.make_directories(DATABASE)?;
    let to = root.resolve(DATABASE)?;
    fs::rename(from, &to).at("rename", from)
}
