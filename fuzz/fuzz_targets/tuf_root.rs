//! Any bytes as a trust anchor, and as a key: the signatures are what the input says they are, so
//! nothing but a root that some seed holds can be good.
#![no_main]

use std::sync::Arc;

use avocado_fuzz::hostile::{Hostile, Input, URL};
use avocado_fuzz::{scratch, told};
use avocado_tuf::{ClientOptions, PublicKey, RemoteRepository, TrustedMetadata, TufClient};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let members = value.pointer("/signed/keys").and_then(Value::as_object);
        for (_, key) in members.into_iter().flatten() {
            if let Some(key) = PublicKey::from_tuf(key) {
                assert!(!key.verify(bytes, bytes));
                assert!(!key.as_bytes().is_empty());
            }
        }
    }
    let trusted = TrustedMetadata {
        directory: scratch().join("trusted"),
        root_directory: scratch().join("trusted-root"),
        root: bytes.to_vec(),
    };
    let remote = RemoteRepository {
        metadata_url: format!("{URL}/metadata").parse().unwrap(),
        targets_url: format!("{URL}/targets").parse().unwrap(),
        auth_token: None,
    };
    let options = ClientOptions {
        start_time: jiff::Timestamp::UNIX_EPOCH,
        limits: Default::default(),
        relax_legacy: true,
    };
    let nothing = Hostile {
        input: Arc::new(Input::new("")),
        pass: 1,
        asked: Default::default(),
    };
    match TufClient::with_transport(trusted, &remote, options, Box::new(nothing)) {
        Ok(client) => assert_eq!(client.root(), bytes),
        Err(error) => drop(told(&error)),
    }
});
