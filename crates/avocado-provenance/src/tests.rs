//! What an envelope can be that somebody else wrote.

use std::collections::{BTreeMap, BTreeSet};

use avocado_manifest::{Digest, ImageId, Manifest};
use avocado_tuf::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::{Value, json};

use crate::{
    BUILD_TYPE, BUILDER_ID, BuildDefinition, EnvelopeError, ExternalParameters, InternalParameters,
    LONGEST_ENVELOPE, PAYLOAD_TYPE, ProvenanceBuilder, ProvenanceError, ProvenanceStatement,
    RunDetails, SignedEnvelope, SlsaProvenance, StatementError, SubjectsError, authenticated,
    runtime_subjects, verify,
};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn files() -> BTreeMap<String, Digest> {
    BTreeMap::from([
        ("a.raw".to_owned(), Digest::of(b"a")),
        ("manifest.json".to_owned(), Digest::of(b"{}")),
    ])
}

fn statement() -> ProvenanceStatement {
    let predicate = SlsaProvenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.into(),
            external_parameters: ExternalParameters {
                project: "avocado.yaml".into(),
                runtime: "dev".into(),
                target: "qemux86-64".into(),
                target_board: None,
                further_dnf_arguments: false,
                without_scriptlets: false,
            },
            internal_parameters: InternalParameters::default(),
            resolved_dependencies: Vec::new(),
        },
        run_details: RunDetails {
            builder: ProvenanceBuilder {
                id: BUILDER_ID.into(),
                version: BTreeMap::from([("avocado".into(), "1".into())]),
            },
        },
    };
    ProvenanceStatement::about(&files(), predicate)
}

fn signed(payload_type: &str, payload: Vec<u8>) -> Vec<u8> {
    let envelope = SignedEnvelope::sign(payload_type, payload, &key(1)).unwrap();
    envelope.to_line().unwrap()
}

fn envelope() -> Vec<u8> {
    signed(PAYLOAD_TYPE, statement().to_payload().unwrap())
}

/// The envelope, with something else in it.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&envelope()).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

/// The statement, with something else in it, signed by the right key.
fn restated(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::to_value(statement()).unwrap();
    change(&mut value);
    signed(PAYLOAD_TYPE, serde_json::to_vec(&value).unwrap())
}

fn refused(bytes: &[u8]) -> ProvenanceError {
    verify(bytes, &[key(1).public().clone()]).unwrap_err()
}

