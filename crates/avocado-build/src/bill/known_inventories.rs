//! What is in images, read once for each: unpacking one takes long.

use std::fs;
use std::path::Path;

use avocado_sbom::ImageInventory;
use serde::{Deserialize, Serialize};

use super::image_reader;
use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;
use crate::trees;

/// Counts how often the same image came to have another inventory.
const REVISION: u32 = 1;

/// An inventory that is kept. Each image has one place for it, whatever it has been before.
#[derive(Serialize, Deserialize)]
struct KnownInventory {
    revision: u32,
    /// Of the image.
    sha256: String,
    inventory: ImageInventory,
}

/// What is in the image at `path`, which has this digest.
pub(super) fn read(
    context: &StepContext<'_>,
    path: &Path,
    sha256: &str,
) -> Result<ImageInventory, BuildError> {
    let place = context.layout.inventory(path);
    // One that cannot be read, or was cut off, is made again.
    let before = fs::read(&place).ok();
    let before = before.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_good = |known: &KnownInventory| known.revision == REVISION && known.sha256 == sha256;
    if let Some(known) = before.filter(is_good) {
        return Ok(known.inventory);
    }
    let known = KnownInventory {
        revision: REVISION,
        sha256: sha256.to_owned(),
        inventory: image_reader::read(context, path)?,
    };
    let text = serde_json::to_vec(&known).map_err(|e| {
        BuildError::Invalid(format!(
            "what is in {} has no JSON form: {e}",
            path.display()
        ))
    })?;
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    trees::write(&place, text)?;
    Ok(known.inventory)
}

#[cfg(test)]
mod tests {
    use avocado_project::Filesystem;
    use serde_json::Value;

    use super::*;
    use crate::images;
    use crate::layout::Layout;
    use crate::trees::{CopyModes, TreeFeatures};

    #[test]
    fn an_image_is_read_again_when_it_or_the_reader_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        let context = StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: layout.clone(),
            host_layout: layout.clone(),
            epoch: 0,
            modes: CopyModes::Checkout(0o644),
            sink: &avocado_events::Silent,
            loop_mounts: None,
        };
        let root = directory.path().join("root");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("a"), "a").unwrap();
        let name = "x".parse().unwrap();
        let image = layout.os_image("initramfs", &name, "cpio");
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        let features = TreeFeatures::default();
        images::write(&context, Filesystem::Cpio, &root, &features, &image, &[]).unwrap();
        let paths = |sha256: &str| {
            let inventory = read(&context, &image, sha256).unwrap();
            let files = inventory.files.into_iter();
            files.map(|file| file.path).collect::<Vec<_>>()
        };
        assert_eq!(paths("1"), ["a"]);

        // Whatever is known is believed, until it is of something else.
        let place = layout.inventory(&image);
        let mut known: Value = serde_json::from_slice(&fs::read(&place).unwrap()).unwrap();
        known["inventory"]["files"][0]["path"] = "known".into();
        for (key, value) in [
            ("sha256", Value::from("1")),
            ("sha256", "2".into()),
            ("revision", (REVISION + 1).into()),
            ("inventory", Value::Null),
        ] {
            let mut kept = known.clone();
            kept[key] = value;
            let is_same = kept == known;
            fs::write(&place, kept.to_string()).unwrap();
            let expected = if is_same { "known" } else { "a" };
            assert_eq!(paths("1"), [expected], "{key}");
        }
        // There is one for each image, and not for each content.
        assert_eq!(paths("3"), ["a"]);
        let kept = fs::read_dir(place.parent().unwrap()).unwrap();
        assert_eq!(kept.count(), 1);
    }
}
