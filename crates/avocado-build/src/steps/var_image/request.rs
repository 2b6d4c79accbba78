//! The child's side of a var partition.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use avocado_backend::SOURCE_MOUNT;
use avocado_events::Event;
use avocado_manifest::{Digest, ImageId, Manifest, Name};
use avocado_project::VarFile;
use serde::{Deserialize, Serialize};

use super::super::extension_image::var_destination;
use super::super::hook::Hook;
use super::super::runtime_member::RuntimeMember;
use super::VarImageOutput;
use crate::containers;
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::images::btrfs::{self, BtrfsSpec};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, CopyModes, Tree};

/// A var partition, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VarImageRequest {
    pub(super) name: Name,
    /// Of the runtime that is staged.
    pub(super) manifest: FileDigest,
    pub(super) extensions: Vec<RuntimeMember>,
    /// The OS of the runtime, which a device can go back to without a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) os_bundle: Option<FileDigest>,
    pub(super) var_files: Vec<(VarFile, Digest)>,
    /// The store of container images that docker finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) containers: Option<FileDigest>,
    #[serde(default, skip_serializing_if = "BtrfsSpec::is_plain")]
    pub(super) filesystem: BtrfsSpec,
    pub(super) post_build: Option<Hook>,
    /// What that is told beside where things are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) told: BTreeMap<String, String>,
    /// The root metadata that its devices trust. It travels here and in no file of the state,
    /// where a hook that runs meanwhile could put another one.
    pub(super) anchor: String,
}

impl StepRequest for VarImageRequest {
    const KIND: &'static str = "var_image";
    // For what mkfs.btrfs cannot make; see `images::btrfs`.
    const LOOP_MOUNTS: bool = true;
    type Result = VarImageOutput;

    fn runs_hook(&self) -> bool {
        self.post_build.is_some()
    }

    fn work(self, context: &StepContext<'_>) -> Result<VarImageOutput, BuildError> {
        let layout = &context.layout;
        let place = layout.var_tree(&self.name);
        let var = trees::unfinished(&place);
        trees::fresh(&var)?;
        let manifest = self.manifest(context)?;
        self.stage(context, &var, &manifest)?;
        self.seed(context, &var)?;
        if let Some(store) = &self.containers {
            self.unpack_containers(context, store, &var)?;
        }
        let tree = Tree::open(&var)?;
        for subvolume in &self.filesystem.subvolumes {
            tree.make_directories(&subvolume.path)?;
        }
        trees::replace(&var, &place)?;
        if let Some(hook) = &self.post_build {
            let name = self.name.as_str();
            let runtime = layout.runtime(&self.name);
            let mut variables: Vec<(&str, &OsStr)> = vec![
                ("AVOCADO_RUNTIME", name.as_ref()),
                ("AVOCADO_RUNTIME_NAME", name.as_ref()),
                ("AVOCADO_RUNTIME_BUILD_DIR", runtime.as_os_str()),
            ];
            let told = self.told.iter();
            variables.extend(told.map(|(name, value)| (name.as_str(), value.as_ref())));
            hook.run(
                context,
                &format!("runtime build {name} post_build"),
                &variables,
            )?;
        }
        let image_place = layout.var_image(&self.name);
        let new = trees::unfinished(&image_place);
        btrfs::write(context, &self.filesystem, &place, &new)?;
        let image = FileDigest::of(&new)?;
        trees::replace(&new, &image_place)?;
        Ok(VarImageOutput { image })
    }
}

impl VarImageRequest {
    /// The manifest of the runtime, if it is still what was made.
    fn manifest(&self, context: &StepContext<'_>) -> Result<Manifest, BuildError> {
        let path = context.layout.manifest(&self.name);
        let bytes = fs::read(&path).at("read", &path)?;
        if Digest::of(&bytes) != self.manifest.sha256 {
            return Err(BuildError::Changed { path });
        }
        Manifest::parse(&bytes)
            .map_err(|e| BuildError::Invalid(format!("{} is no manifest: {e}", path.display())))
    }