// The example of DSSE's protocol.
#[test]
fn what_is_signed_is_encoded_as_published() {
    assert_eq!(
        authenticated("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}

#[test]
fn a_statement_is_read_as_it_was_signed_and_signed_alike() {
    let [one, other, stranger] = [1, 2, 3].map(|seed| key(seed).public().clone());
    let verified = verify(&envelope(), &[other.clone(), one.clone()]).unwrap();
    assert_eq!(verified.statement, statement());
    assert_eq!(verified.key, one);
    assert_eq!(envelope(), envelope());
    assert!(verify(&envelope(), &[other, stranger]).is_err());
    assert!(verify(&envelope(), &[]).is_err());
    insta::assert_snapshot!(
        String::from_utf8(statement().to_payload().unwrap()).unwrap(),
        @r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a.raw","digest":{"sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}},{"name":"manifest.json","digest":{"sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"https://docs.avocadolinux.org/provenance/build/v1","externalParameters":{"project":"avocado.yaml","runtime":"dev","target":"qemux86-64"},"internalParameters":{"sourceDateEpoch":0}},"runDetails":{"builder":{"id":"https://docs.avocadolinux.org/provenance/builder/avocado","version":{"avocado":"1"}}}}}"#
    );
}

#[test]
fn both_alphabets_of_base64_are_read_and_no_mixture_of_them() {
    let payload = statement().to_payload().unwrap();
    let trusted = [key(1).public().clone()];
    let with = |payload: String| changed(|envelope| envelope["payload"] = payload.into());
    for text in [
        STANDARD.encode(&payload),
        STANDARD_NO_PAD.encode(&payload),
        URL_SAFE.encode(&payload),
    ] {
        assert!(verify(&with(text), &trusted).is_ok());
    }
    let sig = |text: &str| changed(|envelope| envelope["signatures"][0]["sig"] = text.into());
    let parsed: Value = serde_json::from_slice(&envelope()).unwrap();
    let own = parsed["signatures"][0]["sig"].as_str().unwrap();
    let of_urls = own.replace('+', "-").replace('/', "_");
    assert!(verify(&sig(&of_urls), &trusted).is_ok());
    for text in [
        "+-==".to_owned(),
        "a_b/".to_owned(),
        "%%%%".to_owned(),
        format!("{own}\n"),
        format!(" {own}"),
        // Bits beyond the last byte.
        "AB==".to_owned(),
    ] {
        let error = refused(&sig(&text));
        let is_base64 = matches!(
            error,
            ProvenanceError::Envelope(EnvelopeError::Base64 {
                part: "signature",
                ..
            })
        );
        assert!(is_base64, "{text}: {error:?}");
    }
}

#[test]
fn the_id_of_a_key_is_a_hint_alone() {
    let trusted = [key(1).public().clone()];
    for id in [json!(null), json!(""), json!("another")] {
        let bytes = changed(|envelope| envelope["signatures"][0]["keyid"] = id);
        assert!(verify(&bytes, &trusted).is_ok());
    }
    let without = changed(|envelope| {
        let signature = envelope["signatures"][0].as_object_mut().unwrap();
        signature.remove("keyid");
    });
    assert!(verify(&without, &trusted).is_ok());
    // The right id, and the signature of another key.
    let other = SignedEnvelope::sign(PAYLOAD_TYPE, statement().to_payload().unwrap(), &key(2));
    let mut other: Value = serde_json::from_slice(&other.unwrap().to_line().unwrap()).unwrap();
    other["signatures"][0]["keyid"] = key(1).id().into();
    let other = serde_json::to_vec(&other).unwrap();
    assert!(matches!(
        refused(&other),
        ProvenanceError::Envelope(EnvelopeError::Untrusted { found: 1, .. })
    ));
    // Beside it that of the trusted one.
    let both = changed(|envelope| {
        let others: Value = serde_json::from_slice(&other).unwrap();
        let all = envelope["signatures"].as_array_mut().unwrap();
        all.insert(0, others["signatures"][0].clone());
    });
    assert!(verify(&both, &trusted).is_ok());
}

#[test]
fn an_envelope_that_nobody_trusted_signed_says_nothing() {
    let flipped = changed(|envelope| {
        let payload = envelope["payload"].as_str().unwrap();
        let mut payload = STANDARD.decode(payload).unwrap();
        payload[10] ^= 1;
        envelope["payload"] = STANDARD.encode(payload).into();
    });
    let other_type = changed(|envelope| envelope["payloadType"] = "application/json".into());
    let unsigned = changed(|envelope| envelope["signatures"] = json!([]));
    let other_signature = changed(|envelope| {
        envelope["signatures"][0]["sig"] = STANDARD.encode([7; 64]).into();
    });
    for bytes in [flipped, other_type, unsigned, other_signature] {
        let error = refused(&bytes);
        let is_untrusted = matches!(
            error,
            ProvenanceError::Envelope(EnvelopeError::Untrusted { .. })
        );
        assert!(is_untrusted, "{error:?}");
    }
}

#[test]
fn an_envelope_of_another_form_is_none() {
    let whole = envelope();
    let truncated = &whole[..whole.len() / 2];
    let twice = [whole.clone(), whole.clone()].concat();
    let repeated = String::from_utf8(whole.clone())
        .unwrap()
        .replacen('{', r#"{"payload":"","#, 1);
    for bytes in [
        b"".as_slice(),
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        br#"{"payloadType":"a","payload":"","signatures":{}}"#,
        br#"{"payloadType":5,"payload":"","signatures":[]}"#,
        truncated,
        &twice,
        repeated.as_bytes(),
    ] {
        let error = refused(bytes);
        let is_json = matches!(error, ProvenanceError::Envelope(EnvelopeError::Json(_)));
        assert!(is_json, "{error:?}");
    }
    let deep = "[".repeat(100_000);
    assert!(verify(deep.as_bytes(), &[]).is_err());
    let huge = vec![b' '; usize::try_from(LONGEST_ENVELOPE).unwrap() + 1];
    assert!(matches!(
        refused(&huge),
        ProvenanceError::Envelope(EnvelopeError::TooLong { .. })
    ));
    let many = changed(|envelope| {
        let one = envelope["signatures"][0].clone();
        envelope["signatures"] = json!(vec![one; 65]);
    });
    assert!(matches!(
        refused(&many),
        ProvenanceError::Envelope(EnvelopeError::TooManySignatures { found: 65 })
    ));
}

#[test]
fn what_a_trusted_key_signed_may_still_be_something_else() {
    let of_type = |error: &ProvenanceError| match error {
        ProvenanceError::Statement(StatementError::Type { what, .. }) => *what,
        _ => "",
    };
    let other_type = signed("application/json", statement().to_payload().unwrap());
    assert!(matches!(
        refused(&other_type),
        ProvenanceError::Envelope(EnvelopeError::PayloadType { .. })
    ));
    let statement_type = restated(|s| s["_type"] = "https://in-toto.io/Statement/v0.1".into());
    assert_eq!(of_type(&refused(&statement_type)), "_type");
    let predicate = restated(|s| {
        s["predicateType"] = "https://slsa.dev/provenance/v0.2".into();
        s["predicate"] = json!({});
    });
    assert_eq!(of_type(&refused(&predicate)), "predicateType");
    let build = restated(|s| s["predicate"]["buildDefinition"]["buildType"] = "x:y".into());
    assert_eq!(of_type(&refused(&build)), "buildType");
    let no_json = signed(PAYLOAD_TYPE, b"avocado".to_vec());
    assert!(matches!(
        refused(&no_json),
        ProvenanceError::Statement(StatementError::Json(_))
    ));
    // What is added to the format later is no reason to refuse it.
    let more = restated(|s| {
        s["predicate"]["runDetails"]["metadata"] = json!({"invocationId": "x"});
        s["later"] = json!(1);
    });
    assert!(verify(&more, &[key(1).public().clone()]).is_ok());
}

#[test]
fn every_subject_has_a_name_of_its_own_and_a_digest() {
    let repeated = restated(|s| {
        let subjects = s["subject"].as_array_mut().unwrap();
        subjects.push(subjects[0].clone());
    });
    assert!(matches!(
        refused(&repeated),
        ProvenanceError::Statement(StatementError::Repeated(name)) if name == "a.raw"
    ));
    let none = restated(|s| s["subject"] = json!([]));
    assert!(matches!(
        refused(&none),
        ProvenanceError::Statement(StatementError::NoSubject)
    ));
    let other_digest = restated(|s| s["subject"][0]["digest"] = json!({"sha1": "00"}));
    assert!(matches!(
        refused(&other_digest),
        ProvenanceError::Statement(StatementError::NoDigest(_))
    ));
    let two_digests = String::from_utf8(statement().to_payload().unwrap()).unwrap();
    let digest = format!(r#""sha256":"{}""#, Digest::of(b"a"));
    let two_digests = two_digests.replacen(&digest, &format!("{digest},{digest}"), 1);
    assert!(matches!(
        refused(&signed(PAYLOAD_TYPE, two_digests.into_bytes())),
        ProvenanceError::Statement(StatementError::Json(_))
    ));
}

#[test]
fn the_subjects_are_exactly_what_is_there() {
    let statement = statement();
    statement.check_subjects(&files()).unwrap();
    let with = |change: &dyn Fn(&mut BTreeMap<String, Digest>)| {
        let mut files = files();
        change(&mut files);
        statement.check_subjects(&files).unwrap_err()
    };
    let more = with(&|files| _ = files.insert("b.raw".into(), Digest::of(b"b")));
    assert!(matches!(more, SubjectsError::Missing(name) if name == "b.raw"));
    let fewer = with(&|files| _ = files.remove("a.raw"));
    assert!(matches!(fewer, SubjectsError::Unexpected(name) if name == "a.raw"));
    let other = with(&|files| _ = files.insert("a.raw".into(), Digest::of(b"b")));
    assert!(matches!(other, SubjectsError::Differs { name, .. } if name == "a.raw"));
}

#[test]
fn the_subjects_have_the_names_that_a_device_asks_for() {
    let [one, two, three, os] = ["one", "two", "three", "os"].map(|b| Digest::of(b.as_bytes()));
    let id = ImageId::from_digest;
    let manifest = json!({
        "manifest_version": 2, "id": "r", "built_at": "2026-01-01T00:00:00Z",
        "runtime": {"name": "dev", "version": "1"},
        "rootfs": {"image_id": id(three), "sha256": three},
        "extensions": [
            {"name": "new", "version": "1", "image_id": id(one), "sha256": one},
            {"name": "old", "version": "2", "sha256": two},
        ],
        "os_bundle": {"image_id": id(os), "sha256": os},
    });
    let manifest = manifest.to_string();
    let subjects = runtime_subjects(manifest.as_bytes()).unwrap();
    let required = Manifest::parse(manifest.as_bytes())
        .unwrap()
        .required_files();
    let raw = |digest: Digest| id(digest).file_name();
    assert_eq!(
        required,
        BTreeSet::from([raw(one), "old-2.raw".to_owned(), raw(os)])
    );
    assert_eq!(subjects["old-2.raw"], two);
    assert_eq!(subjects[&raw(os)], os);
    let others: Vec<_> = subjects.keys().filter(|n| !required.contains(*n)).collect();
    let mut expected = [raw(three), "manifest.json".to_owned()];
    expected.sort();
    assert_eq!(others, expected.iter().collect::<Vec<_>>());
}
