//! What a build states of how a runtime was made, verified by us and by others.

mod common;

use std::fs;
use std::path::Path;

use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use common::{Sandbox, cannot_build};
use serde_json::Value;

const TARGET: &str = "provenance.intoto.jsonl";
/// What stands before the 32 bytes of a public Ed25519 key in its DER form (RFC 8410).
const PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What a text of base64 stands for, in the file `name` of `work` as well.
fn decoded(text: &str, work: &Path, name: &str) -> Vec<u8> {
    ToolCall::new("openssl")
        .args(["base64", "-d", "-A", "-out", name])
        .directory(work)
        .input(text.trim())
        .ok()
        .unwrap();
    fs::read(work.join(name)).unwrap()
}

/// The payload of an envelope, once `openssl` says that the key in `public` signed it.
fn verified_by_openssl(envelope: &Path, public: &Path, work: &Path) -> Value {
    let envelope: Value = serde_json::from_slice(&fs::read(envelope).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let payload = decoded(&text(&envelope["payload"]), work, "payload");
    let kind = text(&envelope["payloadType"]);
    assert_eq!(kind, "application/vnd.in-toto+json");
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(&payload);
    let at = |name: &str| work.join(name);
    fs::write(at("message"), message).unwrap();
    decoded(&text(&envelope["signatures"][0]["sig"]), work, "signature");
    let key = decoded(&fs::read_to_string(public).unwrap(), work, "key");
    fs::write(at("key.der"), [&PREFIX[..], &key].concat()).unwrap();
    ToolCall::new("openssl")
        .args(["pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER"])
        .args([
            "-inkey",
            "key.der",
            "-in",
            "message",
            "-sigfile",
            "signature",
        ])
        .directory(work)
        .ok()
        .unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[test]
fn what_was_built_is_stated_and_verified() {
    let name = "what_was_built_is_stated_and_verified";
    if cannot_build(name) || skip_without(name, &[TestNeed::Tool("openssl")]) {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let shown = project.avocado(&["verify"]).ok().unwrap();
    for checked in ["manifest ", "rootfs ", "initramfs ", "kernel ", "hello "] {
        assert!(shown.stdout.contains(checked), "{}", shown.stdout);
    }
    assert!(
        shown.stderr.contains("is what was built"),
        "{}",
        shown.stderr
    );

    let shown = project.avocado(&["verify", "--output", "json"]).ok();
    let last = shown.unwrap().stdout;
    let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    let checked = serde_json::json!(["runtime", "target", "targetBoard"]);
    assert_eq!(last["parameters_checked"], checked);
    // For another board nothing was built.
    let text = project.read("avocado.yaml").unwrap();
    let runtime = "runtimes:\n  dev:\n";
    let other = text.replacen(runtime, &format!("{runtime}    target_board: other\n"), 1);
    assert_ne!(other, text);
    project.write("avocado.yaml", &other).unwrap();
    let refused = project.avocado(&["verify"]).run().unwrap();
    let expected = "the statement names the board none, and the project has `other`";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    project.write("avocado.yaml", &text).unwrap();

    let output = project.state().join("output/runtimes/dev");
    let targets = output.join("repository/targets");
    let keys = project.avocado(&["signing-keys", "list", "--output", "json"]);
    let keys: Value = serde_json::from_str(&keys.ok().unwrap().stdout).unwrap();
    let stem = keys[0]["uri"].as_str().unwrap().strip_prefix("file://");
    let public = format!("{}.pub", stem.unwrap());
    let public = Path::new(&public);
    let work = sandbox.directory.path();
    let statement = verified_by_openssl(&targets.join(TARGET), public, work);
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap();
    // The manifest, three of the OS and two extensions.
    assert_eq!(subjects.len(), 6, "{subjects:#?}");
    let mut published = 0;
    for subject in subjects {
        let file = targets.join(subject["name"].as_str().unwrap());
        if file.exists() {
            let sum = ToolCall::new("sha256sum").arg(&file).ok().unwrap().stdout;
            assert!(sum.starts_with(subject["digest"]["sha256"].as_str().unwrap()));
            published += 1;
        }
    }
    assert_eq!(published, 3);
    let definition = &statement["predicate"]["buildDefinition"];
    let dependencies = definition["resolvedDependencies"].as_array().unwrap();
    let has = |prefix: &str| {
        let mut uris = dependencies.iter().filter_map(|d| d["uri"].as_str());
        uris.any(|uri| uri.starts_with(prefix))
    };
    assert!(has("pkg:rpm/avocado/hello@"), "{dependencies:#?}");
    assert!(has("https://repo.avocadolinux.org/"), "{dependencies:#?}");
    assert!(!statement.to_string().contains(work.to_str().unwrap()));

    // Elsewhere, with that key and nothing else.
    let elsewhere = work.join("elsewhere");
    common::cp(&output.join("repository"), &elsewhere);
    let by_file = |place: &Path| {
        let place = place.to_str().unwrap();
        let public = public.to_str().unwrap();
        project.avocado(&["verify", "--repository", place, "--key", public])
    };
    by_file(&elsewhere).ok().unwrap();
    let image = subjects.iter().find_map(|subject| {
        let name = subject["name"].as_str().unwrap();
        let hashed = format!("{}.{name}", subject["digest"]["sha256"].as_str().unwrap());
        let path = elsewhere.join("targets").join(hashed);
        (name.ends_with(".raw") && path.exists()).then_some(path)
    });
    let image = image.unwrap();
    let mut bytes = fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&image, bytes).unwrap();
    let refused = by_file(&elsewhere).run().unwrap();
    assert!(!refused.status.success(), "{}", refused.stdout);
    // What is on this machine and in no repository.
    let rootfs = project.state().join("runtimes/dev");
    let rootfs = fs::read_dir(&rootfs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut rootfs = rootfs.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("avocado-image-rootfs-")
    });
    fs::write(rootfs.next().unwrap(), "another image").unwrap();
    let refused = project.avocado(&["verify"]).run().unwrap();
    assert!(
        refused
            .stderr
            .contains("is not the rootfs that was published")
    );
}

#[test]
fn two_machines_state_the_same() {
    if cannot_build("two_machines_state_the_same") {
        return;
    }
    let built = Sandbox::built();
    let place = |sandbox: &Sandbox| {
        let output = sandbox.project.state().join("output/runtimes/dev");
        output.join("repository/targets").join(TARGET)
    };
    let before = fs::read(place(&built)).unwrap();
    let other = Sandbox::fresh();
    let keys = other.directory.path().join("keys");
    let _ = fs::remove_dir_all(&keys);
    common::cp(&built.directory.path().join("keys"), &keys);
    let lock = built.project.read("avocado.lock").unwrap();
    other.project.write("avocado.lock", &lock).unwrap();
    other.project.avocado(&["build"]).ok().unwrap();
    assert_eq!(fs::read(place(&other)).unwrap(), before);
}
