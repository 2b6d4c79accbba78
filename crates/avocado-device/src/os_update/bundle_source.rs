//! Where this device has the operating system of a runtime.

use std::collections::BTreeMap;

use avocado_manifest::os_bundle::OsBundleDescription;
use avocado_manifest::{Name, OsBundle};

use super::bundle_file::BundleFile;
use super::chunked_bundle::ChunkedBundle;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::store::pool::{ImageCheck, ImagePool, RequiredImage};

/// An OS bundle, with what it says of itself.
#[derive(Debug)]
pub(super) enum BundleSource {
    /// It is in the pool.
    Pool(BundleFile),
    /// Only the index of its chunks is in the pool: a slot may have what they hold.
    Slot(ChunkedBundle),
}

impl BundleSource {
    /// Whether there is anything of the bundle that a manifest names.
    pub(super) fn is_there(context: &DeviceContext, named: &OsBundle) -> bool {
        let pool = ImagePool::open(context.base());
        let files = [
            Some(RequiredImage::os_bundle(named)),
            RequiredImage::chunks(named),
        ];
        let mut files = files.into_iter().flatten();
        files.any(|image| pool.path(&image).exists())
    }

    /// The bundle that a manifest names, with the bytes that were signed.
    pub(super) fn open(context: &DeviceContext, named: &OsBundle) -> Result<Self, FailureReason> {
        let mut pool = ImagePool::open(context.base());
        let bundle = RequiredImage::os_bundle(named);
        let opened = match (pool.find(&bundle)?, RequiredImage::chunks(named)) {
            (ImageCheck::Missing | ImageCheck::Corrupt, Some(chunks))
                if matches!(pool.find(&chunks)?, ImageCheck::Intact(_)) =>
            {
                ChunkedBundle::read(&pool.path(&chunks), named).map(BundleSource::Slot)
            }
            _ => {
                pool.need(&bundle)?;
                BundleFile::open(&pool.path(&bundle)).map(BundleSource::Pool)
            }
        };
        pool.remember();
        opened
    }

    pub(super) fn description(&self) -> &OsBundleDescription {
        match self {
            BundleSource::Pool(bundle) => &bundle.description,
            BundleSource::Slot(bundle) => &bundle.description,
        }
    }

    /// The sizes of the artifacts in bytes. What is in the pool is compared with the digests for that.
    pub(super) fn sizes(&self) -> Result<BTreeMap<Name, u64>, FailureReason> {
        match self {
            BundleSource::Pool(bundle) => bundle.verify(),
            BundleSource::Slot(bundle) => Ok(bundle.sizes()),
        }
    }
}
