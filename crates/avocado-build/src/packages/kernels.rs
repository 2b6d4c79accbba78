//! The kernels of a feed.

use avocado_events::Sink;

use super::dnf::Dnf;
use super::version;
use crate::error::BuildError;

impl Dnf<'_> {
    /// The versions of the kernels that the feed has, by the virtual `avocado-kernel-<version>`;
    /// oldest first.
    pub(crate) fn kernels(&self, sink: &dyn Sink) -> Result<Vec<String>, BuildError> {
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
    pub(crate) fn kernels_of(
        &self,
        package: &str,
        sink: &dyn Sink,
    ) -> Result<Vec<String>, BuildError> {
        let versions = format!("{package}-*");
        let words = [
            "--quiet",
            "--qf",
            "%{name} %{version} %{sourcerpm}",
            package,
            &versions,
        ];
        let text = self.with_cache(|| self.dnf("repoquery").args(words).read(sink))?;
        Ok(kernels_among(package, &text))
    }
}

/// The kernels among packages, each a line with name, version and source package.
fn kernels_among(package: &str, lines: &str) -> Vec<String> {
    let found = lines.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, version, source) = (words.next()?, words.next()?, words.next());
        match name.strip_prefix(package)? {
            "" => Some((version, source)),
            rest => {
                let rest = rest.strip_prefix('-')?;
                let is_version = rest.starts_with(|c: char| c.is_ascii_digit());
                is_version.then_some((rest, source))
            }
        }
    });
    let found: Vec<_> = found.collect();
    // What was built together with a kernel is a part of it: its `-dbg`, `-dev`, `-modules`.
    let is_part = |(version, source): &(&str, Option<&str>)| {
        found.iter().any(|(whole, of)| {
            let more = version.strip_prefix(whole);
            source == of && more.is_some_and(|more| more.starts_with('-'))
        })
    };
    let kernels = found.iter().filter(|kernel| !is_part(kernel));
    sorted(kernels.map(|(version, _)| *version))
}

fn sorted<'v>(versions: impl Iterator<Item = &'v str>) -> Vec<String> {
    let mut versions: Vec<String> = versions.map(ToOwned::to_owned).collect();
    versions.sort_by(|a, b| version::compare(a, b).then_with(|| a.cmp(b)));
    versions.dedup();
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_kernel_is_no_kernel() {
        let lines = "kernel-rt-6.6.52 6.6.52 rt-6.6.52-r0.src.rpm
kernel-rt-6.6.52-dbg 6.6.52 rt-6.6.52-r0.src.rpm
kernel-rt-6.6.52-modules-extra 6.6.52 rt-6.6.52-r0.src.rpm
kernel-rt-6.6.52-rc1 6.6.52~rc1 rt-6.6.52~rc1-r0.src.rpm
kernel-rt-6.6.5 6.6.5 rt-6.6.5-r0.src.rpm
kernel-rt-dev 6.6.5 rt-6.6.5-r0.src.rpm

kernel-rtx-7 7 rt-6.6.5-r0.src.rpm";
        let kernels = kernels_among("kernel-rt", lines);
        assert_eq!(kernels, ["6.6.5", "6.6.52", "6.6.52-rc1"]);
        let lines =
            "kernel-own 6.1.9 own-6.1.9-r0.src.rpm\nkernel-own-dbg 6.1.9 own-6.1.9-r0.src.rpm";
        assert_eq!(kernels_among("kernel-own", lines), ["6.1.9"]);
    }
}
