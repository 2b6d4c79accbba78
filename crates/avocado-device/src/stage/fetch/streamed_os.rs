//! An OS that is written to its slot while it is downloaded.

use avocado_events::{Event, Sink};
use avocado_manifest::Manifest;
use avocado_manifest::os_bundle::LARGEST_CHUNK_INDEX;
use avocado_tuf::client::FileDestination;
use avocado_tuf::{TargetInfo, TufError};

use super::{MANIFEST, RepositoryFetch, or_cancelled, repository};
use crate::error::FailureReason;
use crate::os_update::chunked_bundle::ChunkedBundle;
use crate::os_update::stream::OsStream;
use crate::store::pool::{ImageCheck, ImagePool, RequiredImage};

/// An OS that is written while it comes.
pub(super) struct StreamedOs {
    pub(super) required: RequiredImage,
    /// The bundle.
    pub(super) target: TargetInfo,
    /// The index of its chunks.
    pub(super) index: RequiredImage,
    pub(super) bundle: ChunkedBundle,
    /// Whether it is to be written now.
    pub(super) wanted: bool,
}

impl StreamedOs {
    /// The OS of a runtime, where the configuration wants it to be written while it comes and the pool does
    /// not have it already.
    pub(super) fn find(
        fetch: &mut RepositoryFetch<'_>,
        manifest: &Manifest,
        pool: &mut ImagePool,
    ) -> Result<Option<Self>, FailureReason> {
        let (true, Some(named)) = (
            fetch.context.config.stream_os_to_partition,
            &manifest.os_bundle,
        ) else {
            return Ok(None);
        };
        let required = RequiredImage::os_bundle(named);
        if matches!(pool.find(&required)?, ImageCheck::Intact(_)) {
            return Ok(None);
        }
        let (target, _) = fetch.offered(manifest, &required)?;
        let Some(index) = RequiredImage::chunks(named) else {
            return Ok(not_streamed(
                fetch.sink,
                "the runtime does not name the index of its chunks",
            ));
        };
        let found = fetch.client.target(&index.file);
        let found = found.map_err(or_cancelled(fetch.cancel, repository(&fetch.url)))?;
        let Some(found) = found.filter(|found| found.length <= LARGEST_CHUNK_INDEX) else {
            return Ok(not_streamed(
                fetch.sink,
                "the repository has no index of its chunks",
            ));
        };
        if found.digests.sha256 != index.sha256 {
            let why = "and the repository do not mean the same chunks of the OS bundle";
            return Err(FailureReason::Contradiction {
                id: manifest.id.clone(),
                why: why.to_owned(),
            });
        }
        let mut path = pool.path(&index);
        if !matches!(pool.find(&index)?, ImageCheck::Intact(_)) {
            path = fetch.staging.join(&index.file);
            if fetch.check_room(found.length).is_err() {
                // What was left of other runtimes is worth less than this one.
                let files = manifest.required_files();
                fetch.remove_all_but(&|file| file == MANIFEST || files.contains(file))?;
                fetch.need_room(found.length, manifest, pool)?;
            }
            match fetch.download(&found, &mut FileDestination::new(&path)) {
                Err(reason) if is_absent(&reason) => {
                    return Ok(not_streamed(
                        fetch.sink,
                        "the server has no index of its chunks",
                    ));
                }
                other => other?,
            }
        }
        match ChunkedBundle::read(&path, named) {
            Ok(bundle) if bundle.archive_length() == target.length => Ok(Some(StreamedOs {
                bundle,
                wanted: fetch.context.os_mismatch(manifest).is_some(),
                required,
                target,
                index,
            })),
            Ok(_) => Ok(not_streamed(
                fetch.sink,
                "the index of its chunks is that of another bundle",
            )),
            // A later version of the format, for example: the OS that knows it has to come all the same.
            Err(reason) => Ok(not_streamed(fetch.sink, &avocado_events::chain(&reason))),
        }
    }

    /// Writes the OS to the slot that does not run, if another one does, and remembers its chunks.
    pub(super) fn write(
        &self,
        fetch: &RepositoryFetch<'_>,
        manifest: &Manifest,
        pool: &mut ImagePool,
    ) -> Result<(), FailureReason> {
        if self.wanted {
            let failed = || or_cancelled(fetch.cancel, repository(&fetch.url));
            let client = fetch.images.as_ref().unwrap_or(&fetch.client);
            let mut reader = client.reader(&self.target).map_err(failed())?;
            let mut parts =
                |offset: u64, buffer: &mut [u8]| reader.read_at(offset, buffer).map_err(failed());
            let (context, cancel, sink) = (fetch.context, fetch.cancel, fetch.sink);
            OsStream::new(context, &self.bundle, &mut parts, cancel, sink).write(manifest)?;
        }
        let _lock = fetch.context.lock_store(fetch.cancel, fetch.sink)?;
        let came = fetch.staging.join(&self.index.file);
        if let Some(sha256) = self.index.sha256.filter(|_| came.exists()) {
            pool.take(&came, &self.index, sha256)?;
        }
        // One that is no good would be taken for what is needed.
        if matches!(pool.find(&self.required)?, ImageCheck::Corrupt) {
            pool.remove(std::slice::from_ref(&self.required.file))?;
        }
        pool.sync()?;
        pool.remember();
        Ok(())
    }
}

/// Tells that an OS goes to the store first, and why.
fn not_streamed(sink: &dyn Sink, why: &str) -> Option<StreamedOs> {
    sink.emit(Event::warning(format!(
        "the OS is not written while it is downloaded (`avocado.update.stream_os_to_partition`), its \
         bundle goes to the store first: {why}"
    )));
    None
}

/// Whether a server does not have a file.
fn is_absent(reason: &FailureReason) -> bool {
    let FailureReason::Repository { source, .. } = reason else {
        return false;
    };
    matches!(&**source, TufError::Fetch { source, .. } if source.is_absent())
}
