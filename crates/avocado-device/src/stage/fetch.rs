use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink, Status};
use avocado_manifest::{Digest, Manifest};
use avocado_tuf::http::{Http, Network, Proxy, check_url};
use avocado_tuf::{Client, Options, Remote, TargetInfo, Trusted};

use super::plan::{Plan, PlannedImage, distinct};
use super::{AddRequest, STAGE, parse};
use crate::store::lock::Lock;
use crate::store::pool::{Found, Pool, Wanted};
use crate::store::{MANIFEST_LIMIT, disk, files};
use crate::{Cancel, Config, Device, Error, Reason, trust};

/// The largest trust anchor, and the largest file of CA certificates, that is read, in bytes.
const ANCHOR_LIMIT: u64 = 1 << 20;

/// The target that describes the runtime.
const MANIFEST: &str = "manifest.json";

/// How often it is tried again when somebody else takes images away meanwhile.
const ATTEMPTS: usize = 3;

/// An image of the runtime.
struct Image {
    wanted: Wanted,
    target: TargetInfo,
    sha256: Digest,
    /// Whether the pool has it.
    there: bool,
}

/// The work on a repository. It is alone in the staging directory, and does not keep others from
/// the rest of the store.
pub(super) struct Fetch<'a> {
    device: &'a Device,
    url: &'a str,
    staging: PathBuf,
    /// Walks the metadata, and downloads the manifest.
    client: Client,
    /// Downloads images, from another place if there is one.
    images: Option<Client>,
    cancel: &'a Cancel,
    sink: &'a dyn Sink,
    _downloads: Lock,
}

impl<'a> Fetch<'a> {
    /// Brings the trusted metadata of the repository up to date.
    pub(super) fn open(
        device: &'a Device,
        request: &'a AddRequest,
        cancel: &'a Cancel,
        sink: &'a dyn Sink,
    ) -> Result<Self, Error> {
        for url in [Some(&request.url), request.artifacts_url.as_ref()] {
            url.map_or(Ok(()), |url| usable(url))
                .map_err(Error::Staging)?;
        }
        let path = device.paths().base.join("metadata/root.json");
        let anchor = match files::read(&path, ANCHOR_LIMIT) {
            Ok(bytes) => bytes,
            Err(Reason::File { source, .. }) => return Err(Error::NoTrustAnchor { path, source }),
            Err(other) => return Err(Error::Staging(other)),
        };
        let opened = Fetch::refresh(device, request, anchor, cancel, sink);
        opened
            .inspect_err(|error| {
                sink.emit(Event::step(STAGE, Status::Failed, error.to_string()));
            })
            .map_err(Error::Staging)
    }

