//! Fetching the files of extensions that come from elsewhere into `includes/<name>`: a checkout of a
//! git repository in this process, which has the user's keys, or a package of the feed.

mod checkout;
mod git;
#[cfg(test)]
mod git_tests;

pub(crate) use checkout::Checkout;

use avocado_manifest::Name;
use avocado_project::SourceKind;

use crate::error::BuildError;
use crate::plan::Plan;
use crate::steps::install::{self, PackageTree};

/// Adds the fetching of an extension. A directory of this machine is used where it is.
pub(crate) fn plan(plan: &mut Plan<'_>, extension: &Name) -> Result<(), BuildError> {
    let Some(source) = plan.context.project.source(extension) else {
        return Ok(());
    };
    match &source.kind {
        SourceKind::Path { path } if path.is_dir() => Ok(()),
        SourceKind::Path { .. } => Err(BuildError::not_fetched(source)),
        SourceKind::Git { .. } => git::plan(plan, source),
        SourceKind::Package { .. } => {
            let tree = PackageTree::Include(extension.clone());
            install::plan_tree(plan, &tree).map(drop)
        }
    }
}
