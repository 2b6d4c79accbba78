//! org.avocado.Extensions and org.avocado.RootAuthority as any varlink client sees them.
#![allow(missing_docs)]

mod common;

use std::fs;

use avocado_varlink::client::ClientError;
use avocado_varlink::idl::Interface;
use common::*;
use serde_json::{Value, json};

const DEFINITIONS: [&str; 2] = [
    include_str!("../varlink/org.avocado.Extensions.varlink"),
    include_str!("../varlink/org.avocado.RootAuthority.varlink"),
];

/// Calls a method, `Interface.Method`, and checks the answer against the definition; the
/// parameters of the reply, or the error and its.
fn call(service: &Service, method: &str, parameters: &Value) -> Result<Value, (String, Value)> {
    let full_name = format!("org.avocado.{method}");
    let (interface, method) = full_name.rsplit_once('.').unwrap();
    let all = DEFINITIONS.map(|text| Interface::parse(text).unwrap());
    let definition = all.iter().find(|i| i.name() == interface).unwrap();
    match service.client().call::<Value>(&full_name, parameters) {
        Ok(reply) => {
            let fits = definition.check_reply(method, reply.as_object().unwrap());
            assert_eq!(fits, Ok(()), "{full_name}: {reply}");
            Ok(reply)
        }
        Err(ClientError::Service { name, parameters }) => {
            if let Some(error) = name
                .strip_prefix(interface)
                .and_then(|n| n.strip_prefix('.'))
            {
                let fits = definition.check_error(error, &parameters);
                assert_eq!(fits, Ok(()), "{full_name}: {name} {parameters:?}");
            }
            Err((name, parameters.into()))
        }
        Err(other) => panic!("{full_name}: {other:?}"),
    }
}

#[test]
fn replies_and_errors_are_those_declared() {
    let device = Device::private();
    let service = device.serve();
    let none = json!({});
    let ext = |method: &str, parameters: &Value| {
        call(&service, &format!("Extensions.{method}"), parameters)
    };
    let done = Ok(json!({"message": "", "done": true}));
    for method in ["Merge", "Refresh", "Unmerge"] {
        assert_eq!(ext(method, &none), done, "{method} without a runtime");
    }
    assert_eq!(ext("Unmerge", &json!({"unmount": true})), done);
    assert_eq!(ext("Status", &none).unwrap()["extensions"], json!([]));
    assert_eq!(ext("List", &none), Ok(json!({"extensions": []})));

    let image = b"an image";
    let app = extension("app", "1.0.0", image);
    let manifest = runtime("dev", "1", "2026-01-01T00:00:00Z", vec![app.clone()]);
    device.put_runtime(&manifest);
    device.make_active(manifest.id.as_str());
    let status = ext("Status", &none).unwrap();
    assert_eq!(
        status["extensions"],
        json!([{"name": "app", "version": "1.0.0", "isSysext": false, "isConfext": false,
            "isMerged": false, "origin": null, "imageId": app.image_id}])
    );
    assert_eq!(
        ext("List", &none),
        Ok(json!({"extensions": []})),
        "it is not there"
    );
    device.put_image(image);
    let list = ext("List", &none).unwrap();
    let path = list["extensions"][0]["path"].as_str().unwrap();
    assert_eq!(fs::read(path).unwrap(), image);

    let (name, told) = ext("Merge", &none).unwrap_err();
    assert_eq!(name, "org.avocado.Extensions.MergeFailed");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("neither squashfs nor erofs"), "{reason}");
    assert!(reason.contains("nothing is merged"), "{reason}");
    let degraded = &ext("Status", &none).unwrap()["degraded"];
    assert_eq!(degraded["wanted"], manifest.id.as_str());
    assert_eq!(
        (&degraded["merged"], &degraded["leftOut"]),
        (&json!(null), &json!([]))
    );
    assert!(
        degraded["why"]
            .as_str()
            .unwrap()
            .contains("neither squashfs")
    );

    fs::remove_file(device.base().join("active")).unwrap();
    device.make_active("gone");
    for (method, error) in [
        ("Merge", "MergeFailed"),
        ("Refresh", "MergeFailed"),
        ("Status", "CommandFailed"),
        ("List", "CommandFailed"),
    ] {
        let (name, told) = ext(method, &none).unwrap_err();
        assert_eq!(name, format!("org.avocado.Extensions.{error}"), "{told}");
    }

    let (code, log) = service.stop();
    assert_eq!(code, Some(0));
    let of = |method: &str| {
        let start = format!("{method} by uid ");
        log.iter().filter(|line| line.starts_with(&start)).count()
    };
    assert_eq!(
        (of("Merge"), of("Refresh"), of("Unmerge")),
        (3, 2, 2),
        "{log:?}"
    );
    assert_eq!((of("List"), of("Status")), (0, 0), "{log:?}");
}