    fn refresh(
        device: &'a Device,
        request: &'a AddRequest,
        root: Vec<u8>,
        cancel: &'a Cancel,
        sink: &'a dyn Sink,
    ) -> Result<Self, Reason> {
        let base = &device.paths().base;
        let downloads = device.downloads(cancel, sink)?;
        let url = request.url.trim_end_matches('/');
        let directory = trust::directory(base, url);
        let network = network(device.config())?;
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
                relax_legacy: device.config().legacy_repositories,
            };
            let bases = [remote.metadata_url.as_str(), remote.targets_url.as_str()];
            let (connect, read) = (options.limits.connect, options.limits.read);
            let token = remote.auth_token.clone();
            Http::over(&network, &bases, token, connect, read)
                .map_err(avocado_tuf::Error::from)
                .and_then(|http| {
                    let transport = Box::new(http.stopped_by(cancel));
                    Client::with_transport(trusted, &remote, options, transport)
                })
                .map_err(repository(url))
        };
        let mut client = open(format!("{url}/targets"))?;
        sink.emit(Event::step("metadata", Status::Running, url));
        let refreshed = client.refresh();
        disk::foreign(&base.join("metadata"));
        refreshed.map_err(or_cancelled(cancel, repository(url)))?;
        trust::name(&directory, url)?;
        sink.emit(Event::step("metadata", Status::Success, ""));
        if client.judged_by() > request.now {
            sink.emit(Event::warning(format!(
                "the system clock says {}, but trusted metadata is from {} or later: expiry is \
                 judged by that",
                request.now,
                client.judged_by()
            )));
        }
        if client.is_relaxed() {
            sink.emit(Event::warning(format!(
                "{url} is a repository of the older layout: versions that do not rise and roles \
                 that vanish were accepted from it (`avocado.update.legacy_repositories`)"
            )));
        }
        // Opened only now, so that it knows the root that the refresh may have brought.
        let images = request.artifacts_url.clone().map(open).transpose()?;
        let staging = base.join(".update-staging");
        files::create_dir(&staging)?;
        Ok(Fetch {
            device,
            url,
            staging,
            client,
            images,
            cancel,
            sink,
            _downloads: downloads,
        })
    }

    /// Downloads what is missing, and lets the runtime appear.
    pub(super) fn stage(&mut self) -> Result<(Manifest, Lock), Reason> {
        let (manifest, bytes) = self.manifest()?;
        let mut pool = self.pool();
        let (lock, _) = self.images(&manifest, &mut pool)?;
        self.device.finish(&mut pool, &manifest, &bytes)?;
        files::remove_all(&self.staging)?;
        Ok((manifest, lock))
    }

    /// Says what [`Fetch::stage`] would do.
    pub(super) fn plan(&mut self) -> Result<Plan, Reason> {
        let (manifest, _) = self.manifest()?;
        let images = self.find(&manifest, &mut self.pool())?;
        self.planned(manifest, &images)
    }

    /// Downloads what is missing, and no more.
    pub(super) fn download_only(&mut self) -> Result<Plan, Reason> {
        let (manifest, _) = self.manifest()?;
        let mut pool = self.pool();
        let images = self.find(&manifest, &mut pool)?;
        let plan = self.planned(manifest, &images)?;
        let (_lock, _) = self.images(&plan.manifest, &mut pool)?;
        pool.sync()?;
        pool.remember();
        files::remove_all(&self.staging)?;
        Ok(plan)
    }

    /// Brings all images into the pool. They are there as long as the lock is held.
    fn images(&mut self, manifest: &Manifest, pool: &mut Pool) -> Result<(Lock, usize), Reason> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let images = self.find(manifest, pool)?;
            let missing: Vec<_> = images.iter().filter(|image| !image.there).collect();
            self.tidy(&missing)?;
            self.check_space(&missing)?;
            for image in &missing {
                crate::cancel::check(self.cancel)?;
                let label = &image.wanted.label;
                self.sink.emit(Event::info(format!("downloading {label}")));
                self.download(&image.target, &self.staging.join(&image.wanted.file))?;
            }
            let lock = self.device.lock_unless(self.cancel, self.sink)?;
            for image in &missing {
                let partial = self.staging.join(&image.wanted.file);
                pool.take(&partial, &image.wanted, image.sha256)?;
            }
            // Somebody may have pruned what was there when we looked.
            let lost = images.iter().find_map(|i| pool.need(&i.wanted).err());
            match lost {
                None => return Ok((lock, attempts)),
                Some(reason) if attempts >= ATTEMPTS => return Err(reason),
                Some(Reason::ImageMissing { .. } | Reason::ImageWrong { .. }) => {}
                Some(other) => return Err(other),
            }
        }
    }

    fn pool(&self) -> Pool {
        Pool::cancellable(&self.device.paths().base, self.cancel)
    }

    fn planned(&self, manifest: Manifest, images: &[Image]) -> Result<Plan, Reason> {
        let planned = images.iter().map(|image| PlannedImage {
            bytes: image.target.length,
            fetch_bytes: match image.there {
                true => 0,
                false => self.to_fetch(image),
            },
            shared: image.there,
            ..PlannedImage::shared(&image.wanted, 0)
        });
        let plan = Plan::new(self.device, manifest, planned.collect())?;
        Ok(Plan {
            relaxed: self.client.is_relaxed(),
            ..plan
        })
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
        disk::foreign(&self.staging);
        download.map_err(or_cancelled(self.cancel, repository(self.url)))?;
        let bytes = files::read(&path, MANIFEST_LIMIT)?;
        Ok((parse(&path, &bytes)?, bytes))
    }

    /// The images of a runtime, and whether the pool has them. Whether the repository has them
    /// all, and means the same bytes as the manifest, is checked before anything is downloaded.
    fn find(&mut self, manifest: &Manifest, pool: &mut Pool) -> Result<Vec<Image>, Reason> {
        // Every one of them, also where two are kept under one name.
        for wanted in Wanted::of(manifest) {
            self.offered(manifest, &wanted)?;
        }
        let mut images = Vec::new();
        for mut wanted in distinct(manifest) {
            let (target, sha256) = self.offered(manifest, &wanted)?;
            wanted.sha256 = Some(sha256);
            let found = pool.find(&wanted)?;
            match found {
                Found::Right(_) => {
                    let step = Event::step(STAGE, Status::Skipped, "already in the image pool");
                    let item = wanted.label.clone();
                    self.sink.emit(Event { item, ..step });
                }
                Found::Wrong => self.sink.emit(Event::warning(format!(
                    "the image of {} in the pool is corrupt and is fetched again",
                    wanted.label
                ))),
                Found::Missing => {}
            }
            images.push(Image {
                wanted,
                target,
                sha256,
                there: matches!(found, Found::Right(_)),
            });
        }
        Ok(images)
    }

    fn offered(
        &mut self,
        manifest: &Manifest,
        wanted: &Wanted,
    ) -> Result<(TargetInfo, Digest), Reason> {
        let target = self.target(&wanted.label, &wanted.file)?;
        match target.digests.sha256.filter(|digest| wanted.is(*digest)) {
            Some(sha256) => Ok((target, sha256)),
            None => Err(Reason::Contradiction {
                id: manifest.id.clone(),
                why: format!(
                    "and the repository do not mean the same image of {}",
                    wanted.label
                ),
            }),
        }
    }

    /// Removes what earlier runs left, but for what this one can go on with.
    fn tidy(&self, missing: &[&Image]) -> Result<(), Reason> {
        for name in files::names(&self.staging)? {
            let file = name.strip_suffix(".resume").unwrap_or(&name);
            if file != MANIFEST && !missing.iter().any(|m| m.wanted.file == file) {
                files::remove_all(&self.staging.join(name))?;
            }
        }
        Ok(())
    }

    /// What is not there yet, in bytes.
    fn to_fetch(&self, image: &Image) -> u64 {
        let there = files::length(&self.staging.join(&image.wanted.file));
        image.target.length.saturating_sub(there)
    }

    fn check_space(&self, missing: &[&Image]) -> Result<(), Reason> {
        let available = files::free(&self.staging)?;
        let needed = missing.iter().map(|image| self.to_fetch(image));
        let needed = needed.fold(0, u64::saturating_add);
        if needed <= available {
            return Ok(());
        }
        Err(Reason::NoSpace {
            path: self.device.paths().base.clone(),
            needed,
            available,
        })
    }

    fn target(&mut self, what: &str, name: &str) -> Result<TargetInfo, Reason> {
        let found = self.client.target(name);
        disk::foreign(&self.device.paths().base.join("metadata"));
        found
            .map_err(or_cancelled(self.cancel, repository(self.url)))?
            .ok_or_else(|| Reason::NotOffered {
                url: self.url.to_owned(),
                what: what.to_owned(),
                target: name.to_owned(),
            })
    }

    fn download(&self, target: &TargetInfo, partial: &Path) -> Result<(), Reason> {
        let client = self.images.as_ref().unwrap_or(&self.client);
        let result = client.download(target, partial, self.sink);
        disk::foreign(&self.staging);
        result.map_err(or_cancelled(self.cancel, repository(self.url)))
    }
}

/// The way to servers.
fn network(config: &Config) -> Result<Network, Reason> {
    let ca = config.ca_file.as_ref();
    let proxy = config.proxy.as_ref().map(|url| Proxy {
        url: url.clone(),
        direct: config.no_proxy.clone(),
    });
    Ok(Network {
        ca: ca.map(|path| files::read(path, ANCHOR_LIMIT)).transpose()?,
        proxy,
    })
}

fn usable(url: &str) -> Result<(), Reason> {
    check_url(url).map_err(|source| Reason::Url {
        url: url.to_owned(),
        source,
    })
}

fn repository(url: &str) -> impl FnOnce(avocado_tuf::Error) -> Reason {
    let url = url.to_owned();
    |source| Reason::Repository {
        url,
        source: Box::new(source),
    }
}

/// What ended because somebody asked for it has no other reason.
fn or_cancelled<E>(
    cancel: &Cancel,
    otherwise: impl FnOnce(E) -> Reason,
) -> impl FnOnce(E) -> Reason {
    let cancelled = cancel.is_cancelled();
    move |error| match cancelled {
        true => Reason::Cancelled,
        false => otherwise(error),
    }
}
