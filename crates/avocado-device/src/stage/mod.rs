//! Staging: a runtime comes into the store, whole and checked, from a manifest file or from a
//! repository.

mod url;

use std::path::Path;

use avocado_events::{Event, Sink, Status};
use avocado_manifest::Manifest;

pub use url::AddRequest;
pub(crate) use url::from_url;

use crate::store::pool::{Pool, Wanted};
use crate::store::{MANIFEST_LIMIT, Runtimes, check, files};
use crate::{Error, Reason};

const STAGE: &str = "add";

/// Stages the runtime that a manifest file describes, from what is in the pool.
pub(crate) fn from_manifest(base: &Path, path: &Path, sink: &dyn Sink) -> Result<Manifest, Error> {
    let staged = || {
        let bytes = files::read(path, MANIFEST_LIMIT)?;
        let manifest = parse(path, &bytes)?;
        let mut pool = Pool::open(base);
        let wanted = Wanted::of(&manifest);
        for (done, image) in wanted.iter().enumerate() {
            let total = Some(wanted.len() as u64);
            sink.emit(Event::items("verify", &image.label, done as u64, total));
            pool.need(image)?;
        }
        finish(base, &mut pool, manifest, &bytes)
    };
    report(staged(), sink).map_err(Error::Staging)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, Reason> {
    let manifest = Manifest::parse(bytes).map_err(|source| Reason::Manifest {
        path: path.to_owned(),
        source,
    })?;
    check(&manifest)?;
    Ok(manifest)
}

/// The images are in the pool: make them last, and only then let the runtime appear.
fn finish(
    base: &Path,
    pool: &mut Pool,
    manifest: Manifest,
    bytes: &[u8],
) -> Result<Manifest, Reason> {
    pool.sync()?;
    pool.remember();
    let runtimes = Runtimes::new(base);
    runtimes.tidy()?;
    runtimes.add(&manifest, bytes)?;
    Ok(manifest)
}

fn report<E: std::fmt::Display>(
    result: Result<Manifest, E>,
    sink: &dyn Sink,
) -> Result<Manifest, E> {
    let event = match &result {
        Ok(manifest) => {
            let message = format!("runtime {} is staged", manifest.id);
            Event::step(STAGE, Status::Success, message)
        }
        Err(error) => Event::step(STAGE, Status::Failed, error.to_string()),
    };
    sink.emit(event);
    result
}
