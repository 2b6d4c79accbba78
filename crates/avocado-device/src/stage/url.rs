use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use avocado_events::{Event, Sink, Status};
use avocado_manifest::{Digest, Manifest};
use avocado_tuf::{Client, Options, Remote, TargetInfo, Trusted};
use jiff::Timestamp;

use super::{STAGE, finish, parse, report};
use crate::store::pool::{Found, Pool, Wanted};
use crate::store::{MANIFEST_LIMIT, files};
use crate::{Error, Reason};

/// The largest trust anchor that is read, in bytes.
const ANCHOR_LIMIT: u64 = 1 << 20;

/// The target that describes the runtime.
const MANIFEST: &str = "manifest.json";

/// What to add, and from where.
#[derive(Clone)]
pub struct AddRequest {
    /// The repository, with `metadata/` and `targets/` below it.
    pub url: String,
    /// A bearer token for the repository and for `artifacts_url`.
    pub auth_token: Option<String>,
    /// Where the images are, if not below the repository's `targets/`.
    pub artifacts_url: Option<String>,
    /// The time that expiry is judged by.
    pub now: Timestamp,
}

impl fmt::Debug for AddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddRequest")
            .field("url", &self.url)
            .field("artifacts_url", &self.artifacts_url)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Stages the runtime that a repository offers.
pub(crate) fn from_url(
    base: &Path,
    request: &AddRequest,
    relax_legacy: bool,
    sink: &dyn Sink,
) -> Result<Manifest, Error> {
    let path = base.join("metadata/root.json");
    let anchor = match files::read(&path, ANCHOR_LIMIT) {
        Ok(bytes) => bytes,
        Err(Reason::File { source, .. }) => return Err(Error::NoTrustAnchor { path, source }),
        Err(other) => return Err(Error::Staging(other)),
    };
    let fetched = || Fetch::open(base, request, anchor, relax_legacy, sink)?.run();
    report(fetched(), sink).map_err(Error::Staging)
}

/// An image that is to be downloaded.
struct Missing {
    wanted: Wanted,
    target: TargetInfo,
    sha256: Digest,
}

struct Fetch<'a> {
    base: &'a Path,
    url: &'a str,
    staging: std::path::PathBuf,
    /// Walks the metadata, and downloads the manifest.
    client: Client,
    /// Downloads images, from another place if there is one.
    images: Option<Client>,
    sink: &'a dyn Sink,
}

impl<'a> Fetch<'a> {
    fn open(
        base: &'a Path,
        request: &'a AddRequest,
        root: Vec<u8>,
        relax_legacy: bool,
        sink: &'a dyn Sink,
    ) -> Result<Self, Reason> {
        let url = request.url.trim_end_matches('/');
        // Versions of two repositories under one root are not comparable: each has its own
        // trusted metadata.
        let name = Digest::of(url.as_bytes()).to_string();
        let directory = base.join("metadata").join(name);
        let open = |targets_url: String| {
            let trusted = Trusted {
                directory: directory.clone(),
                root: root.clone(),
            };
            let remote = Remote {
                metadata_url: format!("{url}/metadata"),
                targets_url,
                auth_token: request.auth_token.clone(),
            };
            let options = Options {
                start_time: request.now,
                limits: Default::default(),
                relax_legacy,
            };
            Client::open(trusted, remote, options).map_err(repository(url))
        };
        let mut client = open(format!("{url}/targets"))?;
        let step = |status| sink.emit(Event::step("metadata", status, url));
        step(Status::Running);
        client.refresh().map_err(repository(url))?;
        step(Status::Success);
        // Opened only now, so that it knows the root that the refresh may have brought.
        let images = request.artifacts_url.clone().map(open).transpose()?;
        Ok(Fetch {
            base,
            url,
            staging: base.join(".update-staging"),
            client,
            images,
            sink,
        })
    }

    fn run(mut self) -> Result<Manifest, Reason> {
        files::create_dir(&self.staging)?;
        let (manifest, bytes) = self.manifest()?;
        let mut pool = Pool::open(self.base);
        let missing = self.missing(&manifest, &mut pool)?;
        self.tidy(&missing)?;
        self.check_space(&missing)?;
        for image in &missing {
            self.sink
                .emit(Event::info(format!("downloading {}", image.wanted.label)));
            let partial = self.staging.join(&image.wanted.file);
            self.download(&image.target, &partial)?;
            pool.take(&partial, &image.wanted, image.sha256)?;
        }
        let manifest = finish(self.base, &mut pool, manifest, &bytes)?;
        files::remove_all(&self.staging)?;
        Ok(manifest)
    }

