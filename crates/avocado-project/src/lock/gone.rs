//! What a lock has of parts that its project does not have any more.

use std::collections::BTreeSet;

use super::document::TargetLock;
use super::locked_tree::{GIT_TYPE, PACKAGE_TYPES};
use super::sysroot::Sysroot;
use crate::model::Project;
use crate::phases::SourceKind;

impl TargetLock {
    /// Drops what is locked for trees that the project does not have, and answers with their names.
    /// What is locked for other hosts, and what is not known here, stays.
    pub(super) fn drop_gone(&mut self, project: &Project) -> Vec<String> {
        let mut gone = BTreeSet::new();
        for sysroot in self.sysroots() {
            if has(project, &sysroot) {
                continue;
            }
            gone.insert(sysroot.key());
            self.remove(&sysroot);
        }
        for (name, locked) in self.locked_sources() {
            let source = project.source(&name);
            // One of another kind would be taken for what is locked of this one.
            if !source.is_some_and(|source| is_of_kind(&source.kind, &locked)) {
                gone.insert(format!("the source of extensions/{name}"));
                self.forget_source(&name);
            }
        }
        gone.extend(self.drop_container_images(|extension, reference| {
            let mut extensions = project.extensions.iter();
            let found = extensions.find(|known| known.name.as_str() == extension);
            // One that is not here may have any.
            let is_absent = || {
                let mut sources = project.sources.iter();
                sources.any(|source| source.extension.as_str() == extension)
            };
            found.map_or_else(is_absent, |known| {
                let mut images = known.docker_images.iter();
                images.any(|image| image.reference() == reference)
            })
        }));
        gone.into_iter().collect()
    }
}

/// Whether a source that the lock has with this type is one of this kind. What nobody here writes or
/// reads stays beside a path, of which nothing is locked.
pub(super) fn is_of_kind(kind: &SourceKind, locked: &str) -> bool {
    let is_package = PACKAGE_TYPES.contains(&locked);
    match kind {
        SourceKind::Package { .. } => is_package,
        SourceKind::Git { .. } => locked == GIT_TYPE,
        SourceKind::Path { .. } => !is_package && locked != GIT_TYPE,
    }
}

fn has(project: &Project, sysroot: &Sysroot) -> bool {
    match sysroot {
        // Which hosts the project is built on, nobody can know.
        Sysroot::Sdk(_) => true,
        Sysroot::TargetSysroot => !project.sdk.compile.is_empty(),
        Sysroot::Rootfs | Sysroot::NamedRootfs(_) => {
            let mut names = project.rootfs.iter().map(|(name, _)| name);
            names.any(|name| Sysroot::rootfs(name) == *sysroot)
        }
        Sysroot::Initramfs | Sysroot::NamedInitramfs(_) => {
            let mut names = project.initramfs.iter().map(|(name, _)| name);
            names.any(|name| Sysroot::initramfs(name) == *sysroot)
        }
        // One that comes from elsewhere has its commit there as well, and so has a section.
        Sysroot::Extension(name) => {
            project.extension(name).is_some() || project.source(name).is_some()
        }
        Sysroot::Runtime(name) => project.runtime(name).is_some(),
        Sysroot::Include(name) => {
            let source = project.source(name);
            source.is_some_and(|source| matches!(source.kind, SourceKind::Package { .. }))
        }
    }
}
