//! Where this device has the operating system of a runtime.

use std::collections::BTreeMap;

use avocado_manifest::os_bundle::{OsBundleChunks, OsBundleDescription};
use avocado_manifest::{Name, OsBundle};

use super::bundle_file::BundleFile;
use super::chunked_bundle::ChunkedBundle;
use super::error::OsUpdateError;
use super::slot_contents::SlotContents;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::store::pool::{ImagePool, RequiredImage};

/// An OS bundle, with what it says of itself.
#[derive(Debug)]
pub(super) enum BundleSource {
    /// It is in the pool.
    Pool(BundleFile),
    /// It was written to a slot while it came, and is nowhere else.
    Slot(ChunkedBundle),
}

/// What is in the way where a slot that was written has something else.
pub(super) fn not_in(slot: &str) -> String {
    format!(
        "the OS of the runtime was written while it was downloaded, and {slot} it any more: add the runtime \
         again"
    )
}

impl BundleSource {
    /// Whether there is anything of the bundle that a manifest names.
    pub(super) fn is_there(context: &DeviceContext, named: &OsBundle) -> bool {
        let pool = ImagePool::open(context.base());
        let files = [
            named.image_id.file_name(),
            OsBundleChunks::file_name(&named.image_id),
        ];
        files.iter().any(|name| pool.file(name).exists())
    }

    /// The bundle that a manifest names, with the bytes that were signed.
    pub(super) fn open(context: &DeviceContext, named: &OsBundle) -> Result<Self, FailureReason> {
        let file = named.image_id.file_name();
        let mut pool = ImagePool::open(context.base());
        let chunks = pool.file(&OsBundleChunks::file_name(&named.image_id));
        if !pool.file(&file).exists() && chunks.exists() {
            let bundle = ChunkedBundle::read(&chunks, named)?;
            let contents = SlotContents::load(context.base());
            return if contents.knows(&named.image_id, bundle.sha256) {
                Ok(BundleSource::Slot(bundle))
            } else {
                Err(OsUpdateError::Refused(vec![not_in("neither slot has")]).into())
            };
        }
        pool.need(&RequiredImage::os_bundle(named))?;
        pool.remember();
        let bundle = BundleFile::open(&pool.file(&file))?;
        Ok(BundleSource::Pool(bundle))
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
