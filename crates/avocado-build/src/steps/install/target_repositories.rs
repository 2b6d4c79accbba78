//! The configuration of the target's repositories, which the feed has as a package.

use std::path::Path;

use avocado_project::PackageHeaders;

use super::spec::{InstallSpec, repositories_package};
use crate::error::{At as _, BuildError};
use crate::packages::dnf::{DatabasePlace, Dnf, RepositoryView};
use crate::packages::feed::FeedAccess;
use crate::packages::installed;
use crate::step_context::StepContext;
use crate::trees::{self, Tree};

impl InstallSpec {
    /// The repository configuration of the target comes in a package, which comes first.
    pub(super) fn bootstrap(
        &self,
        context: &StepContext<'_>,
        access: &FeedAccess,
    ) -> Result<PackageHeaders, BuildError> {
        let layout = &context.layout;
        let root = layout.work("bootstrap");
        trees::fresh(&root)?;
        let dnf = Dnf::new(layout, access, RepositoryView::Bootstrap, &root, false)?;
        let package = repositories_package(&context.target);
        dnf.install(&[self.spec(&package, "*")], context.sink)?;
        let brought = dnf.installed(context.sink)?;
        installed::check(&brought, &self.headers)?;
        dnf.finish(&DatabasePlace::Tree)?;
        let root = Tree::open(&root)?;
        if !root.is_directory("target-repoconf") {
            return Err(BuildError::Invalid(format!(
                "package {package} holds no target-repoconf directory"
            )));
        }
        let conf = root.resolve("target-repoconf")?;
        refuse_links(&package, &conf)?;
        let place = layout.target_repoconf();
        let new = Tree::fresh(&trees::unfinished(&place))?;
        trees::copy(&conf, &new, Path::new(""), trees::CopyModes::Keep)?;
        trees::replace(new.path(), &place)?;
        Ok(brought)
    }
}

/// dnf reads these files itself, from where a link would lead it on this host.
fn refuse_links(package: &str, conf: &Path) -> Result<(), BuildError> {
    for entry in walkdir::WalkDir::new(conf) {
        let entry = entry.map_err(std::io::Error::from).at("read", conf)?;
        if !entry.file_type().is_dir() && !entry.file_type().is_file() {
            let path = entry.path().strip_prefix(conf).unwrap_or(entry.path());
            return Err(BuildError::Invalid(format!(
                "package {package} has a link or a device at target-repoconf/{}, where only files may be",
                path.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn repository_configuration_is_made_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let conf = Tree::fresh(&directory.path().join("conf")).unwrap();
        conf.write("etc/yum.repos.d/a.repo", "[a]\n", 0o644)
            .unwrap();
        refuse_links("p", conf.path()).unwrap();
        for path in ["etc/dnf/vars/arch", "etc/yum.repos.d/b.repo", "etc/pki"] {
            conf.symlink("/etc/hostname", path).unwrap();
            let error = refuse_links("p", conf.path()).unwrap_err().to_string();
            assert!(
                error.contains(path) && error.contains("package p"),
                "{error}"
            );
            conf.clear(path).unwrap();
        }
    }
}
