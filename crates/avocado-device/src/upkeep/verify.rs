use std::collections::BTreeMap;

use avocado_events::{Cancel, Event, Sink, chain};
use avocado_manifest::{ImageId, Manifest, RuntimeId};
use serde::Serialize;

use super::needed::NeededFiles;
use crate::cancel;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::os_update::streamed_os::StreamedOs;
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
    /// What is wrong. [`StoreProblem::Unreferenced`] and [`StoreProblem::OsReplaced`] do no harm.
    pub problems: Vec<StoreProblem>,
}

impl VerificationReport {
    /// Whether everything is there and right.
    pub fn is_good(&self) -> bool {
        let harmless = |problem: &StoreProblem| {
            matches!(
                problem,
                StoreProblem::Unreferenced { .. } | StoreProblem::OsReplaced { .. }
            )
        };
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
    /// The slot of an OS that was written to it while it came has it no more, or that of the active runtime,
    /// which does not run, is in none. Adding the runtime again brings it.
    OsGone {
        /// The runtimes that need it.
        runtimes: Vec<RuntimeId>,
        /// What is there.
        why: String,
    },
    /// Whether the slot of an OS that was written to it while it came has it still could not be found out.
    OsUnknown {
        /// The runtimes that need it.
        runtimes: Vec<RuntimeId>,
        /// Why.
        why: String,
    },
    /// No slot has the OS of runtimes that are not active: others were written there since. Adding a runtime
    /// again brings it.
    OsReplaced {
        /// The runtimes that need it.
        runtimes: Vec<RuntimeId>,
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
    let mut streamed = StreamedSystems::default();
    streamed.look(context, &mut pool, cancel)?;
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
                ImageCheck::Missing if is_streamed(&mut pool, &manifest, &wanted)? => {
                    streamed.note(&manifest);
                    None
                }
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
    found.problems.extend(streamed.problems(context));
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

/// The OSes of which the pool has only the index of the chunks.
#[derive(Default)]
struct StreamedSystems {
    /// What was found in the slots, by bundles: they are read once, and without the lock of the store.
    looked: BTreeMap<ImageId, StreamedOs>,
    /// The runtimes of those that no slot has.
    missing: BTreeMap<ImageId, Vec<RuntimeId>>,
}

impl StreamedSystems {
    /// Reads the slots for every runtime that there is.
    fn look(
        &mut self,
        context: &DeviceContext,
        pool: &mut ImagePool,
        cancel: &Cancel,
    ) -> Result<(), FailureReason> {
        for runtime in context.runtimes().everything()? {
            cancel::check(cancel)?;
            if let StoredRuntime::Whole(manifest) = runtime
                && let Some(named) = &manifest.os_bundle
                && !pool.path(&RequiredImage::os_bundle(named)).exists()
                && is_streamed(pool, &manifest, &RequiredImage::os_bundle(named))?
            {
                // One that runs is there, which is all that it is for.
                if context.os_mismatch(&manifest).is_some()
                    && !self.looked.contains_key(&named.image_id)
                {
                    let state = StreamedOs::look(context, named, cancel)?;
                    self.looked.insert(named.image_id.clone(), state);
                }
            }
        }
        Ok(())
    }

    /// Notes a runtime whose OS was not found in a slot. One that came since they were read is passed over: reading
    /// takes long, and the lock of the store is held.
    fn note(&mut self, manifest: &Manifest) {
        if let Some(named) = &manifest.os_bundle
            && let Some(state) = self.looked.get(&named.image_id)
            && *state != StreamedOs::InSlot
        {
            let runtimes = self.missing.entry(named.image_id.clone()).or_default();
            runtimes.push(manifest.id.clone());
        }
    }

    fn problems(self, context: &DeviceContext) -> Vec<StoreProblem> {
        let active = context.runtimes().active_id().ok().flatten();
        let problem = |(bundle, runtimes): (ImageId, Vec<RuntimeId>)| match self.looked.get(&bundle)
        {
            Some(StreamedOs::Gone(why)) => StoreProblem::OsGone {
                why: why.clone(),
                runtimes,
            },
            Some(StreamedOs::Unknown(why)) => StoreProblem::OsUnknown {
                why: why.clone(),
                runtimes,
            },
            _ if active.as_ref().is_some_and(|id| runtimes.contains(id)) => StoreProblem::OsGone {
                why: "no slot has it".into(),
                runtimes,
            },
            _ => StoreProblem::OsReplaced { runtimes },
        };
        self.missing.into_iter().map(problem).collect()
    }
}
