//! The sample feed: built from `examples/feed`, served over HTTP.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_serve::{Options, Server};
use rustix::fs::{FlockOperation, flock};

use crate::Error;
use crate::error::file;
use crate::tools::{Call, source_root};

/// How long a build may take with cold caches: it installs a Debian system.
const BUILD: Duration = Duration::from_secs(1800);

/// The sample feed's server. It stops when this is dropped.
#[derive(Debug)]
pub struct Feed {
    server: Server,
    directory: PathBuf,
}

impl Feed {
    /// Builds the feed into `directory`, unless it is there and current, and serves it on any port
    /// of the loopback address. `avocadoctl` is the program that goes into its packages; what
    /// costs much to make is kept in `cache`.
    ///
    /// # Errors
    /// The build failed, or the server did not start.
    pub fn ensure(directory: &Path, avocadoctl: &Path, cache: &Path) -> Result<Self, Error> {
        Feed::build(directory, avocadoctl, cache)?;
        Feed::serve(Options::new(directory))
    }

    /// Builds the feed into `directory`, unless it is there and current. Processes that want the
    /// same take turns.
    ///
    /// # Errors
    /// The build failed.
    pub fn build(directory: &Path, avocadoctl: &Path, cache: &Path) -> Result<(), Error> {
        fs::create_dir_all(directory).map_err(file("make", directory))?;
        let path = directory.with_extension("lock");
        let lock = File::create(&path).map_err(file("make", &path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(file("lock", &path))?;
        // It ends with this process, whatever ends that, and takes what it started with it.
        Call::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(source_root().join("examples/feed/build"))
            .arg(directory)
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
    pub fn serve(options: Options) -> Result<Self, Error> {
        let directory = options.root.clone();
        let server = Server::start(options).map_err(Error::Serve)?;
        Ok(Feed { server, directory })
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
    pub fn server(&self) -> &Server {
        &self.server
    }
}
