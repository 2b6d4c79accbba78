use std::collections::BTreeMap;

use avocado_events::{Cancel, Event, Sink, chain};
use avocado_manifest::{Manifest, RuntimeId};
use serde::Serialize;

use super::needed::NeededFiles;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::store::pool::{ImageCheck, ImagePool, RequiredImage};
use crate::store::runtimes::StoredRuntime;
use crate::store::standalone;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerificationReport {
    /// How many runtimes there are.
    pub runtimes: usize,
    /// How many images were read.
    pub images: usize,
    /// How many bytes were read.
    pub bytes: u64,
    /// What is wrong. An image that is [`StoreProblem::Unreferenced`] does no harm.
    pub problems: Vec<StoreProblem>,
}

impl VerificationReport {
    /// Whether everything is there and right.
    pub fn is_good(&self) -> bool {
        let harmless = |p: &StoreProblem| matches!(p, StoreProblem::Unreferenced { .. });
        self.problems.iter().all(harmless)
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoreProblem {
    /// A runtime cannot be read.
    Unreadable {
        /// Its id.
        id: String,
        /// Why.
        why: String,
    },
    /// `active` does not lead to a runtime.
    Active {
        /// Why.
        why: String,
    },
    /// An image is not in the pool.
    Missing {
        /// Its name in the pool.
        file: String,
        /// What it is an image of.
        image: String,
        /// The runtimes that need it; none where it is enabled without one.
        runtimes: Vec<RuntimeId>,
    },
    /// The bytes of an image are not those that the manifest names.
    Corrupt {
        /// Its name in the pool.
        file: String,
        /// What it is an image of.
        image: String,
        /// The runtimes that need it.
        runtimes: Vec<RuntimeId>,
    },
    /// No runtime needs a file of the pool. [`Device::prune`](crate::Device::prune) removes it.
    Unreferenced {
        /// Its name in the pool.
        file: String,
    },
}

/// Reads every image again, and compares it with what the manifests say.
pub(crate) fn verify(
    context: &DeviceContext,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<VerificationReport, FailureReason> {
    let base = context.base();
    if !base.is_dir() {
        return Ok(VerificationReport::default());
    }
    let mut pool = ImagePool::cancellable(base, cancel);
    pool.forget();
    let names = pool.names()?;
    for (done, name) in names.iter().enumerate() {
        let total = Some(names.len() as u64);
        sink.emit(Event::items("verify", name, done as u64, total));
        pool.digest(name)?;
    }
    // Other processes may have changed the store meanwhile. With the lock none does, and what is
    // new is little.
    let _lock = context.lock_store(cancel, sink)?;
    let mut found = VerificationReport::default();
    let mut whole = Vec::new();
    let mut wrong: BTreeMap<(String, String, bool), Vec<RuntimeId>> = BTreeMap::new();
    for runtime in context.runtimes().everything()? {
        let manifest = match runtime {
            StoredRuntime::Whole(manifest) => manifest,
            StoredRuntime::Unreadable(id, reason) => {
                let why = chain(&reason);
                found.problems.push(StoreProblem::Unreadable { id, why });
                continue;
            }
        };
        found.runtimes += 1;
        for wanted in RequiredImage::of(&manifest) {
            let missing = match pool.find(&wanted)? {
                ImageCheck::Intact(_) => None,
                ImageCheck::Missing if is_streamed(&mut pool, &manifest, &wanted)? => None,
                ImageCheck::Missing => Some(true),
                ImageCheck::Corrupt => Some(false),
            };
            if let Some(missing) = missing {
                let key = (wanted.file, wanted.label, missing);
                let runtimes = wrong.entry(key).or_default();
                runtimes.push(manifest.id.clone());
            }
        }
        whole.push(manifest);
    }
    // One that is there and cannot be read is among those above.
    if let Err(reason @ FailureReason::Active { .. }) = context.runtimes().active() {
        let why = chain(&reason);
        found.problems.push(StoreProblem::Active { why });
    }
    for ((file, image, missing), runtimes) in wrong {
        found.problems.push(if missing {
            StoreProblem::Missing {
                file,
                image,
                runtimes,
            }
        } else {
            StoreProblem::Corrupt {
                file,
                image,
                runtimes,
            }
        });
    }
    for (name, release) in standalone::gone_of_all_releases(base)? {
        found.problems.push(StoreProblem::Missing {
            file: name.to_string(),
            image: format!("what is enabled for release {release}"),
            runtimes: Vec::new(),
        });
    }
    let needed = NeededFiles::of(context, &whole)?;
    for file in pool.names()? {
        let meta = std::fs::symlink_metadata(pool.file(&file));
        found.images += 1;
        found.bytes += meta.map_or(0, |meta| meta.len());
        if !needed.contains(&file) {
            found.problems.push(StoreProblem::Unreferenced { file });
        }
    }
    pool.remember();
    Ok(found)
}

/// Whether this is an OS that was written to its slot while it came: the pool has the index of its chunks.
fn is_streamed(
    pool: &mut ImagePool,
    manifest: &Manifest,
    wanted: &RequiredImage,
) -> Result<bool, FailureReason> {
    let named = manifest.os_bundle.as_ref();
    let named = named.filter(|named| *wanted == RequiredImage::os_bundle(named));
    Ok(match named.and_then(RequiredImage::chunks) {
        Some(chunks) => matches!(pool.find(&chunks)?, ImageCheck::Intact(_)),
        None => false,
    })
}
