//! The users and groups that an extension states: the old place for them, where many projects give
//! root its password. On a device its `/etc/passwd`, `/etc/shadow` and `/etc/group` take the place
//! of those of the rootfs, so they have all that the rootfs has as well.

use std::path::Path;

use avocado_events::{Event, Silent};
use avocado_manifest::Name;
use avocado_project::{Extension, Permissions};
use serde::{Deserialize, Serialize};

use super::overlay::{CopiedOverlay, OverlayFiles};
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::step_context::StepContext;
use crate::trees::{Tree, clear, passwd};

/// The files that say who there is, with their modes.
const FILES: [(&str, u32); 3] = [
    ("etc/passwd", 0o644),
    ("etc/shadow", 0o640),
    ("etc/group", 0o644),
];

/// What the users and groups of an extension are made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ExtensionAccounts {
    own: Permissions,
    /// The rootfs that has the others.
    rootfs: Name,
    rootfs_overlay: Option<OverlayFiles>,
    rootfs_permissions: Option<Permissions>,
}

impl ExtensionAccounts {
    /// Those of an extension that is made for this rootfs; `None` where it states none.
    pub(super) fn new(
        context: &BuildContext<'_>,
        extension: &Extension,
        rootfs: &Name,
    ) -> Result<Option<Self>, BuildError> {
        let Some(own) = &extension.permissions else {
            return Ok(None);
        };
        let os = context.os_image("rootfs", rootfs)?;
        let overlay = os.overlay.as_ref();
        Ok(Some(ExtensionAccounts {
            own: own.value.clone(),
            rootfs: rootfs.clone(),
            rootfs_overlay: overlay
                .map(|o| OverlayFiles::new(context, &context.files_at(&o.place.file), o))
                .transpose()?,
            rootfs_permissions: os.permissions.clone(),
        }))
    }

    /// What the rootfs lays over its packages: the users that are in it count.
    pub(super) fn rootfs_overlay(&self) -> Option<&OverlayFiles> {
        self.rootfs_overlay.as_ref()
    }

    /// Puts in the files in which references are filled in, for the way to the step. The image of the
    /// rootfs tells what there is to tell of them.
    pub(super) fn fill(&mut self, context: &BuildContext<'_>) -> Result<(), BuildError> {
        let os = context.os_image("rootfs", &self.rootfs)?;
        if let (Some(files), Some(overlay)) = (&mut self.rootfs_overlay, &os.overlay) {
            let place = context.files_at(&overlay.place.file);
            files.fill(context, &place, overlay, &Silent)?;
        }
        Ok(())
    }

    /// Writes the files into the tree of the extension `name`. What the extension itself brings of
    /// them is what it means; the rest is as the rootfs has it. Returns what the overlay of the rootfs
    /// was then.
    pub(super) fn apply(
        &self,
        context: &StepContext<'_>,
        name: &Name,
        root: &Tree,
    ) -> Result<Option<CopiedOverlay>, BuildError> {
        let place = context.layout.work(&format!("accounts-{name}"));
        let like_rootfs = Tree::fresh(&place)?;
        let packages = Tree::open(&context.layout.os_tree("rootfs", &self.rootfs))?;
        copy_missing(&packages, &like_rootfs)?;
        let copied = match &self.rootfs_overlay {
            Some(overlay) => Some(overlay.apply(context, &like_rootfs, None)?),
            None => None,
        };
        if let Some(permissions) = &self.rootfs_permissions {
            // The image of the rootfs tells what there is to tell.
            let _ = passwd::apply(&like_rootfs, permissions)?;
        }
        copy_missing(&like_rootfs, root)?;
        clear(&place)?;
        for told in passwd::apply(root, &self.own)? {
            let told = format!("users of extension `{name}`: {told}");
            context.sink.emit(Event::warning(told));
        }
        Ok(copied)
    }
}

fn copy_missing(from: &Tree, to: &Tree) -> Result<(), BuildError> {
    for (file, mode) in FILES {
        if to.has(file) {
            continue;
        }
        if let Some(text) = from.read(file)? {
            to.make_directories(Path::new("etc"))?;
            to.write(file, text, mode)?;
        }
    }
    Ok(())
}