    /// The manifest that the repository offers now. What an earlier run left in the staging
    /// directory counts only as far as it is the same bytes.
    fn manifest(&mut self) -> Result<(Manifest, Vec<u8>), Reason> {
        let path = self.staging.join(MANIFEST);
        let target = self.target("the runtime", MANIFEST)?;
        if target.length > MANIFEST_LIMIT {
            return Err(Reason::TooLarge {
                path: target.name.into(),
                limit: MANIFEST_LIMIT,
            });
        }
        let download = self.client.download(&target, &path, self.sink);
        download.map_err(repository(self.url))?;
        let bytes = files::read(&path, MANIFEST_LIMIT)?;
        Ok((parse(&path, &bytes)?, bytes))
    }

    /// The images that the pool does not have, or has with other bytes. Whether the repository
    /// has them all, and means the same bytes as the manifest, is checked before anything is
    /// downloaded.
    fn missing(&mut self, manifest: &Manifest, pool: &mut Pool) -> Result<Vec<Missing>, Reason> {
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        for mut wanted in Wanted::of(manifest) {
            let target = self.target(&wanted.label, &wanted.file)?;
            let sha256 = target.digests.sha256.filter(|digest| wanted.is(*digest));
            let Some(sha256) = sha256 else {
                return Err(Reason::Contradiction {
                    id: manifest.id.clone(),
                    why: format!(
                        "and the repository do not mean the same image of {}",
                        wanted.label
                    ),
                });
            };
            if !seen.insert(wanted.file.clone()) {
                continue;
            }
            wanted.sha256 = Some(sha256);
            match pool.find(&wanted)? {
                Found::Right(_) => {
                    let step = Event::step(STAGE, Status::Skipped, "already in the image pool");
                    self.sink.emit(Event {
                        item: wanted.label,
                        ..step
                    });
                    continue;
                }
                Found::Wrong => self.sink.emit(Event::warning(format!(
                    "the image of {} in the pool is corrupt and is fetched again",
                    wanted.label
                ))),
                Found::Missing => {}
            }
            missing.push(Missing {
                wanted,
                target,
                sha256,
            });
        }
        Ok(missing)
    }

    /// Removes what earlier runs left, but for what this one can go on with.
    fn tidy(&self, missing: &[Missing]) -> Result<(), Reason> {
        for name in files::names(&self.staging)? {
            let file = name.strip_suffix(".resume").unwrap_or(&name);
            if file != MANIFEST && !missing.iter().any(|m| m.wanted.file == file) {
                files::remove_all(&self.staging.join(name))?;
            }
        }
        Ok(())
    }

    fn check_space(&self, missing: &[Missing]) -> Result<(), Reason> {
        let path = &self.staging;
        let space = rustix::fs::statvfs(path).map_err(|e| Reason::file("read", path)(e.into()))?;
        let available = space.f_bavail.saturating_mul(space.f_frsize);
        let there = |m: &Missing| {
            let partial = std::fs::metadata(path.join(&m.wanted.file));
            partial.map_or(0, |meta| meta.len())
        };
        let needed = missing
            .iter()
            .map(|m| m.target.length.saturating_sub(there(m)))
            .fold(0, u64::saturating_add);
        if needed <= available {
            return Ok(());
        }
        Err(Reason::NoSpace {
            path: self.base.to_owned(),
            needed,
            available,
        })
    }

    fn target(&mut self, what: &str, name: &str) -> Result<TargetInfo, Reason> {
        let found = self.client.target(name).map_err(repository(self.url))?;
        found.ok_or_else(|| Reason::NotOffered {
            url: self.url.to_owned(),
            what: what.to_owned(),
            target: name.to_owned(),
        })
    }

    fn download(&self, target: &TargetInfo, partial: &Path) -> Result<(), Reason> {
        let client = self.images.as_ref().unwrap_or(&self.client);
        let result = client.download(target, partial, self.sink);
        result.map_err(repository(self.url))
    }
}

fn repository(url: &str) -> impl FnOnce(avocado_tuf::Error) -> Reason {
    let url = url.to_owned();
    |source| Reason::Repository {
        url,
        source: Box::new(source),
    }
}
