mod streamed_os;

use std::path::PathBuf;

use avocado_events::{Cancel, Event, Sink, StepStatus};
use avocado_http::{
    HttpClient, NetworkSettings, ProxySettings, RepositoryUrl, RepositoryUrlError, without_secrets,
};
use avocado_manifest::{Digest, Manifest};
use avocado_tuf::client::{Destination, FileDestination};
use avocado_tuf::{ClientOptions, RemoteRepository, TargetInfo, TrustedMetadata, TufClient};

use self::streamed_os::StreamedOs;
use super::finish::{STAGE, finish};
use super::manifest;
use super::plan::{AddPlan, PlannedImage, distinct, sum};
use super::request::AddRequest;
use crate::cancel;
use crate::config::DeviceConfig;
use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::store::lock::StoreLock;
use crate::store::pool::{ImageCheck, ImagePool, PoolFile, RequiredImage};
use crate::store::runtimes::MANIFEST_LIMIT;
use crate::store::signed::SignedTargets;
use crate::store::{files, staging};
use crate::{trust, upkeep};

/// The largest file of CA certificates that is read, in bytes.
const CA_LIMIT: u64 = 1 << 20;

/// The target that describes the runtime.
const MANIFEST: &str = "manifest.json";

/// How often it is tried when another process prunes images meanwhile.
const ATTEMPTS: usize = 3;

/// An image of the runtime.
struct OfferedImage {
    wanted: RequiredImage,
    target: TargetInfo,
    sha256: Digest,
    /// Whether the pool has it.
    there: bool,
    /// The name under which the pool has it otherwise, from before images were kept by their bytes.
    known_as: Option<String>,
}

impl OfferedImage {
    fn is_to_be_fetched(&self) -> bool {
        !self.there && self.known_as.is_none()
    }
}

/// The work on a repository. It is alone in the staging directory, and does not keep others from
/// the rest of the store.
pub(super) struct RepositoryFetch<'a> {
    context: &'a DeviceContext,
    url: RepositoryUrl,
    staging: PathBuf,
    /// Walks the metadata, and downloads the manifest.
    client: TufClient,
    /// Downloads images, from another place if there is one.
    images: Option<TufClient>,
    cancel: &'a Cancel,
    sink: &'a dyn Sink,
    _downloads: StoreLock,
}

impl<'a> RepositoryFetch<'a> {
    /// Brings the trusted metadata of the repository up to date.
    pub(super) fn open(
        context: &'a DeviceContext,
        request: &AddRequest,
        cancel: &'a Cancel,
        sink: &'a dyn Sink,
    ) -> Result<Self, DeviceError> {
        let url = repository_url(&request.url).map_err(DeviceError::Staging)?;
        let artifacts = request.artifacts_url.as_deref().map(repository_url);
        let artifacts = artifacts.transpose().map_err(DeviceError::Staging)?;
        let anchor = match trust::anchor(context.base()) {
            Ok(bytes) => bytes,
            Err(FailureReason::File { path, source, .. }) => {
                return Err(DeviceError::NoTrustAnchor { path, source });
            }
            Err(other) => return Err(DeviceError::Staging(other)),
        };
        let opened =
            RepositoryFetch::refresh(context, request, (url, artifacts), anchor, cancel, sink);
        opened
            .inspect_err(|error| {
                sink.emit(Event::step(STAGE, StepStatus::Failed, error.to_string()));
            })
            .map_err(DeviceError::Staging)
    }

