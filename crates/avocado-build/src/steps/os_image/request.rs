//! The child's side of an OS image.

use std::path::Path;

use avocado_events::Event;
use avocado_manifest::Name;
use avocado_project::{Filesystem, Permissions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::PACKAGE_STATE;
use super::super::compiled_package::CompiledPackage;
use super::super::hook::Hook;
use super::super::overlay::{CopiedOverlay, OverlayFiles};
use super::finish::{finish_initramfs, finish_rootfs};
use super::release::release_value;
use super::{OsImageOutput, OsPart};
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, CopyModes, Tree, passwd};

/// The namespace of OS build ids, as published.
const BUILD_ID_NAMESPACE: Uuid = Uuid::NAMESPACE_DNS;

/// An OS image, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OsImageRequest {
    pub(super) part: OsPart,
    /// Which of the project's rootfs or initramfs.
    pub(super) name: Name,
    pub(super) filesystem: Filesystem,
    /// Those of its packages that the project compiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) compiled: Vec<CompiledPackage>,
    pub(super) overlay: Option<OverlayFiles>,
    pub(super) post_install: Option<Hook>,
    pub(super) permissions: Option<Permissions>,
    pub(super) runtime: Name,
    pub(super) runtime_version: Option<String>,
    pub(super) source_date_epoch: u64,
    /// What `AVOCADO_OS_BUILD_ID` follows from: everything that shapes the image. What scripts make
    /// of it is found out by running them, and added then.
    pub(super) build_id_source: String,
}

impl StepRequest for OsImageRequest {
    const KIND: &'static str = "os_image";
    type Result = OsImageOutput;

    fn runs_hook(&self) -> bool {
        self.post_install.is_some() || !self.compiled.is_empty()
    }

    fn work(self, context: &StepContext<'_>) -> Result<OsImageOutput, BuildError> {
        let prepared = self.prepare(context);
        let PreparedRoot {
            tree: root,
            build_id,
            overlay,
        } = prepared.map_err(|error| match &self.overlay {
            Some(overlay) => overlay.blamed_for(error),
            None => error,
        })?;
        let extension = images::extension(self.filesystem);
        let layout = &context.layout;
        let packages = layout.os_tree(self.part.as_str(), &self.name);
        let features = trees::settle(&root, Some(&packages), context.epoch)?;
        let place = layout.os_image(self.part.as_str(), &self.runtime, extension);
        let new = trees::unfinished(&place);
        images::write(context, self.filesystem, root.path(), &features, &new, &[])?;
        let image_file = FileDigest::of(&new)?;
        trees::replace(&new, &place)?;
        let mut releases = self.part.releases().iter();
        let version = releases
            .find_map(|file| release_value(&root, file, "VERSION_ID").transpose())
            .transpose()?;
        let states_build_id = !self.part.release_files(&root)?.is_empty();
        trees::clear(root.path())?;
        Ok(OsImageOutput {
            image: image_file,
            version,
            build_id,
            states_build_id,
            overlay,
            warnings: Vec::new(),
        })
    }
}

/// What an image is written of.
struct PreparedRoot {
    tree: Tree,
    build_id: String,
    /// What was laid over it.
    overlay: Option<CopiedOverlay>,
}

impl OsImageRequest {
    /// A copy of the installed tree with overlay, users and groups, made fit by the user's hook or
    /// else by what is built in, and with our keys in its release files.
    fn prepare(&self, context: &StepContext<'_>) -> Result<PreparedRoot, BuildError> {
        let (root, overlay) = self.assemble(context)?;
        let mut source = self.build_id_source.clone();
        if self.runs_hook() {
            // What a script read is nowhere to be seen but in what it made.
            source += &trees::digest(root.path(), CopyModes::Keep)?.to_string();
        }
        let build_id = Uuid::new_v5(&BUILD_ID_NAMESPACE, source.as_bytes()).to_string();
        for file in self.part.release_files(&root)? {
            self.extend_release(&root, file, &build_id)?;
        }
        Ok(PreparedRoot {
            tree: root,
            build_id,
            overlay,
        })
    }