    /// The device's store, with this runtime staged and active.
    fn stage(
        &self,
        context: &StepContext<'_>,
        var: &Path,
        manifest: &Manifest,
    ) -> Result<(), BuildError> {
        let base = var.join("lib/avocado");
        let images = base.join("images");
        fs::create_dir_all(&images).at("create", &images)?;
        for member in &self.extensions {
            let from = context
                .layout
                .extension_image(&member.name, &member.version);
            let id = ImageId::from_digest(member.image.image.sha256);
            let to = images.join(id.file_name());
            member.image.image.check(&from)?;
            // Two extensions of one content share one image, here as on the device.
            if !to.exists() {
                fs::hard_link(&from, &to).at("link", &from)?;
            }
        }
        if let Some(bundle) = &self.os_bundle {
            let from = context.layout.os_bundle(&self.name);
            bundle.check(&from)?;
            let to = images.join(ImageId::from_digest(bundle.sha256).file_name());
            fs::hard_link(&from, &to).at("link", &from)?;
        }
        let runtime = base.join("runtimes").join(&manifest.id);
        trees::write(&runtime.join("manifest.json"), manifest.to_json()?)?;
        let active = base.join("active");
        symlink(Path::new("runtimes").join(&manifest.id), &active).at("create", &active)?;
        for name in ["root.json", "1.root.json"] {
            trees::write(&base.join("metadata").join(name), &self.anchor)?;
        }
        Ok(())
    }

    /// Beside what else is there for docker, with the files of the store as they have to be.
    fn unpack_containers(
        &self,
        context: &StepContext<'_>,
        store: &FileDigest,
        var: &Path,
    ) -> Result<(), BuildError> {
        let Some(loop_mounts) = context.loop_mounts else {
            let what = "this backend does not let a step unpack container images";
            return Err(BuildError::Invalid(what.to_owned()));
        };
        let archive = context.layout.container_store(&self.name);
        store.check(&archive)?;
        let tree = Tree::open(var)?;
        for part in containers::PARTS {
            let place = Path::new(containers::PLACE).join(part);
            if tree.look(&place)?.is_some() {
                return Err(BuildError::Invalid(format!(
                    "/{} on the var partition is among the `var_files`, and the runtime has `docker_images`, \
                     which are in the same place: leave out one of both",
                    place.display()
                )));
            }
        }
        tree.make_directories(Path::new(containers::PLACE))?;
        btrfs::has_directory(var, Path::new(containers::PLACE))?;
        let place = var.join(containers::PLACE);
        containers::unpack(loop_mounts, &archive, &place, context.sink)
    }

