//! The cache of a team: results of steps that other machines made, and those that go to them.

mod arrived;
mod give;
mod refused;
mod request;
mod server;
mod signer;
mod take;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use avocado_cache::{CacheStore, CacheStoreError, DirectoryStore, TrustedKeys};
use avocado_engine::{Action, FoundResult, MadeResult, SharedResults};
use avocado_events::{Event, Sink, chain};
use avocado_project::{CachePlace, SharedCache};
use avocado_tuf::SigningKey;

use self::give::PushFailure;
use self::refused::Refused;
pub(crate) use self::request::{PackRequest, PlaceRequest};
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::options::CacheOptions;

/// The cache of a project, while a run goes on. Nothing that is wrong with it fails the run.
pub(crate) struct BuildCache<'a> {
    context: &'a BuildContext<'a>,
    store: Box<dyn CacheStore + 'a>,
    /// Where it is, for people.
    place: String,
    trusted: TrustedKeys,
    /// What signs what is made here; `None` where nothing goes there.
    signer: Option<SigningKey>,
    /// It cannot be asked: no step asks again.
    is_off: AtomicBool,
    /// It takes nothing.
    takes_nothing: AtomicBool,
    /// What of it is not good.
    refused: Refused,
    /// Names directories for what is on its way.
    next: AtomicU64,
}

impl<'a> BuildCache<'a> {
    /// The cache that the project states; `None` where there is none, or none is wanted. What of it
    /// cannot be used is told.
    pub(crate) fn open(context: &'a BuildContext<'a>, sink: &dyn Sink) -> Option<Self> {
        let options = context.options;
        let settings = options.cache.as_ref()?;
        let cache = context.project.cache.as_ref()?;
        // Without stamps every step runs.
        if !options.stamps {
            return None;
        }
        match BuildCache::with(context, settings, cache, sink) {
            Ok(found) => {
                arrived::remove_leftovers(context, sink);
                found
            }
            Err(error) => {
                sink.emit(Event::warning(format!(
                    "the cache is left out: {}",
                    chain(&error)
                )));
                None
            }
        }
    }

    fn with(
        context: &'a BuildContext<'a>,
        settings: &CacheOptions,
        cache: &SharedCache,
        sink: &dyn Sink,
    ) -> Result<Option<Self>, BuildError> {
        let directory = |path: PathBuf| {
            let store: Box<dyn CacheStore> = Box::new(DirectoryStore::new(path, cache.max_size));
            store
        };
        let (store, place) = match &cache.place {
            CachePlace::User => {
                let path = settings.directory.clone().ok_or_else(|| {
                    let why = "no place for it: set HOME, or state `cache.url`";
                    BuildError::Invalid(why.into())
                })?;
                let place = path.display().to_string();
                (directory(path), place)
            }
            CachePlace::Directory(path) => (directory(path.clone()), path.display().to_string()),
            // Nothing is requested.
            place if place.is_remote() && context.options.frozen => return Ok(None),
            CachePlace::Server(url) => {
                let store = server::server(url, cache, settings, context)?;
                (store, url.clone())
            }
            CachePlace::Bucket(bucket) => {
                let store = server::bucket(bucket, cache, settings, context)?;
                (store, format!("s3://{}/{}", bucket.name, bucket.prefix))
            }
        };
        let keys = signer::keys(context, cache, sink)?;
        Ok(Some(BuildCache {
            context,
            store,
            place,
            trusted: keys.trusted,
            signer: keys.signer,
            is_off: AtomicBool::new(false),
            takes_nothing: AtomicBool::new(false),
            refused: Refused::default(),
            next: AtomicU64::new(0),
        }))
    }

    fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// The cache cannot be asked. The first to see that says so.
    fn turn_off(&self, error: &CacheStoreError, sink: &dyn Sink) {
        if self.context.cancel.is_cancelled() || self.is_off.swap(true, Ordering::Relaxed) {
            return;
        }
        sink.emit(Event::warning(format!(
            "the cache at {} is left out for the rest of this run: {}",
            self.place,
            chain(error)
        )));
    }

    fn warn_of_entry(&self, stage: &str, why: &str, sink: &dyn Sink) {
        sink.emit(Event {
            stage: stage.to_owned(),
            ..Event::warning(format!(
                "what the cache at {} has of `{stage}` is not used, and it is made here: {why}",
                self.place
            ))
        });
    }
}

impl SharedResults for BuildCache<'_> {
    fn find<'s>(
        &'s self,
        action: &Action<'_>,
        sink: &dyn Sink,
    ) -> Option<Box<dyn FoundResult + 's>> {
        if self.is_off() {
            return None;
        }
        let found = self.take(action, sink)?;
        Some(Box::new(found))
    }

    fn offer(&self, action: &Action<'_>, result: MadeResult<'_>, sink: &dyn Sink) {
        let Some(signer) = &self.signer else {
            return;
        };
        if self.is_off() || self.takes_nothing.load(Ordering::Relaxed) {
            return;
        }
        match self.push(action, &result, signer, sink) {
            Ok(()) => {}
            Err(_) if self.context.cancel.is_cancelled() => {}
            Err(PushFailure::Store(error)) if give::is_unreachable(&error) => {
                self.turn_off(&error, sink);
            }
            Err(PushFailure::Store(error)) => {
                if !self.takes_nothing.swap(true, Ordering::Relaxed) {
                    sink.emit(Event::warning(format!(
                        "the cache at {} does not take results, and gets none in the rest of this \
                         run: {}",
                        self.place,
                        chain(&error)
                    )));
                }
            }
            Err(PushFailure::Pack(error)) => sink.emit(Event {
                stage: action.stage.to_owned(),
                ..Event::warning(format!(
                    "the result of `{}` does not go to the cache: {}",
                    action.stage,
                    chain(&error)
                ))
            }),
        }
    }
}