    fn assemble(
        &self,
        context: &StepContext<'_>,
    ) -> Result<(Tree, Option<CopiedOverlay>), BuildError> {
        let part = self.part.as_str();
        let place = context
            .layout
            .work(&format!("{part}-image-{}", self.runtime));
        let root = Tree::fresh(&place)?;
        let packages = context.layout.os_tree(part, &self.name);
        trees::copy(&packages, &root, Path::new(""), CopyModes::Keep)?;
        for state in PACKAGE_STATE {
            root.clear(state)?;
        }
        let variable = format!("AVOCADO_{}_SYSROOT", part.to_uppercase());
        for package in &self.compiled {
            package.install(
                context,
                &format!("{part} image {}", self.runtime),
                &[
                    (&variable, place.as_os_str()),
                    // The same script installs into an extension.
                    ("AVOCADO_BUILD_EXT_SYSROOT", place.as_os_str()),
                ],
            )?;
        }
        // A script may have put another directory there.
        let root = Tree::open(&place)?;
        let mut copied = None;
        if let Some(overlay) = &self.overlay {
            overlay.tell_of_losses(context)?;
            copied = Some(overlay.apply(context, &root, None)?);
        }
        if let Some(permissions) = &self.permissions {
            for told in passwd::apply(&root, permissions)? {
                context.sink.emit(Event::warning(told));
            }
        }
        match (&self.post_install, self.part) {
            (Some(hook), _) => {
                let root = place.as_os_str();
                let log = format!("{part} image {} post_install", self.runtime);
                hook.run(
                    context,
                    &log,
                    &[(&variable, root), ("AVOCADO_BUILD_DIR", root)],
                )?;
                // The hook may have put another directory there.
                return Ok((Tree::open(&place)?, copied));
            }
            (None, OsPart::Rootfs) => finish_rootfs(context, &root)?,
            (None, OsPart::Initramfs) => finish_initramfs(&root)?,
        }
        Ok((root, copied))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use avocado_manifest::Digest;

    use super::*;
    use crate::layout::Layout;

    #[test]
    fn what_is_laid_over_an_image_is_told_as_it_was_then() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(&directory.path().join("state"), &"t".parse().unwrap());
        fs::create_dir_all(layout.os_tree("initramfs", &"default".parse().unwrap())).unwrap();
        let overlay = directory.path().join("overlay");
        fs::create_dir_all(overlay.join("etc")).unwrap();
        fs::write(overlay.join("etc/key"), "1").unwrap();
        let context = StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: layout.clone(),
            host_layout: layout,
            epoch: 0,
            modes: CopyModes::Checkout(0o644),
            sink: &avocado_events::Silent,
            loop_mounts: None,
        };
        let described = trees::digest(&overlay, context.modes).unwrap();
        let filled = Digest::of(br#"[{"path":"etc/name","text":"1"}]"#);
        let request: OsImageRequest = serde_json::from_value(serde_json::json!({
            "part": "initramfs", "name": "default", "filesystem": "cpio",
            "overlay": {
                "project": directory.path(), "dir": "overlay", "content": described,
                "filled": filled, "texts": [{"path": "etc/name", "text": "1"}],
            },
            "post_install": null, "permissions": null, "runtime": "dev", "runtime_version": null,
            "source_date_epoch": 0, "build_id_source": "",
        }))
        .unwrap();
        let is_described = |request: &OsImageRequest| {
            let copied = request.prepare(&context).unwrap().overlay;
            request.overlay.as_ref().unwrap().is(copied)
        };
        assert!(is_described(&request));
        // What was to be filled in may have been another text when it was.
        let mut other = serde_json::to_value(&request).unwrap();
        other["overlay"]["texts"][0]["text"] = "2".into();
        assert!(!is_described(&serde_json::from_value(other).unwrap()));
        fs::write(overlay.join("etc/key"), "2").unwrap();
        assert!(!is_described(&request));
        fs::write(overlay.join("etc/key"), "1").unwrap();
        assert!(is_described(&request));
        let request = OsImageRequest {
            overlay: None,
            ..request
        };
        assert_eq!(request.prepare(&context).unwrap().overlay, None);
    }
}
