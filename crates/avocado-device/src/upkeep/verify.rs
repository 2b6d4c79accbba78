use std::collections::{BTreeMap, BTreeSet};

use avocado_events::{Event, Sink};
use avocado_manifest::RuntimeId;
use serde::Serialize;

use crate::store::Found as Runtime;
use crate::store::pool::{Found, Pool, Wanted};
use crate::{Cancel, Device, Error, Reason};
use avocado_events::chain;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// How many runtimes there are.
    pub runtimes: usize,
    /// How many images were read.
    pub images: usize,
    /// How many bytes were read.
    pub bytes: u64,
    /// What is wrong. An image that is [`Problem::Unreferenced`] harms nobody.
    pub problems: Vec<Problem>,
}

impl Verification {
    /// Whether everything is there and right.
    pub fn is_good(&self) -> bool {
        let harmless = |p: &Problem| matches!(p, Problem::Unreferenced { .. });
        self.problems.iter().all(harmless)
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// A runtime cannot be read.
    Unreadable {
        /// Its id.
        id: String,
        /// Why.
        why: String,
    },
    /// An image is not in the pool.
    Missing {
        /// Its name in the pool.
        file: String,
        /// What it is an image of.
        image: String,
        /// The runtimes that need it.
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
    /// No runtime needs a file of the pool. [`Device::prune`] removes it.
    Unreferenced {
        /// Its name in the pool.
        file: String,
    },
}

impl Device {
    /// Reads every image again, whatever was remembered of it, and compares it with what the
    /// manifests say. Adding a runtime again repairs what is missing or corrupt.
    ///
    /// # Errors
    /// [`Error::Store`] when the store cannot be read, or somebody asked to stop. What is wrong
    /// with the images is no error.
    pub fn verify(&self, cancel: &Cancel, sink: &dyn Sink) -> Result<Verification, Error> {
        self.verify_all(cancel, sink).map_err(Error::Store)
    }

    fn verify_all(&self, cancel: &Cancel, sink: &dyn Sink) -> Result<Verification, Reason> {
        let base = &self.paths().base;
        if !base.is_dir() {
            return Ok(Verification::default());
        }
        let mut pool = Pool::cancellable(base, cancel);
        pool.forget();
        let names = pool.names()?;
        for (done, name) in names.iter().enumerate() {
            let total = Some(names.len() as u64);
            sink.emit(Event::items("verify", name, done as u64, total));
            pool.digest(name)?;
        }
        // Others may have changed the store meanwhile. Now nobody does, and what is new is little.
        let _lock = self.lock_unless(cancel, sink)?;
        let mut found = Verification::default();
        let mut needed = BTreeSet::new();
        let mut wrong: BTreeMap<(String, String, bool), Vec<RuntimeId>> = BTreeMap::new();
        for runtime in self.runtimes().everything()? {
            let manifest = match runtime {
                Runtime::Whole(manifest) => manifest,
                Runtime::Unreadable(id, reason) => {
                    let why = chain(&reason);
                    found.problems.push(Problem::Unreadable { id, why });
                    continue;
                }
            };
            found.runtimes += 1;
            for wanted in Wanted::of(&manifest) {
                let missing = match pool.find(&wanted)? {
                    Found::Right(_) => None,
                    Found::Missing => Some(true),
                    Found::Wrong => Some(false),
                };
                needed.insert(wanted.file.clone());
                if let Some(missing) = missing {
                    let key = (wanted.file, wanted.label, missing);
                    let runtimes = wrong.entry(key).or_default();
                    runtimes.push(manifest.id.clone());
                }
            }
        }
        for ((file, image, missing), runtimes) in wrong {
            found.problems.push(match missing {
                true => Problem::Missing {
                    file,
                    image,
                    runtimes,
                },
                false => Problem::Corrupt {
                    file,
                    image,
                    runtimes,
                },
            });
        }
        for file in pool.names()? {
            let meta = std::fs::symlink_metadata(pool.file(&file));
            found.images += 1;
            found.bytes += meta.map_or(0, |meta| meta.len());
            if !needed.contains(&file) {
                found.problems.push(Problem::Unreferenced { file });
            }
        }
        pool.remember();
        Ok(found)
    }
}
