//! dnf and rpm: the configuration and the argument vectors that make them work on a tree of
//! ours, whatever the build host is.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};
use avocado_sdk::Tool;

use crate::Error;
use crate::error::At as _;
use crate::feed::Access;
use crate::layout::Layout;
use crate::steps::HOST_ARCH;

/// Which repositories dnf sees, and for which architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// Only the repository with the target's repository configuration.
    Bootstrap,
    /// The build host's packages.
    Sdk,
    /// The target's packages.
    Target,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    /// `version-release.arch`.
    pub(crate) version: String,
    /// Digest of the package's header: two builds of one version differ here.
    pub(crate) header: String,
}

/// dnf for one tree.
pub(crate) struct Dnf<'a> {
    root: &'a Path,
    /// Beside the tree: configuration, and what rpm and dnf take for the user's home.
    home: PathBuf,
    options: Vec<OsString>,
    /// The cache that all trees share.
    shared: PathBuf,
    /// Where it is mounted.
    cache: PathBuf,
}

impl<'a> Dnf<'a> {
    /// Prepares the configuration for installing into `root`.
    pub(crate) fn new(
        layout: &Layout,
        access: &Access,
        view: View,
        root: &'a Path,
        weak_dependencies: bool,
    ) -> Result<Self, Error> {
        let home = crate::tree::hidden(root, ".dnf");
        crate::tree::fresh(&home)?;
        let at = |name: &str| home.join(name);
        // Debian's rpm would keep its database in $HOME.
        write(&at(".rpmmacros"), "%_dbpath /var/lib/rpm\n")?;
        write(
            &at("repos/avocado-sdk.repo"),
            "[avocado-sdk]\nname=Avocado SDK\nbaseurl=${repo_url}/$releasever/sdk/all\n\
             enabled=1\ngpgcheck=0\n",
        )?;
        write(&at("vars/repo_url"), &access.url)?;
        let target = layout.target_repoconf();
        let arch = match view {
            View::Target => {
                let file = target.join("etc/dnf/vars/arch");
                fs::read_to_string(&file).at("read", &file)?
            }
            _ => format!("{HOST_ARCH}_avocadosdk:all_avocadosdk:avocado_nativesdk:noarch"),
        };
        write(&at("vars/arch"), arch.trim())?;
        let repositories = target.join("etc/yum.repos.d");
        let repositories = match view {
            View::Bootstrap => vec![at("repos")],
            View::Sdk => vec![at("repos"), repositories],
            View::Target => vec![repositories],
        };
        // `ignorearch`: the feed's architectures are its own, not those of the build host.
        let mut conf = format!(
            "[main]\ngpgcheck=0\nassumeyes=1\nplugins=0\nbest=1\nkeepcache=1\nignorearch=1\n\
             tsflags=noscripts\nskip_if_unavailable=0\nmetadata_expire=1\n\
             check_config_file_age=0\ninstall_weak_deps={}\nreposdir={}\nvarsdir={}\n",
            u8::from(weak_dependencies),
            joined(&repositories),
            joined(&[at("vars")]),
        );
        if let Some(ca) = &access.ca {
            conf += &format!("sslcacert={}\n", ca.display());
        }
        if !access.tls_verify {
            conf += "sslverify=0\n";
        }
        write(&at("dnf.conf"), &conf)?;
        let mut options = vec!["-c".into(), at("dnf.conf").into(), "--installroot".into()];
        options.push(root.into());
        options.push(format!("--releasever={}", access.releasever).into());
        if view != View::Bootstrap {
            // The lowest layer is for fetched extensions, never for a tree's packages.
            options.push("--disablerepo=*-target-ext".into());
        }
        options.extend(access.dnf_args.iter().map(OsString::from));
        // dnf insists on a cache below the tree, where every new tree would start without one.
        let (shared, cache) = (layout.dnf_cache(), root.join("var/cache/dnf"));
        fs::create_dir_all(&shared).at("create", &shared)?;
        fs::create_dir_all(&cache).at("create", &cache)?;
        rustix::mount::mount_bind(&shared, &cache)
            .map_err(std::io::Error::from)
            .at("mount the package cache at", &cache)?;
        Ok(Dnf {
            root,
            home,
            options,
            shared,
            cache,
        })
    }

    /// Waits until no other step uses the shared cache. dnf has locks of its own for that, but
    /// they hold process numbers, which mean nothing to a step in another process namespace, or
    /// after its dnf was killed.
    fn turn(&self) -> Result<fs::File, Error> {
        let path = crate::tree::hidden(&self.shared, ".lock");
        let file = fs::File::create(&path).at("create", &path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(std::io::Error::from)
            .at("lock", &path)?;
        for entry in fs::read_dir(&self.shared).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with("_lock.pid") {
                crate::tree::clear(&entry.path())?;
            }
        }
        Ok(file)
    }

    fn tool(&self, name: &str) -> Tool {
        Tool::new(name).env("HOME", &self.home)
    }

    fn dnf(&self, command: &str) -> Tool {
        self.tool("dnf").args(&self.options).arg(command)
    }