#[test]
fn marks() {
    let device = Device::new();
    fs::create_dir_all(device.base().join("images/tree")).unwrap();
    let service = device.serve();
    let ext = |method: &str, parameters: Value| {
        call(&service, &format!("Extensions.{method}"), &parameters)
    };
    let done = ext("Enable", json!({"extensions": ["tree"], "osRelease": "7"}));
    assert_eq!(done, Ok(json!({"enabled": 1, "failed": 0})));
    let none = ext("Enable", json!({"extensions": [], "osRelease": "7"}));
    assert_eq!(none, Ok(json!({"enabled": 0, "failed": 0})));
    let failed = ext("Enable", json!({"extensions": ["nope"], "osRelease": "7"}));
    let not_found = "org.avocado.Extensions.ExtensionNotFound".to_owned();
    assert_eq!(failed, Err((not_found.clone(), json!({"name": "nope"}))));
    let failed = ext(
        "Enable",
        json!({"extensions": ["tree"], "osRelease": "../7"}),
    );
    assert_eq!(
        failed.unwrap_err().0,
        "org.avocado.Extensions.ConfigurationError"
    );
    // Without one, it is the release that runs: of this machine, which has one or not.
    match ext("Disable", json!({"extensions": ["tree"]})) {
        Err((name, _)) if name == not_found || name.ends_with(".ConfigurationError") => {}
        other => panic!("{other:?}"),
    }

    let missing = Err((
        "org.varlink.service.InvalidParameter".to_owned(),
        json!({"parameter": "extensions"}),
    ));
    assert_eq!(ext("Disable", json!({"osRelease": "7"})), missing);
    let done = ext("Disable", json!({"all": true, "osRelease": "7"}));
    assert_eq!(done, Ok(json!({"disabled": 1, "failed": 0})));
    let (_, log) = service.stop();
    let line = log.iter().find(|line| line.starts_with("Enable")).unwrap();
    assert!(
        line.contains("pid ") && line.ends_with(r#"["tree"]"#),
        "{line}"
    );
}

#[test]
fn whom_the_device_trusts() {
    let device = Device::new();
    let service = device.serve();
    let show = || call(&service, "RootAuthority.Show", &json!({}));
    assert_eq!(show(), Ok(json!({})));
    let metadata = device.base().join("metadata");
    fs::create_dir_all(&metadata).unwrap();
    let key = avocado_tuf::SigningKey::from_seed(&[5; 32]).unwrap();
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let anchor = avocado_tuf::writer::root(&key, now).unwrap();
    fs::write(metadata.join("root.json"), anchor).unwrap();
    let shown = show().unwrap();
    assert_eq!(shown["authority"]["version"], 1);
    assert_eq!(shown["authority"]["keys"][0]["keyId"], key.id());
    fs::write(metadata.join("root.json"), "[]").unwrap();
    assert_eq!(
        show().unwrap_err().0,
        "org.avocado.RootAuthority.ParseFailed"
    );
}
