//! `avocado verify`, of repositories that others made. What a build publishes is verified with the real
//! tools (`tests/tests/provenance.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use avocado_manifest::os_bundle::OsBundleChunks;
use avocado_manifest::{Digest, ImageId, Manifest, OsBundle};
use avocado_provenance::{PAYLOAD_TYPE, PROVENANCE_TARGET, SignedEnvelope, runtime_subjects};
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_tuf::testing::{TestPublisher, extension, image_name, runtime};
use avocado_tuf::{Keyring, SigningKey};
use serde_json::{Value, json};

use crate::{Ended, Place};

const IMAGE: &[u8] = b"an image";

/// What is said of a statement, and what is wrong with that one.
type StatementCase<'a> = (&'a str, &'a dyn Fn(&mut Value));

/// A published runtime with one extension.
struct Published {
    place: Place,
    publisher: TestPublisher,
    files: BTreeMap<String, Vec<u8>>,
}

impl Published {
    /// With a good statement.
    fn new() -> Self {
        let place = Place::new();
        let publisher = TestPublisher::new(place.path("desk"), 1);
        let mut published = Published {
            place,
            publisher,
            files: BTreeMap::new(),
        };
        let extensions = vec![extension("app", "1.0", IMAGE)];
        let manifest = runtime("dev", "1", "2026-01-01T00:00:00Z", extensions);
        published.put("manifest.json", &manifest.to_json().unwrap());
        published.put(&image_name(IMAGE), IMAGE);
        published.state(&published.statement());
        published
    }

    fn put(&mut self, name: &str, bytes: &[u8]) {
        self.files.insert(name.to_owned(), bytes.to_owned());
    }

