//! `avocado rootfs list` and `avocado initramfs list`: the packages that are installed.

use avocado_project::PackageScope;

use crate::failure::Result;
use crate::session::Session;

#[cfg(target_os = "linux")]
pub(super) fn run(session: &Session, scope: &PackageScope) -> Result<()> {
    use super::build_run::{cancellable, failure, options};

    let options = options(session)?;
    let cancel = cancellable(session)?;
    let trees = avocado_build::installed_packages(&options, scope, &cancel, &*session.output);
    let trees = trees.map_err(|e| failure(&e))?;
    session.output.answer(&trees, || {
        let rows = trees.iter().flat_map(|tree| {
            let missing = tree.packages.is_none().then(|| {
                let name = tree.name.clone();
                [name, "(not installed)".to_owned(), "-".to_owned()]
            });
            let packages = tree.packages.iter().flatten();
            let packages = packages
                .map(|(package, version)| [tree.name.clone(), package.clone(), version.clone()]);
            missing.into_iter().chain(packages)
        });
        avocado_text::table(["OF", "PACKAGE", "VERSION"], rows, None)
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Session, _: &PackageScope) -> Result<()> {
    Err(super::only_on_linux("… list"))
}