    /// Removes what dnf leaves in a tree beside the packages. Their database stays: it says what
    /// is installed.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let (root, home) = (self.root, self.home.clone());
        drop(self);
        crate::tree::clear(&home)?;
        for path in ["var/cache/dnf", "var/lib/dnf", "etc/dnf/modules.d"] {
            crate::tree::clear(&root.join(path))?;
        }
        let log = root.join("var/log");
        for entry in fs::read_dir(&log).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("dnf") || name == "hawkey.log" {
                crate::tree::clear(&entry.path())?;
            }
        }
        // Directories that only these were in. Those with anything else in them stay.
        for path in ["var/cache", "var/log", "etc/dnf", "etc"] {
            let _ = fs::remove_dir(root.join(path));
        }
        Ok(())
    }

    /// Installs `specs`; nothing to install is fine.
    pub(crate) fn install(&self, specs: &[String], sink: &dyn Sink) -> Result<(), Error> {
        if specs.is_empty() {
            return Ok(());
        }
        let counted = |event: Event| {
            if let Some((package, done, total)) = transaction_step(&event.message) {
                sink.emit(Event::items("", package, done, Some(total)));
            }
            sink.emit(event);
        };
        let _turn = self.turn()?;
        Ok(self.dnf("install").args(specs).run(&counted)?)
    }

    /// Everything that is installed in the tree, by name.
    pub(crate) fn installed(&self, sink: &dyn Sink) -> Result<BTreeMap<String, Package>, Error> {
        if !self.root.join("var/lib/rpm").is_dir() {
            return Ok(BTreeMap::new());
        }
        let format = "%{NAME}\\t%{VERSION}-%{RELEASE}.%{ARCH}\\t%{SHA256HEADER}\\n";
        let text = self
            .tool("rpm")
            .arg("--root")
            .arg(self.root)
            .args(["-qa", "--qf", format])
            .read(sink)?;
        Ok(text
            .lines()
            .filter_map(|line| {
                let mut fields = line.split('\t');
                let (name, version, header) = (fields.next()?, fields.next()?, fields.next()?);
                let package = Package {
                    version: version.to_owned(),
                    header: header.to_owned(),
                };
                (name != "gpg-pubkey").then(|| (name.to_owned(), package))
            })
            .collect())
    }

    /// The newest kernel that the feed has, by the virtual `avocado-kernel-<version>`.
    pub(crate) fn newest_kernel(&self, sink: &dyn Sink) -> Result<Option<String>, Error> {
        let _turn = self.turn()?;
        let text = self
            .dnf("repoquery")
            .args([
                "--quiet",
                "--whatprovides",
                "avocado-kernel-*",
                "--provides",
            ])
            .read(sink)?;
        let versions = text
            .lines()
            .filter_map(|line| line.strip_prefix("avocado-kernel-"))
            .filter_map(|rest| rest.split_whitespace().next());
        Ok(versions
            .max_by(|a, b| compare_versions(a, b))
            .map(ToOwned::to_owned))
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    fs::write(path, text).at("write", path)
}

fn joined(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(",")
}

impl Drop for Dnf<'_> {
    fn drop(&mut self) {
        // The tree is about to be moved or removed; the mount ends with the step at the latest.
        let _ = rustix::mount::unmount(&self.cache, rustix::mount::UnmountFlags::DETACH);
    }
}

/// What a line of dnf's like `  Installing : hello-1.0.0-r0.x86_64   2/3` counts.
fn transaction_step(line: &str) -> Option<(&str, u64, u64)> {
    let mut words = line
        .trim_start()
        .strip_prefix("Installing")?
        .split_whitespace();
    let (package, count) = match (words.next()?, words.next()?, words.next()) {
        (":", package, Some(count)) => (package, count),
        _ => return None,
    };
    let (done, total) = count.split_once('/')?;
    Some((package, done.parse().ok()?, total.parse().ok()?))
}

/// rpm's order of versions: runs of digits as numbers, runs of letters as text, `~` before the
/// end and everything else between.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (segments(a), segments(b));
    loop {
        let (x, y) = (a.next(), b.next());
        let rank = |segment: Option<&str>| match segment.and_then(|s| s.chars().next()) {
            Some('~') => 0,
            None => 1,
            Some(c) if c.is_ascii_digit() => 3,
            Some(_) => 2,
        };
        let order = rank(x).cmp(&rank(y)).then_with(|| match (x, y) {
            (Some(x), Some(y)) if rank(Some(x)) == 3 => {
                let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
                x.len().cmp(&y.len()).then(x.cmp(y))
            }
            (x, y) => x.cmp(&y),
        });
        if order != Ordering::Equal || x.is_none() {
            return order;
        }
    }
}

fn segments(text: &str) -> impl Iterator<Item = &str> {
    let class = |c: char| {
        if c.is_ascii_digit() {
            1
        } else if c.is_ascii_alphabetic() {
            2
        } else if c == '~' {
            3
        } else {
            0
        }
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c| class(c) == 0);
        let kind = class(rest.chars().next()?);
        let end = if kind == 3 {
            1
        } else {
            rest.find(|c| class(c) != kind).unwrap_or(rest.len())
        };
        let (segment, tail) = rest.split_at(end);
        rest = tail;
        Some(segment)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_transaction_are_counted() {
        let line = "  Installing       : hello-1.0.0-r0.core2_64                    2/3 ";
        let step = transaction_step(line);
        assert_eq!(step, Some(("hello-1.0.0-r0.core2_64", 2, 3)));
        for other in [
            "Installing:",
            " Installing dependencies:",
            " hello  1.0.0  3/4",
            "",
        ] {
            assert_eq!(transaction_step(other), None, "{other}");
        }
    }

    #[test]
    fn versions_are_ordered_as_rpm_does() {
        for (a, b) in [
            ("6.1.0", "6.12.0"),
            ("6.12.0-rc1", "6.12.1"),
            ("1.0~rc1", "1.0"),
            ("1.0", "1.0.1"),
            ("1.0a", "1.0.1"),
            ("6.12.9", "6.12.10+deb13"),
        ] {
            assert_eq!(compare_versions(a, b), Ordering::Less, "{a} < {b}");
            assert_eq!(compare_versions(b, a), Ordering::Greater, "{b} > {a}");
        }
        assert_eq!(compare_versions("1.0", "1_0"), Ordering::Equal);
        assert_eq!(compare_versions("1.05", "1.5"), Ordering::Equal);
    }
}