    fn statement(&self) -> Value {
        let subjects = runtime_subjects(&self.files["manifest.json"]).unwrap();
        let subjects = subjects
            .into_iter()
            .map(|(name, digest)| json!({"name": name, "digest": {"sha256": digest}}));
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects.collect::<Vec<_>>(),
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "https://docs.avocadolinux.org/provenance/build/v1",
                    "externalParameters":
                        {"project": "avocado.yaml", "runtime": "dev", "target": "qemux86-64"},
                },
                "runDetails": {"builder": {"id": "https://example.org/builder"}},
            },
        })
    }

    /// States this instead, signed by the right key.
    fn state(&mut self, statement: &Value) {
        let payload = serde_json::to_vec(statement).unwrap();
        let envelope = SignedEnvelope::sign(PAYLOAD_TYPE, payload, &self.publisher.key).unwrap();
        self.put(PROVENANCE_TARGET, &envelope.to_line().unwrap());
    }

    fn publish(&self) {
        let files: Vec<_> = self.files.iter().collect();
        self.publisher.publish(&files, jiff::Timestamp::now());
    }

    /// The public half of a key, as a file.
    fn public_key(&self, seed: u8) -> String {
        let key = SigningKey::from_seed(&[seed; 32]).unwrap();
        // As the registry of signing keys writes one.
        let text = base64(key.public().as_bytes());
        self.place.write(&format!("{seed}.pub"), &text);
        format!("{seed}.pub")
    }

    fn verify(&self, arguments: &[&str]) -> Ended {
        let repository = self.publisher.repository();
        let key = self.public_key(1);
        let repository = repository.to_str().unwrap();
        let own = ["verify", "--repository", repository, "--key", &key];
        self.place.run(&[&own[..], arguments].concat())
    }

    fn refused(&self) -> String {
        self.publish();
        self.verify(&[]).failed(1).stderr
    }

    fn target(&self, name: &str) -> PathBuf {
        self.publisher.repository().join("targets").join(name)
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > chunk.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

#[test]
fn a_repository_is_verified_by_its_directory_and_by_its_url() {
    let published = Published::new();
    published.publish();
    let shown = published.verify(&[]).ok();
    insta::assert_snapshot!("verify", shown.stdout);
    assert!(
        shown
            .stderr
            .contains("dev 1 is what was built, by the word of "),
        "{}",
        shown.stderr
    );
    let json = published.verify(&["--output", "json"]).ok().documents();
    let complete = json.last().unwrap();
    assert_eq!(complete["event"], "complete");
    assert_eq!(complete["subjects"].as_array().unwrap().len(), 2);
    assert_eq!(complete["parameters"]["runtime"], "dev");

    let server = TestServer::start(ServeOptions::new(published.publisher.repository())).unwrap();
    let key = published.public_key(1);
    let by_url = ["verify", "--repository", &server.url(), "--key", &key];
    assert_eq!(published.place.run(&by_url).ok().stdout, shown.stdout);
    assert!(server.requests().iter().any(|r| r.path.ends_with(".raw")));
}

#[test]
fn a_key_is_known_by_name_id_or_file_and_has_to_be_the_right_one() {
    let published = Published::new();
    published.publish();
    let repository = published.publisher.repository();
    let repository = repository.to_str().unwrap();
    let with = |key: &str| {
        published
            .place
            .run(&["verify", "--repository", repository, "--key", key])
    };
    let other = with(&published.public_key(2)).failed(1);
    assert!(
        other.stderr.contains("no trusted key signed the root"),
        "{}",
        other.stderr
    );
    assert!(
        with("nobody")
            .failed(1)
            .stderr
            .contains("there is no signing key `nobody`")
    );
    published.place.write("text.pub", "a text");
    assert!(
        with("text.pub")
            .failed(1)
            .stderr
            .contains("is no public key")
    );
    let keyring = Keyring::new(published.place.path("home/.config/avocado/signing-keys"));
    let entry = keyring.create("desk", jiff::Timestamp::now()).unwrap();
    for name in ["desk", &entry.key_id] {
        let stderr = with(name).failed(1).stderr;
        assert!(
            stderr.contains("no trusted key signed the root"),
            "{stderr}"
        );
    }
    // Any of those that are named.
    let [one, two] = [1, 2].map(|seed| published.public_key(seed));
    let both = [
        "verify",
        "--repository",
        repository,
        "--key",
        &two,
        "--key",
        &one,
    ];
    published.place.run(&both).ok();
    published
        .place
        .run(&["verify", "--repository", repository])
        .failed(2);
    published
        .place
        .run(&["verify", "--repository", "none", "--key", &one])
        .failed(2);
}

#[test]
fn what_is_stated_is_what_is_there() {
    let mut published = Published::new();
    let good = published.statement();
    let other = json!({"sha256": Digest::of(b"another image")});
    let name = image_name(IMAGE);
    let cases: [StatementCase<'_>; 6] = [
        ("the statement is not about this runtime", &|s| {
            s["subject"].as_array_mut().unwrap().remove(0);
        }),
        ("the runtime does not have", &|s| {
            let more = json!({"name": "more.raw", "digest": other});
            s["subject"].as_array_mut().unwrap().push(more);
        }),
        ("has the digest", &|s| {
            let subjects = s["subject"].as_array_mut().unwrap();
            let image = subjects.iter_mut().find(|s| s["name"] == name.as_str());
            image.unwrap()["digest"] = other.clone();
        }),
        ("two subjects with the name", &|s| {
            let subjects = s["subject"].as_array_mut().unwrap();
            subjects.push(subjects[0].clone());
        }),
        ("the statement is about the runtime `prod`", &|s| {
            let build = &mut s["predicate"]["buildDefinition"];
            build["externalParameters"]["runtime"] = "prod".into();
        }),
        ("its predicateType is", &|s| {
            s["predicateType"] = "https://x".into()
        }),
    ];
    for (expected, change) in cases {
        let mut statement = good.clone();
        change(&mut statement);
        published.state(&statement);
        let stderr = published.refused();
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
}

#[test]
fn nothing_is_in_a_repository_that_nothing_is_stated_of() {
    let mut published = Published::new();
    published.put("more.raw", b"more");
    let stderr = published.refused();
    assert!(
        stderr.contains("more.raw, of which nothing says how it was made"),
        "{stderr}"
    );
    published.files.remove("more.raw");
    published.files.remove(&image_name(IMAGE));
    let stderr = published.refused();
    assert!(stderr.contains("the image of app 1.0"), "{stderr}");
    published.files.remove(PROVENANCE_TARGET);
    let stderr = published.refused();
    assert!(stderr.contains("no statement of provenance"), "{stderr}");
}

#[test]
fn an_envelope_of_another_key_or_form_is_refused() {
    let mut published = Published::new();
    let good = published.files[PROVENANCE_TARGET].clone();
    let payload = serde_json::to_vec(&published.statement()).unwrap();
    let stranger = SigningKey::from_seed(&[2; 32]).unwrap();
    let of_stranger = SignedEnvelope::sign(PAYLOAD_TYPE, payload, &stranger);
    for (bytes, expected) in [
        (of_stranger.unwrap().to_line().unwrap(), "of a trusted key"),
        (good[..good.len() / 2].to_vec(), "it is no DSSE envelope"),
        (vec![b' '; (16 << 20) + 1], "and at most"),
    ] {
        published.put(PROVENANCE_TARGET, &bytes);
        let stderr = published.refused();
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
}

#[test]
fn a_file_that_was_replaced_is_found_by_its_digest() {
    let published = Published::new();
    published.publish();
    let image = published.target(&format!("{}.{}", Digest::of(IMAGE), image_name(IMAGE)));
    let envelope = &published.files[PROVENANCE_TARGET];
    let envelope = format!("{}.{PROVENANCE_TARGET}", Digest::of(envelope));
    for path in [image, published.target(&envelope)] {
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[3] ^= 1;
        // Another file: the name may be a link to what was published.
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bad).unwrap();
        let stderr = published.verify(&[]).failed(1).stderr;
        assert!(stderr.contains("publish it again"), "{stderr}");
        fs::write(&path, &good).unwrap();
        published.verify(&[]).ok();
    }
    fs::write(
        published
            .publisher
            .repository()
            .join("metadata/timestamp.json"),
        "{}",
    )
    .unwrap();
    published.verify(&[]).failed(1);
}

#[test]
fn every_file_that_a_device_asks_for_has_to_be_there() {
    let mut published = Published::new();
    let bundle = b"an OS";
    let id = ImageId::from_digest(Digest::of(bundle));
    let mut old = extension("old", "2", b"of the oldest form");
    old.image_id = None;
    let mut manifest = runtime("dev", "1", "2026-01-01T00:00:00Z", vec![old]);
    manifest.os_bundle = Some(OsBundle {
        image_id: id.clone(),
        sha256: Some(Digest::of(bundle)),
        os_build_id: None,
        initramfs_build_id: None,
        chunks_sha256: None,
    });
    published.files.remove(&image_name(IMAGE));
    published.put("manifest.json", &manifest.to_json().unwrap());
    published.state(&published.statement());
    let files = [
        ("old-2.raw".to_owned(), &b"of the oldest form"[..], "old 2"),
        (id.file_name(), &bundle[..], "OS bundle"),
    ];
    for (name, bytes, _) in &files {
        published.put(name, bytes);
    }
    published.publish();
    let shown = published.verify(&[]).ok().stdout;
    for (name, bytes, what) in files {
        assert!(shown.contains(what), "{what}: {shown}");
        published.files.remove(&name);
        let stderr = published.refused();
        let expected = format!("the repository has no {name}, the image of {what}");
        assert!(stderr.contains(&expected), "{expected}: {stderr}");
        published.put(&name, bytes);
    }
    // Under the name that no device asks for.
    published.files.remove(&id.file_name());
    published.put(&format!("{id}.aos"), bundle);
    let stderr = published.refused();
    assert!(
        stderr.contains("of which nothing says how it was made"),
        "{stderr}"
    );
}

#[test]
fn an_index_of_chunks_is_the_one_that_the_manifest_names() {
    let mut published = Published::new();
    let (bundle, index) = (b"a bundle", b"an index");
    let id = ImageId::from_digest(Digest::of(bundle));
    let chunks = OsBundleChunks::file_name(&id);
    let mut manifest = Manifest::parse(&published.files["manifest.json"]).unwrap();
    manifest.os_bundle = Some(OsBundle {
        image_id: id.clone(),
        sha256: Some(Digest::of(bundle)),
        os_build_id: None,
        initramfs_build_id: None,
        chunks_sha256: Some(Digest::of(index)),
    });
    manifest.id = manifest.content_id().unwrap();
    published.put("manifest.json", &manifest.to_json().unwrap());
    published.put(&id.file_name(), bundle);
    published.state(&published.statement());
    let stderr = published.refused();
    assert!(
        stderr.contains(&format!("the repository has no {chunks}")),
        "{stderr}"
    );
    published.put(&chunks, b"another");
    let stderr = published.refused();
    assert!(stderr.contains(&chunks), "{stderr}");
    published.put(&chunks, index);
    published.publish();
    let shown = published.verify(&[]).ok().stdout;
    assert!(shown.contains("chunks of OS bundle"), "{shown}");
    let image = format!("{}.chunks", image_name(IMAGE));
    for name in [&image, "more.raw.chunks", "x.chunks.chunks"] {
        published.put(name, b"an index");
        let stderr = published.refused();
        let expected = format!("{name}, of which nothing says how it was made");
        assert!(stderr.contains(&expected), "{expected}: {stderr}");
        published.files.remove(name);
    }
}

#[test]
fn without_the_project_its_target_is_told_and_not_checked() {
    let published = Published::new();
    published.publish();
    let shown = published.verify(&[]).ok().stderr;
    let expected = "that it is for qemux86-64 is stated, and not checked";
    assert!(shown.contains(expected), "{shown}");
    let json = published.verify(&["--output", "json"]).ok().documents();
    let checked = &json.last().unwrap()["parameters_checked"];
    assert_eq!(*checked, json!(["runtime"]));
}
