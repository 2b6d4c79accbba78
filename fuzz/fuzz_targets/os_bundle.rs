//! The description of an OS bundle: what is read is written and read again as the same, and no name in it
//! leaves its directory.
#![no_main]

use std::path::{Component, Path};

use avocado_fuzz::told;
use avocado_manifest::os_bundle::OsBundleDescription;
use libfuzzer_sys::fuzz_target;

fn inside(name: impl AsRef<Path>) {
    let mut parts = name.as_ref().components();
    assert!(matches!(parts.next(), Some(Component::Normal(_))));
    assert!(parts.next().is_none());
}

fuzz_target!(|bytes: &[u8]| {
    let bundle = match OsBundleDescription::parse(bytes) {
        Ok(bundle) => bundle,
        Err(error) => return drop(told(&error)),
    };
    let written = bundle.to_json().expect("what is read can be written");
    let again = OsBundleDescription::parse(&written).expect("what we write, we read");
    assert_eq!(bundle, again);
    for artifact in bundle.update.iter().flat_map(|update| &update.artifacts) {
        inside(&artifact.file);
        inside(&artifact.partitions.first);
        inside(&artifact.partitions.second);
    }
});
