//! The kernels of a feed.

use avocado_events::Sink;

use super::dnf::Dnf;
use super::version;
use crate::error::Error;

impl Dnf<'_> {
    /// The versions of the kernels that the feed has, by the virtual `avocado-kernel-<version>`;
    /// oldest first.
    pub(crate) fn kernels(&self, sink: &dyn Sink) -> Result<Vec<String>, Error> {
        let words = [
            "--quiet",
            "--whatprovides",
            "avocado-kernel-*",
            "--provides",
        ];
        let text = self.with_cache(|| self.dnf("repoquery").args(words).read(sink))?;
        let versions = text
            .lines()
            .filter_map(|line| line.strip_prefix("avocado-kernel-"))
            .filter_map(|rest| rest.split_whitespace().next());
        Ok(sorted(versions))
    }

    /// The versions of the kernels that a package of that name brings, oldest first: the version of
    /// a kernel is part of the package's name, or it is the package's version.
    pub(crate) fn kernels_of(&self, package: &str, sink: &dyn Sink) -> Result<Vec<String>, Error> {
        let query = self
            .dnf("repoquery")
            .args(["--quiet", "--qf", "%{name} %{version}"]);
        let query = query.arg(package).arg(format!("{package}-*"));
        let text = self.with_cache(|| query.read(sink))?;
        let versions = text.lines().filter_map(|line| {
            let (name, version) = line.trim().split_once(' ')?;
            match name.strip_prefix(package)? {
                "" => Some(version),
                rest => {
                    let rest = rest.strip_prefix('-')?;
                    rest.starts_with(|c: char| c.is_ascii_digit())
                        .then_some(rest)
                }
            }
        });
        Ok(sorted(versions))
    }
}

fn sorted<'v>(versions: impl Iterator<Item = &'v str>) -> Vec<String> {
    let mut versions: Vec<String> = versions.map(ToOwned::to_owned).collect();
    versions.sort_by(|a, b| version::compare(a, b).then_with(|| a.cmp(b)));
    versions.dedup();
    versions
}
