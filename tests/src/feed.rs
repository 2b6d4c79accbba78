//! The sample feed: built from `examples/feed`, served over HTTP.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use rustix::fs::{FlockOperation, flock};

use crate::HarnessError;
use crate::error::file;
use crate::tools::{ToolCall, cache_dir, source_root};

/// Where the sample feed keeps what it takes from Debian for x86-64, below the cache; the digest of
/// the recipe follows. The same for another architecture has another name.
const DEBIAN_PARTS: &str = "feed-parts/debian-amd64-";

/// How long a build may take with cold caches: it installs a Debian system.
const BUILD: Duration = Duration::from_secs(1800);

/// The sample feed's server. It stops when this is dropped.
#[derive(Debug)]
pub struct SampleFeed {
    server: TestServer,
    directory: PathBuf,
}

impl SampleFeed {
    /// Builds the feed into `directory`, unless it is there and current, and serves it on any port
    /// of the loopback address. `avocadoctl` is the program that goes into its packages; what
    /// costs much to make is kept in `cache`.
    ///
    /// # Errors
    /// The build failed, or the server did not start.
    pub fn ensure(directory: &Path, avocadoctl: &Path, cache: &Path) -> Result<Self, HarnessError> {
        SampleFeed::build(directory, avocadoctl, cache)?;
        SampleFeed::serve(ServeOptions::new(directory))
    }

    /// Builds the feed into `directory`, unless it is there and current. Processes that want the
    /// same take turns.
    ///
    /// # Errors
    /// The build failed.
    pub fn build(directory: &Path, avocadoctl: &Path, cache: &Path) -> Result<(), HarnessError> {
        SampleFeed::build_for("x86_64", directory, avocadoctl, cache)
    }

    /// The same for machines of this architecture, which `avocadoctl` is for.
    ///
    /// # Errors
    /// The build failed.
    pub fn build_for(
        architecture: &str,
        directory: &Path,
        avocadoctl: &Path,
        cache: &Path,
    ) -> Result<(), HarnessError> {
        fs::create_dir_all(directory).map_err(file("make", directory))?;
        let path = directory.with_extension("lock");
        let lock = File::create(&path).map_err(file("make", &path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(file("lock", &path))?;
        // It ends with this process, whatever ends that, and takes what it started with it.
        ToolCall::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(source_root().join("examples/feed/build"))
            .arg(directory)
            .args(["--architecture", architecture])
            .arg("--avocadoctl")
            .arg(avocadoctl)
            .arg("--cache")
            .arg(cache)
            .limit(BUILD)
            .show()
            .ok()?;
        Ok(())
    }

    /// Serves a feed that was built, as `options` say: with a token, TLS, at another address.
    ///
    /// # Errors
    /// The server did not start.
    pub fn serve(options: ServeOptions) -> Result<Self, HarnessError> {
        let directory = options.root.clone();
        let server = TestServer::start(options).map_err(HarnessError::Serve)?;
        Ok(SampleFeed { server, directory })
    }

    /// A copy of this feed in `directory`, served, with one more package for each spec file in
    /// `specs`: in `repository` of the channel's head and of every snapshot. The specs see `macros`.
    ///
    /// # Errors
    /// A package could not be built, or the server did not start.
    pub fn with_packages(
        &self,
        directory: &Path,
        specs: &Path,
        repository: &str,
        macros: &[(&str, &Path)],
    ) -> Result<Self, HarnessError> {
        ToolCall::new("cp")
            .arg("-a")
            .arg(&self.directory)
            .arg(directory)
            .ok()?;
        let home = directory.with_extension("build");
        fs::create_dir_all(&home).map_err(file("make", &home))?;
        let (from, to) = (
            source_root().join("examples/feed/rpmmacros"),
            home.join(".rpmmacros"),
        );
        fs::copy(&from, &to).map_err(file("copy", &from))?;
        for spec in files(specs)? {
            let mut call = ToolCall::new("rpmbuild")
                .args(["-bb", "--quiet", "--target", "noarch-avocado-linux"])
                .args(["--define", "_arch noarch", "--define"])
                .arg(format!("_topdir {}", home.display()))
                .env("HOME", &home)
                .env("SOURCE_DATE_EPOCH", "1767225600");
            for (name, value) in macros {
                call = call
                    .arg("--define")
                    .arg(format!("{name} {}", value.display()));
            }
            call.arg(spec).ok()?;
        }
        let packages = files(&home.join("RPMS"))?;
        let channel = directory.join("2024/edge");
        let mut places = files(&channel.join("snapshots"))?;
        places.push(channel);
        for place in places {
            let place = place.join(repository);
            ToolCall::new("cp").args(&packages).arg(&place).ok()?;
            ToolCall::new("createrepo_c")
                .args(["-q", "--no-database", "--general-compress-type=gz"])
                .arg(&place)
                .ok()?;
        }
        SampleFeed::serve(ServeOptions::new(directory))
    }

    /// Where it is, for `AVOCADO_REPO_URL`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The directory that it serves.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The server, to make things go wrong and to see what was asked for.
    pub fn server(&self) -> &TestServer {
        &self.server
    }
}

/// What is in a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>, HarnessError> {
    let entries = fs::read_dir(directory).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|e| e.path()));
        paths.collect::<Result<Vec<_>, _>>()
    });
    let mut paths = entries.map_err(file("read", directory))?;
    paths.sort();
    Ok(paths)
}

/// What the sample feed was made from for x86-64: a directory with Debian's kernel and busybox, the
/// newest. Where there is none the answer is a pattern, to be named in what is missing.
///
/// # Errors
/// Which files would do, since none are there.
pub fn debian_parts() -> Result<PathBuf, PathBuf> {
    newest_parts(&cache_dir().join(DEBIAN_PARTS))
}

fn newest_parts(start: &Path) -> Result<PathBuf, PathBuf> {
    let missing = || PathBuf::from(format!("{}*", start.display()));
    let (Some(place), Some(start)) = (start.parent(), start.file_name()) else {
        return Err(missing());
    };
    let entries = fs::read_dir(place).map_err(|_| missing())?;
    let whole = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        // One in the making has an extension.
        name.starts_with(start.as_encoded_bytes())
            && path.extension().is_none()
            && path.join("kernel/usr/lib/modules").is_dir()
            && path.join("busybox/usr/bin/busybox").is_file()
    };
    let paths = entries.flatten().map(|entry| entry.path()).filter(whole);
    paths
        .max_by_key(|path| path.metadata().and_then(|found| found.modified()).ok())
        .ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_another_architecture_are_not_taken_though_they_are_newer() {
        let place = tempfile::tempdir().unwrap();
        let start = place.path().join("debian-amd64-");
        let make = |name: &str| {
            let parts = place.path().join(name);
            fs::create_dir_all(parts.join("kernel/usr/lib/modules")).unwrap();
            fs::create_dir_all(parts.join("busybox/usr/bin")).unwrap();
            fs::write(parts.join("busybox/usr/bin/busybox"), "").unwrap();
            parts
        };
        assert!(newest_parts(&start).is_err());
        make("debian-arm64-2");
        make("debian-amd64-3.new");
        let missing = newest_parts(&start).unwrap_err();
        assert!(missing.ends_with("debian-amd64-*"), "{missing:?}");
        let parts = make("debian-amd64-1");
        make("debian-arm64-4");
        assert_eq!(newest_parts(&start), Ok(parts));
    }
}
