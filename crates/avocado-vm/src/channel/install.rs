//! From the staging directory to the managed image: first everything is fetched, beside a VM that
//! may run; then, with the VM stopped, each file takes its place and the manifest comes last.
//!
//! `staging/<version>/.ready` says that everything is there. From then on the installation is
//! finished whatever happens in between; before, what was fetched only spares the next download.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use avocado_events::{Cancel, Event, Sink, StepStatus};
use avocado_fs::{FileLock, LockPlace};
use avocado_manifest::VmImage;

use super::client::{ChannelClient, ChannelOffer};
use super::download::FileDownload;
use super::error::ChannelError;
use crate::dir::{StateDir, StateFile};
use crate::error::VmError;
use crate::files;
use crate::image::{self, MANIFEST, STAGING};
use crate::lock::VmLock;

/// Says that a staging directory is complete.
const READY: &str = ".ready";
/// In `staging`: the VM ran when an installation began, and shall run after it.
const WAS_RUNNING: &str = ".was-running";
/// In `staging`: held by the one update that may work.
const LOCK: &str = ".lock";
/// Before the name of a file that is not complete.
const PARTIAL: &str = ".part-";

/// The step that a download reports.
const STEP: &str = "download";
/// Between two reports.
const TICK: Duration = Duration::from_millis(100);
/// Before the second try of a request.
const PAUSE: Duration = Duration::from_millis(500);

/// The right to download and to install, until it is dropped. It does not stop the VM from
/// running.
#[derive(Debug)]
pub struct UpdateLock {
    staging: PathBuf,
    install: PathBuf,
    _lock: FileLock,
}

/// A complete image that is not installed yet.
#[derive(Debug)]
pub struct PendingImage {
    place: PathBuf,
    manifest: VmImage,
}

impl PendingImage {
    /// Its version, where the manifest states one.
    pub fn version(&self) -> Option<&str> {
        self.manifest.version.as_deref()
    }
}

impl UpdateLock {
    /// Takes the turn; there is one in each state directory.
    pub fn take(dir: &StateDir) -> Result<Self, VmError> {
        dir.create()?;
        let install = dir.file(StateFile::Install);
        let staging = install.join(STAGING);
        files::create_dir(&install)?;
        files::create_dir(&staging)?;
        let path = staging.join(LOCK);
        let lock = LockPlace::file(&path).try_lock().map_err(VmError::from)?;
        let lock = lock.ok_or(ChannelError::Busy)?;
        Ok(UpdateLock {
            staging,
            install,
            _lock: lock,
        })
    }

