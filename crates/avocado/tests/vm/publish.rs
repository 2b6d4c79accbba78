use std::fs;

use serde_json::{Value, json};

use crate::Place;

#[test]
fn what_is_published_is_signed_and_can_be_installed() {
    let place = Place::new();
    let server = place.serve();
    let mut keys = place.avocado(&["signing-keys", "create", "vm-key"]);
    place.end(&mut keys).ok();
    let publish = |source: &str| {
        let www = place.path("www");
        let source = place.path(source);
        let (www, source) = (www.to_str().unwrap(), source.to_str().unwrap());
        let args = ["publish", www, "--vm-source", source, "--key", "vm-key"];
        place.end(&mut place.command(&args))
    };
    place.image("one", "1.0");
    place.image("two", "2.0");
    let done = publish("one").ok().stderr;
    assert!(done.contains("channel stable has version 1.0"), "{done}");
    let root = "www/stable/avocado-qemux86-64/metadata/1.root.json";
    fs::create_dir_all(place.path("home/.avocado")).unwrap();
    fs::copy(place.path(root), place.path("home/.avocado/root.json")).unwrap();
    let config = "vm:\n  channel_root: root.json\n";
    fs::write(place.path("home/.avocado/config.yaml"), config).unwrap();
    place.update(&server, &["-y"]).ok();
    assert_eq!(place.installed(), "1.0");

    publish("two").ok();
    // Once more is no harm: it may have been interrupted.
    publish("two").ok();
    place.update(&server, &["-y"]).ok();
    assert_eq!(place.installed(), "2.0");

    // A version stays what it was.
    let index = fs::read(place.path("www/stable.json")).unwrap();
    let manifest = place.path("two/manifest.json");
    let mut other: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    other["cmdline_default"] = json!("debug");
    fs::write(&manifest, other.to_string()).unwrap();
    let refused = publish("two").failed(1).stderr;
    assert!(refused.contains("a version is published once"), "{refused}");
    // Nor does what is damaged get a signature.
    place.image("three", "3.0");
    fs::write(place.path("three/kernel.img"), "other").unwrap();
    let refused = publish("three").failed(1).stderr;
    assert!(refused.contains("kernel.img is damaged"), "{refused}");
    assert_eq!(fs::read(place.path("www/stable.json")).unwrap(), index);
    place.update(&server, &["-y"]).ok();
    assert_eq!(place.installed(), "2.0");
}

#[test]
fn a_channel_that_is_not_signed_does_not_become_one_half_signed() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let index = fs::read_to_string(place.path("www/stable.json")).unwrap();
    let index = index.replace("avocado-qemux86-64", "avocado-qemuarm64");
    fs::write(place.path("www/stable.json"), &index).unwrap();
    let mut keys = place.avocado(&["signing-keys", "create", "vm-key"]);
    place.end(&mut keys).ok();
    place.image("one", "1.0");
    let (www, source) = (place.path("www"), place.path("one"));
    let (www, source) = (www.to_str().unwrap(), source.to_str().unwrap());
    let args = ["publish", www, "--vm-source", source, "--key", "vm-key"];
    let refused = place.end(&mut place.command(&args)).failed(1).stderr;
    let why = "stable.json has an image for avocado-qemuarm64 that is not signed";
    assert!(refused.contains(why), "{refused}");
    assert_eq!(
        fs::read_to_string(place.path("www/stable.json")).unwrap(),
        index
    );
}
