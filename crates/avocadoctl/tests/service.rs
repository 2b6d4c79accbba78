//! org.avocado.Runtimes as any varlink client sees it: a real `avocadoctl serve`.
#![allow(missing_docs)]

mod common;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use avocado_varlink::client::ClientError;
use avocado_varlink::idl::Interface;
use common::*;
use serde_json::{Value, json};

const IDL: &str = include_str!("../varlink/org.avocado.Runtimes.varlink");

/// Calls over a connection of its own; the parameters of the reply, or the error and its.
fn call(service: &Service, method: &str, parameters: &Value) -> Result<Value, (String, Value)> {
    let method = format!("org.avocado.Runtimes.{method}");
    match service.client().call::<Value>(&method, parameters) {
        Ok(reply) => Ok(reply),
        Err(ClientError::Service { name, parameters }) => Err((name, parameters.into())),
        Err(other) => panic!("{method}: {other:?}"),
    }
}

/// The same, checked against the interface.
fn checked(service: &Service, method: &str, parameters: &Value) -> Result<Value, (String, Value)> {
    let interface = Interface::parse(IDL).unwrap();
    let result = call(service, method, parameters);
    let fits = match &result {
        Ok(reply) => interface.check_reply(method, reply.as_object().unwrap()),
        Err((name, told)) => {
            let name = name.strip_prefix("org.avocado.Runtimes.").unwrap();
            interface.check_error(name, told.as_object().unwrap())
        }
    };
    assert_eq!(fits, Ok(()), "{method}: {result:?}");
    result
}

#[test]
fn replies_and_errors_are_those_declared() {
    let device = Device::new();
    let image = b"an image";
    device.put_image(image);
    let app = extension("app", "1.0.0", image);
    let first = runtime("dev", "1", "2026-01-01T00:00:00Z", vec![app.clone()]);
    let second = runtime("dev", "2", "2026-02-01T00:00:00Z", vec![app.clone()]);
    let gone = runtime(
        "dev",
        "3",
        "2026-02-01T00:00:00Z",
        vec![extension("app", "3", b"gone")],
    );
    let paths: Vec<_> = [&first, &second, &gone]
        .iter()
        .map(|m| {
            device
                .manifest_file(&format!("{}.json", m.id), m)
                .display()
                .to_string()
        })
        .collect();
    let service = device.serve();
    let error = |name: &str| format!("org.avocado.Runtimes.{name}");

    assert_eq!(
        checked(&service, "List", &json!({})),
        Ok(json!({"runtimes": []}))
    );
    let none = checked(&service, "Inspect", &json!({})).unwrap_err();
    assert_eq!(none.0, error("RuntimeNotFound"));

    for path in &paths[..2] {
        let added = checked(&service, "AddFromManifest", &json!({"manifestPath": path})).unwrap();
        assert_eq!(
            (&added["done"], &added["runtime"]["active"]),
            (&json!(true), &json!(false))
        );
    }
    let failed = checked(
        &service,
        "AddFromManifest",
        &json!({"manifestPath": paths[2]}),
    );
    let (name, told) = failed.unwrap_err();
    assert_eq!(name, error("StagingFailed"));
    assert!(
        told["reason"]
            .as_str()
            .unwrap()
            .contains("app 3 is not in the image pool")
    );

    let list = checked(&service, "List", &json!(null)).unwrap();
    let ids: Vec<_> = list["runtimes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["id"].clone())
        .collect();
    assert_eq!(ids, [json!(second.id), json!(first.id)], "the newest first");

    device.make_active(first.id.as_str());
    let active = checked(&service, "Inspect", &json!({"id": null})).unwrap();
    assert_eq!(
        active["runtime"],
        json!({
            "id": first.id, "manifestVersion": 2, "builtAt": "2026-01-01T00:00:00Z",
            "runtime": {"name": "dev", "version": "1"},
            "extensions": [{"name": "app", "version": "1.0.0", "imageId": app.image_id,
                "sha256": app.sha256}],
            "active": true,
        })
    );
    let prefix = &second.id.as_str()[..10];
    let found = checked(&service, "Inspect", &json!({"id": prefix})).unwrap();
    assert_eq!(found["runtime"]["id"], json!(second.id));

    let (name, told) = checked(&service, "Inspect", &json!({"id": ""})).unwrap_err();
    assert_eq!(name, error("AmbiguousRuntimeId"));
    assert_eq!(told["candidates"].as_array().unwrap().len(), 2);
    for method in ["Remove", "Activate", "Inspect"] {
        let failed = checked(&service, method, &json!({"id": "nope"}));
        assert_eq!(
            failed,
            Err((error("RuntimeNotFound"), json!({"id": "nope"})))
        );
    }
    let failed = checked(&service, "Remove", &json!({"id": first.id})).unwrap_err();
    assert_eq!(failed.0, error("RemoveActiveRuntime"));
    assert_eq!(
        checked(&service, "Remove", &json!({"id": prefix})),
        Ok(json!({}))
    );

    // What cannot be merged is not activated, and says so.
    device.put_runtime(&gone);
    let (name, told) = checked(&service, "Activate", &json!({"id": gone.id})).unwrap_err();
    assert_eq!(name, error("UpdateFailed"));
    assert!(
        told["reason"]
            .as_str()
            .unwrap()
            .contains("not in the image pool")
    );

    let (code, log) = service.stop();
    assert_eq!(code, Some(0));
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let who = format!("by uid {uid}, pid {}", std::process::id());
    for method in ["AddFromManifest", "Remove", "Activate"] {
        let line = log.iter().find(|l| l.starts_with(method)).unwrap();
        assert!(line.contains(&who), "{line}");
    }
    assert!(
        log.iter()
            .all(|l| !l.starts_with("List") && !l.starts_with("Inspect")),
        "{log:?}"
    );
}

#[test]
fn wrong_parameters_are_named() {
    let device = Device::new();
    let service = device.serve();
    for (method, parameters, parameter) in [
        ("List", json!({"all": true}), "all"),
        ("Inspect", json!({"id": 5}), "id"),
        ("Remove", json!({}), "id"),
        ("Activate", json!({"id": "x", "force": true}), "force"),
        (
            "AddFromUrl",
            json!({"url": "http://x", "authToken": []}),
            "authToken",
        ),
        (
            "AddFromManifest",
            json!({"manifestPath": "relative.json"}),
            "manifestPath",
        ),
    ] {
        let expected = (
            "org.varlink.service.InvalidParameter".to_owned(),
            json!({"parameter": parameter}),
        );
        assert_eq!(
            call(&service, method, &parameters),
            Err(expected),
            "{method}"
        );
    }
    let method = "org.avocado.Runtimes.Nope".to_owned();
    let expected = (
        "org.varlink.service.MethodNotFound".to_owned(),
        json!({"method": method}),
    );
    assert_eq!(call(&service, "Nope", &json!({})), Err(expected));
    let info: Value = service
        .client()
        .call("org.varlink.service.GetInfo", &json!({}))
        .unwrap();
    assert_eq!(
        info,
        json!({"vendor": "org.avocado", "product": "avocadoctl", "version": "0.41.0",
            "url": "https://avocado-linux.org",
            "interfaces": ["org.varlink.service", "org.avocado.Runtimes",
                "org.avocado.Extensions", "org.avocado.RootAuthority", "org.avocado.Hitl"]})
    );
}

#[test]
fn hardware_in_the_loop_answers_as_declared() {
    let device = Device::new();
    let service = device.serve();
    let call = |method: &str, parameters: Value| {
        let method = format!("org.avocado.Hitl.{method}");
        let result: Result<Value, _> = service.client().call(&method, &parameters);
        let Err(ClientError::Service { name, parameters }) = result else {
            panic!("{method}: {result:?}");
        };
        (name, Value::Object(parameters))
    };
    // Nothing listens at a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mount = |ip: &str, port: &str, name: &str| {
        call(
            "Mount",
            json!({"serverIp": ip, "serverPort": port, "extensions": [name]}),
        )
    };
    let (name, told) = mount("127.0.0.1", &port.to_string(), "app");
    assert_eq!(name, "org.avocado.Hitl.MountFailed");
    assert_eq!(told["extension"], "app");
    let reason = told["reason"].as_str().unwrap();
    assert!(
        reason.contains(&format!("no NFS server answers at 127.0.0.1:{port}")),
        "{reason}"
    );
    let (name, told) = mount("127.0.0.1", &port.to_string(), "../../evil");
    assert_eq!(name, "org.avocado.Hitl.MountFailed");
    assert_eq!(told["extension"], "../../evil");
    for (ip, port, parameter) in [("host", "1", "serverIp"), ("127.0.0.1", "x", "serverPort")] {
        let (name, told) = mount(ip, port, "app");
        assert_eq!(name, "org.varlink.service.InvalidParameter");
        assert_eq!(told["parameter"], parameter);
    }
    let (name, told) = call("Unmount", json!({"extensions": ["app"]}));
    assert_eq!(name, "org.avocado.Hitl.UnmountFailed");
    assert_eq!(
        told,
        json!({"extension": "app", "reason": "it is not mounted from a server"})
    );
}

