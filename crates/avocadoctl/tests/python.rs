//! The `varlink` package of Python against the real service.
#![allow(missing_docs)]

mod common;
#[path = "../../avocado-varlink/tests/common/python.rs"]
mod python;

use common::publisher::{Publisher, TOKEN};
use common::*;
use serde_json::{Value, json};

/// The documents that it prints, one after another.
fn documents(text: &str) -> Vec<Value> {
    let documents = serde_json::Deserializer::from_str(text).into_iter();
    documents.map(Result::unwrap).collect()
}

#[test]
fn pythons_client() {
    let Some(python) = python::python("Python's varlink client") else {
        return;
    };
    let device = Device::private();
    let publisher = Publisher::new(&device);
    let image = vec![9; 3 << 20];
    let manifest = runtime(
        "dev",
        "1",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", &image)],
    );
    publisher.publish(&manifest, &[&image]);
    let service = device.serve();
    let address = service.address.to_string();
    let cli = |args: &[&str]| python::ok(&python, &[&["-m", "varlink.cli"], args].concat());
    let call = |more: bool, method: &str, parameters: Value| {
        let method = format!("{address}/org.avocado.{method}");
        let flag: &[&str] = if more { &["--more"] } else { &[] };
        documents(&cli(&[
            &["call"],
            flag,
            &[&method, &parameters.to_string()],
        ]
        .concat()))
    };

    // It reads the definitions before it calls anything.
    let info = cli(&["info", &address]);
    for interface in ["Runtimes", "Extensions", "RootAuthority"] {
        let name = format!("org.avocado.{interface}");
        assert!(info.contains(&name), "{info}");
        let help = cli(&["help", &format!("{address}/{name}")]);
        assert!(help.contains(&format!("interface {name}")), "{help}");
    }

    let url = json!({"url": publisher.server.url(), "authToken": TOKEN});
    let plan = call(false, "Runtimes.PlanFromUrl", url.clone());
    assert_eq!(plan[0]["plan"]["fetchBytes"], image.len());
    let streamed = call(true, "Runtimes.AddFromUrl", url.clone());
    let (last, before) = streamed.split_last().unwrap();
    assert!(
        before.iter().any(|r| r["progress"]["unit"] == "bytes"),
        "{streamed:?}"
    );
    assert!(before.iter().all(|r| r["done"] == false), "{streamed:?}");
    assert_eq!(
        (&last["done"], &last["runtime"]["id"]),
        (&json!(true), &json!(manifest.id))
    );
    let once = call(false, "Runtimes.AddFromUrl", url);
    assert_eq!((once.len(), &once[0]["done"]), (1, &json!(true)));

    let list = call(false, "Runtimes.List", json!({}));
    assert_eq!(list[0]["runtimes"][0]["id"], json!(manifest.id));
    let verified = call(true, "Runtimes.Verify", json!({}));
    assert_eq!(verified.last().unwrap()["verification"]["good"], true);
    for more in [false, true] {
        let merged = call(more, "Extensions.Merge", json!({}));
        assert_eq!(merged.last().unwrap()["done"], true);
        assert_eq!(merged.len() > 1, more);
    }
    let status = call(false, "Extensions.Status", json!({}));
    assert_eq!(status[0]["extensions"], json!([]));
    let shown = call(false, "RootAuthority.Show", json!({}));
    assert_eq!(shown[0]["authority"]["version"], 1);
    // What fails says nothing on stdout.
    assert_eq!(
        call(false, "Runtimes.Inspect", json!({"id": "nope"})),
        [Value::Null; 0]
    );
}
