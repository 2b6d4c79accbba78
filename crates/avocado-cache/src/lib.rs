//! Results that machines share: what came of an action, signed, and its outputs by their digests.
//!
//! An [`ActionKey`] is the digest of everything that a result follows from. Under it a store keeps an
//! [`ActionResult`], signed by whoever made it ([`sign`], [`verify`]), which names its outputs by
//! [`BlobId`]. So a store has to be trusted with nothing: what it gives that is not what a trusted key
//! signed is [refused](EntryError).
//!
//! A [`CacheStore`] has two name spaces, `ac/<key>` and `cas/<SHA-256>`: a directory
//! ([`DirectoryStore`]), or a server that is asked with `GET`, `HEAD` and `PUT` ([`HttpStore`]), such
//! as bazel-remote, nginx with its DAV module, or `avocado-serve`, or one of S3 ([`Bucket`]).
//!
//! It knows nothing of what the actions are about.

mod action;
mod signed;
mod store;

pub use action::{ActionKey, ActionResult, BlobId, CachedFile, CachedForm};
pub use signed::{EntryError, LONGEST_ENTRY, TrustedKeys, key_id, sign, verify};
pub use store::{
    Bucket, BucketCredentials, BucketError, CacheStore, CacheStoreError, DirectoryStore, HttpStore,
};