#[test]
fn a_client_that_half_closes_gets_its_answer() {
    let device = Device::new();
    let service = device.serve();
    let mut stream = UnixStream::connect(service.address.path()).unwrap();
    stream.write_all(b"{\"method\":\"org.avocado.Runtimes.AddFromUrl\",\"parameters\":{\"url\":\"http://127.0.0.1:1\"}}\0").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert_eq!(reply.pop(), Some(0));
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply["error"], "org.avocado.Runtimes.StagingFailed");
    assert!(
        reply["parameters"]["reason"]
            .as_str()
            .unwrap()
            .contains("trust anchor")
    );
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_service() {
    let device = Device::new();
    let service = device.serve();
    let path = service.address.path().to_owned();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let second = device.show(&["serve"]);
    assert!(
        second.contains("error: another service already listens on [DIR]/sock"),
        "{second}"
    );
    assert_eq!(service.stop(), (Some(0), vec!["stopped".to_owned()]));
    assert!(!path.exists());

    let elsewhere = device.path("new/directory/sock");
    let address = format!("unix:{}", elsewhere.display());
    let mut child = device
        .command(&["serve", "--address", &address])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 9];
    child
        .stderr
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert!(elsewhere.exists());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_socket_of_the_service_manager_is_taken_and_left_when_idle() {
    let device = Device::new();
    let socket = device.path("sock");
    let mut command = Command::new("systemd-socket-activate");
    command.arg("--fdname=varlink").arg("--listen").arg(&socket);
    command
        .arg(env!("CARGO_BIN_EXE_avocadoctl"))
        .arg("--config")
        .arg(device.path("conf"));
    command.args(["serve", "--exit-on-idle", "1"]);
    let mut manager = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    let mut stderr = std::io::BufReader::new(manager.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut log).unwrap();
    assert!(log.starts_with("Listening on"), "{log}");
    assert_eq!(device.json(&["runtime", "list"]), json!([]));
    // The manager becomes the service with the first client, and ends when it is idle.
    assert_eq!(manager.wait().unwrap().code(), Some(0));
    stderr.read_to_string(&mut log).unwrap();
    assert!(log.contains("idle: exiting"), "{log}");
    assert!(socket.exists(), "the socket is the manager's");
}
