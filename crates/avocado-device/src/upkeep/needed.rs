use std::collections::BTreeSet;
use std::sync::Arc;

use avocado_manifest::Manifest;
use avocado_manifest::os_bundle::OsBundleChunks;

use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::merge::state::MergedState;
use crate::store::pool::RequiredImage;
use crate::store::standalone;

/// What of the pool must stay.
pub(super) struct NeededFiles {
    /// Names without what follows the last dot: older agents have other files beside an image,
    /// which differ in that.
    stems: BTreeSet<String>,
}

impl NeededFiles {
    /// What `runtimes` need, what is enabled for any release of the operating system, and what is
    /// merged.
    pub(super) fn of(
        context: &DeviceContext,
        runtimes: &[Arc<Manifest>],
    ) -> Result<Self, FailureReason> {
        let mut files = files_of(runtimes);
        files.extend(standalone::files_of_all_releases(context.base())?);
        if runtimes.is_empty() && !standalone::is_any_release_known(context.base()) {
            // A device without runtimes merges everything that has a name, at each boot.
            let all = standalone::in_pool(context.base())?.into_iter();
            files.extend(all.filter_map(|e| Some(e.path.file_name()?.to_str()?.to_owned())));
        }
        let merged = MergedState::load(&context.paths.merged()).extensions;
        let merged = merged.iter().map(|e| &e.image.file);
        files.extend(merged.filter_map(|f| Some(f.file_name()?.to_str()?.to_owned())));
        Ok(NeededFiles::new(&files))
    }

    /// What `runtimes` need.
    pub(super) fn of_runtimes(runtimes: &[Arc<Manifest>]) -> Self {
        NeededFiles::new(&files_of(runtimes))
    }

    fn new(files: &[String]) -> Self {
        let stems = files.iter().map(|file| stem(file).to_owned());
        NeededFiles {
            stems: stems.collect(),
        }
    }

    /// Whether a file of the pool must stay.
    pub(super) fn contains(&self, file: &str) -> bool {
        self.stems.contains(stem(file))
    }
}

fn files_of(runtimes: &[Arc<Manifest>]) -> Vec<String> {
    let images = runtimes.iter().flat_map(|m| RequiredImage::of(m));
    let bundles = runtimes.iter().filter_map(|m| m.os_bundle.as_ref());
    let indexes = bundles.map(|bundle| OsBundleChunks::file_name(&bundle.image_id));
    images.map(|wanted| wanted.file).chain(indexes).collect()
}

/// `x` of `x.raw`.
fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}