    fn refresh(
        context: &'a DeviceContext,
        request: &AddRequest,
        (url, artifacts): (RepositoryUrl, Option<RepositoryUrl>),
        root: Vec<u8>,
        cancel: &'a Cancel,
        sink: &'a dyn Sink,
    ) -> Result<Self, FailureReason> {
        let base = context.base();
        let downloads = context.lock_downloads(cancel, sink)?;
        trust::settle(base)?;
        let directory = trust::directory(base, &url);
        let network = network(&context.config)?;
        let part = |name| url.below(name).map_err(not_a_url(&request.url));
        let metadata_url = part("metadata")?;
        let open = |targets_url: RepositoryUrl| {
            let trusted = TrustedMetadata {
                directory: directory.clone(),
                root_directory: trust::root_directory(base),
                root: root.clone(),
            };
            let remote = RemoteRepository {
                metadata_url: metadata_url.clone(),
                targets_url,
                auth_token: request.auth_token.clone(),
            };
            let options = ClientOptions {
                start_time: request.now,
                limits: Default::default(),
                relax_legacy: context.config.legacy_repositories,
            };
            let bases = [remote.metadata_url.clone(), remote.targets_url.clone()];
            let (connect, read) = (options.limits.connect, options.limits.read);
            let token = remote.auth_token.clone();
            HttpClient::over(&network, &bases, token, connect, read)
                .map_err(avocado_tuf::TufError::from)
                .and_then(|http| {
                    let transport = Box::new(http.stopped_by(cancel));
                    TufClient::with_transport(trusted, &remote, options, transport)
                })
                .map_err(repository(&url))
        };
        let mut client = open(part("targets")?)?;
        sink.emit(Event::step("metadata", StepStatus::Running, url.as_str()));
        let refreshed = client.refresh();
        // Also where only the first part of it was good.
        trust::name(&directory, &url)?;
        refreshed.map_err(or_cancelled(cancel, repository(&url)))?;
        sink.emit(Event::step("metadata", StepStatus::Success, ""));
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
        let images = artifacts.map(open).transpose()?;
        let staging = staging::directory(base);
        files::create_private_dir(&staging)?;
        Ok(RepositoryFetch {
            context,
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
    pub(super) fn stage(&mut self) -> Result<(Manifest, StoreLock), FailureReason> {
        let (mut manifest, bytes) = self.manifest()?;
        let signed = self.signed(&manifest)?;
        let mut pool = self.pool();
        let os = StreamedOs::find(self, &manifest, &mut pool)?;
        let lock = self.images(&manifest, os.as_ref(), &mut pool)?;
        finish(self.context, &mut pool, &manifest, &bytes, &signed)?;
        files::remove_all(&self.staging)?;
        signed.complete(&mut manifest);
        Ok((manifest, lock))
    }

    /// Says what [`RepositoryFetch::stage`] would do.
    pub(super) fn plan(&mut self) -> Result<AddPlan, FailureReason> {
        let (manifest, _) = self.manifest()?;
        let mut pool = self.pool();
        let os = StreamedOs::find(self, &manifest, &mut pool)?;
        let images = self.find(&manifest, os.as_ref(), &mut pool)?;
        self.planned(manifest, &images, os.as_ref())
    }

    /// Downloads what is missing, and no more.
    pub(super) fn download_only(&mut self) -> Result<AddPlan, FailureReason> {
        let (manifest, _) = self.manifest()?;
        let mut pool = self.pool();
        let os = StreamedOs::find(self, &manifest, &mut pool)?;
        if os.as_ref().is_some_and(|os| os.wanted) {
            self.sink.emit(Event::info(
                "the OS is not downloaded now: it is written to the other slot when the runtime is added",
            ));
        }
        let os = os.map(|os| StreamedOs {
            wanted: false,
            ..os
        });
        let images = self.find(&manifest, os.as_ref(), &mut pool)?;
        let plan = self.planned(manifest, &images, os.as_ref())?;
        let _lock = self.images(&plan.manifest, os.as_ref(), &mut pool)?;
        pool.sync()?;
        pool.remember();
        files::remove_all(&self.staging)?;
        Ok(plan)
    }

    /// What the repository says of images that the manifest does not name by their bytes.
    fn signed(&mut self, manifest: &Manifest) -> Result<SignedTargets, FailureReason> {
        let mut signed = SignedTargets::default();
        for extension in manifest.extensions.iter().filter(|e| e.image_id.is_none()) {
            let wanted = RequiredImage::extension(extension);
            let (target, sha256) = self.offered(manifest, &wanted)?;
            signed.note(&target.name, sha256);
        }
        Ok(signed)
    }

    /// Brings all images into the pool. They are there as long as the lock is held.
    fn images(
        &mut self,
        manifest: &Manifest,
        os: Option<&StreamedOs>,
        pool: &mut ImagePool,
    ) -> Result<StoreLock, FailureReason> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let images = self.find(manifest, os, pool)?;
            let missing: Vec<_> = images.iter().filter(|image| !image.there).collect();
            self.remove_leftovers(&missing, os)?;
            let needed = sum(missing.iter().map(|image| self.to_fetch(image)));
            self.need_room(needed, manifest, pool)?;
            for image in &missing {
                cancel::check(self.cancel)?;
                self.bring(image, pool)?;
            }
            // Last: what is in that slot is lost by it, and may be what the device would go back to.
            if let Some(os) = os.filter(|_| attempts == 1) {
                os.write(self, manifest, pool)?;
            }
            let lock = self.context.lock_store(self.cancel, self.sink)?;
            // Without the lock another process may have pruned what was there when we looked.
            let lost = images.iter().find_map(|i| pool.need(&i.wanted).err());
            match lost {
                None => return Ok(lock),
                Some(reason) if attempts >= ATTEMPTS => return Err(reason),
                Some(FailureReason::ImageMissing { .. } | FailureReason::ImageWrong { .. }) => {}
                Some(other) => return Err(other),
            }
        }
    }

    /// Brings an image into the pool, where it stays however the work on the others ends: pruning
    /// spares images as long as this download goes on, and the next one finds it.
    fn bring(&self, image: &OfferedImage, pool: &mut ImagePool) -> Result<(), FailureReason> {
        if let Some(old) = &image.known_as {
            let _lock = self.context.lock_store(self.cancel, self.sink)?;
            if pool.adopt(old, &image.wanted, image.sha256) {
                return Ok(());
            }
        }
        let label = &image.wanted.label;
        self.sink.emit(Event::info(format!("downloading {label}")));
        let file = self.staging.join(&image.wanted.file);
        let downloaded = self.download(&image.target, &mut FileDestination::new(&file));
        if downloaded.as_ref().is_err_and(FailureReason::is_disk_full) {
            // Other programs took what was free. What came so far is no use on a disk on which
            // nothing can be written any more.
            files::remove_all(&file)?;
            self.check_space(&[image])?;
        }
        downloaded?;
        let _lock = self.context.lock_store(self.cancel, self.sink)?;
        pool.take(&file, &image.wanted, image.sha256)?;
        pool.sync()?;
        pool.remember();
        Ok(())
    }

    fn pool(&self) -> ImagePool {
        ImagePool::cancellable(self.context.base(), self.cancel)
    }

    fn planned(
        &self,
        manifest: Manifest,
        images: &[OfferedImage],
        os: Option<&StreamedOs>,
    ) -> Result<AddPlan, FailureReason> {
        let planned = images.iter().map(|image| PlannedImage {
            bytes: image.target.length,
            fetch_bytes: self.to_fetch(image),
            shared: !image.is_to_be_fetched(),
            ..PlannedImage::shared(&image.wanted, 0)
        });
        let streamed = os.filter(|os| os.wanted).map(|os| PlannedImage {
            fetch_bytes: os.target.length,
            shared: false,
            streamed: true,
            ..PlannedImage::shared(&os.required, os.target.length)
        });
        let planned = planned.chain(streamed).collect();
        let free = files::free(&self.staging)?;
        let bundle = os.filter(|os| os.wanted).map(|os| &os.bundle);
        let plan = AddPlan::new(self.context, manifest, planned, free, bundle)?;
        Ok(AddPlan {
            relaxed: self.client.is_relaxed(),
            ..plan
        })
    }

    /// The manifest that the repository offers now. What an earlier run left in the staging
    /// directory counts only as far as it is the same bytes.
    fn manifest(&mut self) -> Result<(Manifest, Vec<u8>), FailureReason> {
        let path = self.staging.join(MANIFEST);
        let target = self.target("the runtime", MANIFEST)?;
        if target.length > MANIFEST_LIMIT {
            return Err(FailureReason::TooLarge {
                path: target.name.into(),
                limit: MANIFEST_LIMIT,
            });
        }
        self.client
            .download(&target, &path, self.sink)
            .map_err(or_cancelled(self.cancel, repository(&self.url)))?;
        let (manifest, bytes) = manifest::read(&path, self.sink)?;
        Ok((manifest, bytes))
    }

    /// The images of a runtime, and whether the pool has them. Whether the repository has them
    /// all, and means the same bytes as the manifest, is checked before anything is downloaded.
    fn find(
        &mut self,
        manifest: &Manifest,
        os: Option<&StreamedOs>,
        pool: &mut ImagePool,
    ) -> Result<Vec<OfferedImage>, FailureReason> {
        // Every one of them, also where two are kept under one name.
        for wanted in RequiredImage::of(manifest) {
            self.offered(manifest, &wanted)?;
        }
        let mut images = Vec::new();
        for named in distinct(manifest) {
            if os.is_some_and(|os| os.required.file == named.file) {
                continue;
            }
            let (target, sha256) = self.offered(manifest, &named)?;
            let wanted = named.clone().signed(sha256);
            let found = pool.find(&wanted)?;
            let elsewhere = named.file != wanted.file && !matches!(found, ImageCheck::Intact(_));
            let known_as = elsewhere
                .then(|| pool.digest(&named.file))
                .transpose()?
                .filter(|found| *found == PoolFile::Regular(sha256))
                .map(|_| named.file);
            match found {
                ImageCheck::Intact(_) => {
                    let step = Event::step(STAGE, StepStatus::Skipped, "already in the image pool");
                    let item = wanted.label.clone();
                    self.sink.emit(Event { item, ..step });
                }
                ImageCheck::Corrupt => self.sink.emit(Event::warning(format!(
                    "the image of {} in the pool is corrupt and is fetched again",
                    wanted.label
                ))),
                ImageCheck::Missing => {}
            }
            images.push(OfferedImage {
                wanted,
                target,
                sha256,
                there: matches!(found, ImageCheck::Intact(_)),
                known_as,
            });
        }
        Ok(images)
    }

    fn offered(
        &mut self,
        manifest: &Manifest,
        wanted: &RequiredImage,
    ) -> Result<(TargetInfo, Digest), FailureReason> {
        let target = self.target(&wanted.label, &wanted.file)?;
        match target.digests.sha256.filter(|digest| wanted.is(*digest)) {
            Some(sha256) => Ok((target, sha256)),
            None => Err(FailureReason::Contradiction {
                id: manifest.id.clone(),
                why: format!(
                    "and the repository do not mean the same image of {}",
                    wanted.label
                ),
            }),
        }
    }

    /// Removes what earlier runs left, but for what this one can go on with.
    fn remove_leftovers(
        &self,
        missing: &[&OfferedImage],
        os: Option<&StreamedOs>,
    ) -> Result<(), FailureReason> {
        self.remove_all_but(&|file| {
            file == MANIFEST
                || os.is_some_and(|os| os.index.file == file)
                || missing.iter().any(|m| m.wanted.file == file)
        })
    }

    /// Removes what earlier runs left, but for files that are kept, and what tells how far they came.
    fn remove_all_but(&self, keep: &dyn Fn(&str) -> bool) -> Result<(), FailureReason> {
        for name in files::names(&self.staging)? {
            if !keep(name.strip_suffix(".resume").unwrap_or(&name)) {
                files::remove_all(&self.staging.join(name))?;
            }
        }
        Ok(())
    }

    /// What is not there yet, in bytes.
    fn to_fetch(&self, image: &OfferedImage) -> u64 {
        if !image.is_to_be_fetched() {
            return 0;
        }
        let kept = FileDestination::new(&self.staging.join(&image.wanted.file));
        let kept = kept.kept(&image.target);
        image.target.length.saturating_sub(kept)
    }

    fn check_space(&self, missing: &[&OfferedImage]) -> Result<(), FailureReason> {
        let needed = missing.iter().map(|image| self.to_fetch(image));
        self.check_room(sum(needed))
    }

    /// That the disk has room for so many bytes of a runtime, if need be once what no other runtime needs is
    /// gone from the pool.
    fn need_room(
        &self,
        needed: u64,
        manifest: &Manifest,
        pool: &mut ImagePool,
    ) -> Result<(), FailureReason> {
        let short = match self.check_room(needed) {
            Err(FailureReason::NoSpace {
                reserve, available, ..
            }) => needed.saturating_add(reserve).saturating_sub(available),
            other => return other,
        };
        let files = manifest.required_files();
        upkeep::make_room_for(&files, short, self.context, pool, self.cancel, self.sink)?;
        self.check_room(needed)
    }

    /// Whether the disk has room for so many bytes more.
    fn check_room(&self, needed: u64) -> Result<(), FailureReason> {
        let available = files::free(&self.staging)?;
        // What takes nothing may be staged on a full disk as well.
        let reserve = self.context.config.reserve;
        if needed == 0 || needed.saturating_add(reserve) <= available {
            return Ok(());
        }
        Err(FailureReason::NoSpace {
            path: self.context.base().to_owned(),
            needed,
            reserve,
            available,
        })
    }

    fn target(&mut self, what: &str, name: &str) -> Result<TargetInfo, FailureReason> {
        self.client
            .target(name)
            .map_err(or_cancelled(self.cancel, repository(&self.url)))?
            .ok_or_else(|| FailureReason::NotOffered {
                url: self.url.to_string(),
                what: what.to_owned(),
                target: name.to_owned(),
            })
    }

    fn download(
        &self,
        target: &TargetInfo,
        destination: &mut dyn Destination,
    ) -> Result<(), FailureReason> {
        let client = self.images.as_ref().unwrap_or(&self.client);
        let result = client.download_to(target, destination, self.sink);
        result.map_err(or_cancelled(self.cancel, repository(&self.url)))
    }
}

/// The way to servers.
fn network(config: &DeviceConfig) -> Result<NetworkSettings, FailureReason> {
    let ca = config.ca_file.as_ref();
    let proxy = config.proxy.as_ref().map(|url| ProxySettings {
        url: url.clone(),
        direct: config.no_proxy.clone(),
    });
    Ok(NetworkSettings {
        ca: ca.map(|path| files::read(path, CA_LIMIT)).transpose()?,
        proxy,
        any_certificate: false,
    })
}

fn repository_url(url: &str) -> Result<RepositoryUrl, FailureReason> {
    url.parse().map_err(not_a_url(url))
}

fn not_a_url(url: &str) -> impl FnOnce(RepositoryUrlError) -> FailureReason {
    let url = without_secrets(url);
    |source| FailureReason::Url { url, source }
}

fn repository(url: &RepositoryUrl) -> impl FnOnce(avocado_tuf::TufError) -> FailureReason {
    let url = url.to_string();
    |source| FailureReason::Repository {
        url,
        source: Box::new(source),
    }
}

/// What ended because the caller asked to stop has no other reason.
fn or_cancelled<E>(
    cancel: &Cancel,
    otherwise: impl FnOnce(E) -> FailureReason,
) -> impl FnOnce(E) -> FailureReason {
    let cancelled = cancel.is_cancelled();
    move |error| {
        if cancelled {
            FailureReason::Cancelled
        } else {
            otherwise(error)
        }
    }
}