    /// Files for the var partition. The last extension comes first, so that the first wins; what
    /// the runtime itself states wins over all.
    fn seed(&self, context: &StepContext<'_>, var: &Path) -> Result<(), BuildError> {
        let var = Tree::open(var)?;
        for member in self.extensions.iter().rev() {
            let root = Tree::open(&context.layout.extension(&member.name))?;
            member.image.check_var_content(&root)?;
            for path in &member.image.var_paths {
                let destination = var_destination(path);
                trees::make_parents(&root, path, &var, destination)?;
                trees::copy(&root.shown(path), &var, destination, CopyModes::Keep)?;
            }
        }
        for (file, _) in &self.var_files {
            let source = Path::new(SOURCE_MOUNT).join(&file.source);
            let from = trees::of_project(&source)?;
            let mut to = file.dest.clone();
            // As `cp` does: a file goes into a directory that is named as the destination.
            let into = to.as_os_str().to_string_lossy().ends_with('/') || var.is_directory(&to);
            if from.is_file()
                && into
                && let Some(name) = source.file_name()
            {
                to.push(name);
            }
            if let Some(parent) = to.parent() {
                var.make_directories(parent)?;
            }
            let what = format!("`{}` of var_files", file.source.display());
            for told in trees::lost_in_clones(&what, &from, context.modes)? {
                context.sink.emit(Event::warning(told));
            }
            trees::copy(&from, &var, &to, context.modes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use avocado_events::Silent;
    use avocado_manifest::{MANIFEST_VERSION, RuntimeId, RuntimeLabel};
    use serde_json::json;

    use super::super::super::extension_image::{ExtensionImageOutput, ExtensionImageRequest};
    use super::*;
    use crate::layout::Layout;

    /// A runtime of one extension, `app`, which has this output.
    fn request(image: &ExtensionImageOutput, manifest: FileDigest) -> VarImageRequest {
        VarImageRequest {
            told: BTreeMap::new(),
            name: "dev".parse().unwrap(),
            manifest,
            extensions: vec![RuntimeMember {
                name: "app".parse().unwrap(),
                version: "1.0.0".parse().unwrap(),
                enabled: true,
                sysext: true,
                confext: false,
                enable_services: Vec::new(),
                image: image.clone(),
            }],
            os_bundle: None,
            var_files: Vec::new(),
            containers: None,
            filesystem: BtrfsSpec::default(),
            post_build: None,
            anchor: "the anchor".into(),
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            manifest_version: MANIFEST_VERSION,
            id: RuntimeId::from_digest(Digest::of(b"")),
            built_at: "2026-01-01T00:00:00Z".into(),
            runtime: RuntimeLabel {
                name: "dev".into(),
                version: "1".into(),
            },
            rootfs: None,
            initramfs: None,
            kernel: None,
            extensions: Vec::new(),
            os_bundle: None,
        }
    }

    /// Hooks of other steps run meanwhile, and can write everywhere in the state.
    #[test]
    fn the_store_has_what_was_made_and_no_file_that_a_hook_put_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let context = StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: Layout::new(directory.path(), &"t".parse().unwrap()),
            host_layout: Layout::new(directory.path(), &"t".parse().unwrap()),
            epoch: 1,
            modes: CopyModes::Keep,
            sink: &Silent,
            loop_mounts: None,
        };
        let (layout, name) = (&context.layout, "app".parse().unwrap());
        let tree = Tree::fresh(&layout.extension(&name)).unwrap();
        let write = |text: &str, time| {
            tree.write("var/lib/app/seed", text, 0o644).unwrap();
            tree.set_time("var/lib/app/seed", time).unwrap();
        };
        write("made", 1);
        let image = json!({
            "name": name,
            "version": "1.0.0",
            "filesystem": "cpio",
            "var_files": ["var/lib/app"],
            "source_date_epoch": 1,
            "sysroot": trees::digest_with_times(tree.path()).unwrap(),
        });
        let image: ExtensionImageRequest = serde_json::from_value(image).unwrap();
        let image = image.work(&context).unwrap();
        let manifest_place = layout.manifest(&"dev".parse().unwrap());
        let made = manifest().to_json().unwrap();
        trees::write(&manifest_place, &made).unwrap();
        let request = request(&image, FileDigest::of(&manifest_place).unwrap());
        let var = directory.path().join("var");
        let assemble = || {
            trees::fresh(&var)?;
            request.stage(&context, &var, &request.manifest(&context)?)?;
            request.seed(&context, &var)
        };

        trees::write(&layout.work("dev.root.json"), "another").unwrap();
        assemble().unwrap();
        for anchor in ["root.json", "1.root.json"] {
            let anchor = var.join("lib/avocado/metadata").join(anchor);
            assert_eq!(fs::read_to_string(anchor).unwrap(), "the anchor");
        }
        let seed = fs::read_to_string(var.join("lib/app/seed")).unwrap();
        assert_eq!(seed, "made");

        for (text, time) in [("another", 1), ("made", 2)] {
            write(text, time);
            let error = assemble().unwrap_err();
            assert!(matches!(&error, BuildError::Changed { path } if path == tree.path()));
        }
        write("made", 1);
        assemble().unwrap();

        trees::write(&manifest_place, "{}").unwrap();
        let error = assemble().unwrap_err();
        assert!(matches!(&error, BuildError::Changed { path } if *path == manifest_place));
        trees::write(&manifest_place, &made).unwrap();
        assemble().unwrap();

        let file = layout.extension_image(&name, &"1.0.0".parse().unwrap());
        trees::write(&file, "another").unwrap();
        let error = assemble().unwrap_err();
        assert!(matches!(&error, BuildError::Changed { path } if *path == file));
    }
}
