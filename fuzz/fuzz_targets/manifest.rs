//! A manifest: what is read is written and read again as the same, and no name in it leaves its
//! directory.
#![no_main]

use std::path::{Component, Path};

use avocado_fuzz::told;
use avocado_manifest::{Digest, Manifest};
use libfuzzer_sys::fuzz_target;

fn inside(name: impl AsRef<Path>) {
    let mut parts = name.as_ref().components();
    assert!(matches!(parts.next(), Some(Component::Normal(_))));
    assert!(parts.next().is_none());
}

fuzz_target!(|bytes: &[u8]| {
    let manifest = match Manifest::parse(bytes) {
        Ok(manifest) => manifest,
        Err(error) => return drop(told(&error)),
    };
    let again = Manifest::parse(&manifest.to_json().unwrap()).expect("what we write, we read");
    assert_eq!(manifest, again);
    assert_eq!(manifest.content_id().unwrap(), again.content_id().unwrap());
    assert_eq!(
        manifest.content_id().unwrap().as_str().len(),
        Digest::of(b"").to_string().len()
    );
    inside(&manifest.id);
    assert!(!manifest.id.short().is_empty());
    for extension in &manifest.extensions {
        inside(&extension.name);
        inside(&extension.version);
        extension
            .image_id
            .iter()
            .for_each(|id| inside(id.file_name()));
    }
    manifest
        .os_bundle
        .iter()
        .for_each(|bundle| inside(bundle.image_id.file_name()));
});