    /// Fetches everything that an offer needs. What an interrupted run left is taken up; what
    /// belongs to other versions goes.
    pub fn download(
        &self,
        source: &ChannelClient,
        offer: &ChannelOffer,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<PendingImage, VmError> {
        self.download_with(&source.files, PAUSE, offer, cancel, sink)
    }

    pub(super) fn download_with(
        &self,
        transport: &dyn avocado_http::Transport,
        pause: Duration,
        offer: &ChannelOffer,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<PendingImage, VmError> {
        let name = offer.staging_name();
        self.forget_others(&name)?;
        let place = self.staging.join(&name);
        files::create_dir(&place)?;
        files::remove(&place.join(READY))?;
        sink.emit(Event::step(STEP, StepStatus::Running, offer.version()));
        let download = FileDownload {
            transport,
            cancel,
            pause,
        };
        let result = self.fetch_all(&download, offer, &place, sink);
        sink.emit(match &result {
            Ok(()) => Event::step(STEP, StepStatus::Success, offer.version()),
            Err(e) => Event::step(STEP, StepStatus::Failed, e.to_string()),
        });
        result?;
        offer.write_manifest(&place)?;
        files::write(&place.join(READY), b"")?;
        Ok(PendingImage {
            place,
            manifest: offer.manifest.clone(),
        })
    }

    fn fetch_all(
        &self,
        download: &FileDownload<'_>,
        offer: &ChannelOffer,
        place: &Path,
        sink: &dyn Sink,
    ) -> Result<(), VmError> {
        let wanted = offer.manifest.artifacts.iter();
        let wanted: Vec<_> = wanted.filter(|(r, _)| offer.fetch.contains(r)).collect();
        let sizes: Option<Vec<u64>> = wanted.iter().map(|(_, a)| a.size).collect();
        let total = sizes.and_then(|s| s.iter().try_fold(0_u64, |sum, n| sum.checked_add(*n)));
        let mut before = 0;
        let last = Mutex::new(None::<Instant>);
        for (_, artifact) in wanted {
            let path = place.join(&artifact.file);
            let report = |done: u64| {
                let mut last = last
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let due = last.is_none_or(|last| last.elapsed() >= TICK);
                if due || artifact.size == Some(done) {
                    *last = Some(Instant::now());
                    let file = artifact.file.as_str();
                    sink.emit(Event::bytes(STEP, file, before + done, total));
                }
            };
            // Under its own name it was verified by an earlier run of the same version; of which
            // only the manifest may have changed.
            let same = path.is_file() && image::digest(&path, |_, _| {})? == artifact.sha256;
            if same {
                report(artifact.size.unwrap_or(0));
            } else {
                let url = format!("{}/{}", offer.base_url, artifact.file);
                let partial = place.join(format!("{PARTIAL}{}", artifact.file));
                download.fetch(&url, artifact, &partial, &path, &report)?;
            }
            let length = fs::metadata(&path).map_err(VmError::file("look at", &path))?;
            before += length.len();
        }
        files::sync_directory(place)
    }

    /// What an earlier run completed, but did not install.
    pub fn pending(&self) -> Result<Option<PendingImage>, VmError> {
        for place in self.places()? {
            if !place.join(READY).exists() {
                continue;
            }
            let bytes = files::read(&place.join(MANIFEST))?;
            if let Some(manifest) = bytes.and_then(|bytes| image::parse(&bytes).ok()) {
                return Ok(Some(PendingImage { place, manifest }));
            }
            // The manifest is the last to leave: it is installed.
            files::remove_tree(&place)?;
        }
        Ok(None)
    }

    /// Puts everything in its place. The VM is stopped: that is what the lock says. An
    /// interruption in between is mended by the next [`UpdateLock::pending`] and this function.
    pub fn install(&self, pending: &PendingImage, _lock: &VmLock) -> Result<(), VmError> {
        let old = image::ImageDir::load(&self.install).ok();
        for artifact in pending.manifest.artifacts.values() {
            let from = pending.place.join(&artifact.file);
            let to = self.install.join(&artifact.file);
            match fs::rename(&from, &to) {
                Ok(()) => {}
                // Kept from the version before, or moved before an interruption.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(VmError::file("replace", &to)(e)),
            }
        }
        let sync = || files::sync_directory(&self.install);
        sync()?;
        let manifest = self.install.join(MANIFEST);
        fs::rename(pending.place.join(MANIFEST), &manifest)
            .map_err(VmError::file("replace", &manifest))?;
        sync()?;
        let named = |name: &str| {
            let mut artifacts = pending.manifest.artifacts.values();
            artifacts.any(|artifact| artifact.file.as_str() == name)
        };
        let old = old.iter().flat_map(|old| old.manifest().artifacts.values());
        for artifact in old.filter(|artifact| !named(artifact.file.as_str())) {
            files::remove(&self.install.join(&artifact.file))?;
        }
        files::remove_tree(&pending.place)
    }

    /// Remembers across an interruption that the VM shall run after the installation.
    pub fn remember_running(&self) -> Result<(), VmError> {
        files::write(&self.staging.join(WAS_RUNNING), b"")
    }

    /// Whether an earlier run stopped the VM and did not start it again.
    pub fn was_running(&self) -> bool {
        self.staging.join(WAS_RUNNING).exists()
    }

    fn places(&self) -> Result<Vec<PathBuf>, VmError> {
        let unreadable = || VmError::file("read", &self.staging);
        let mut places = Vec::new();
        for entry in fs::read_dir(&self.staging).map_err(unreadable())? {
            let entry = entry.map_err(unreadable())?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                places.push(entry.path());
            }
        }
        places.sort();
        Ok(places)
    }

    fn forget_others(&self, name: &str) -> Result<(), VmError> {
        for place in self.places()? {
            if place.file_name() != Some(name.as_ref()) {
                files::remove_tree(&place)?;
            }
        }
        Ok(())
    }
}

/// Whether an image was downloaded and waits for its installation, or was interrupted in it.
pub fn is_pending(dir: &StateDir) -> bool {
    let staging = dir.file(StateFile::Install).join(STAGING);
    let places = fs::read_dir(staging).into_iter().flatten().flatten();
    let mut ready = places.map(|place| place.path().join(READY));
    ready.any(|ready| ready.exists())
}

/// Whoever starts or stops the VM by hand has decided: a later update does not start it.
pub fn forget_running(dir: &StateDir) -> Result<(), VmError> {
    files::remove(&dir.file(StateFile::Install).join(STAGING).join(WAS_RUNNING))
}
