//! What the device trusts of repositories, and how it is made to forget it.
#![allow(missing_docs)]

mod common;

use avocado_manifest::Manifest;
use avocado_varlink::client::ClientError;
use common::publisher::{Publisher, TOKEN};
use common::*;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn bare(version: &str) -> Manifest {
    runtime("dev", version, "2026-01-01T00:00:00Z", Vec::new())
}

/// Runs the program with the token that the server wants.
fn run(device: &Device, args: &[&str]) -> Value {
    let mut command = device.command(&[args, &["-o", "json"]].concat());
    let output = command.env("AVOCADO_TUF_AUTH_TOKEN", TOKEN).output();
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

/// Every file of the store, but locks.
fn files(device: &Device) -> Vec<String> {
    fn walk(dir: &std::path::Path, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, all)
            } else {
                all.push(path.display().to_string())
            }
        }
    }
    let mut all = Vec::new();
    walk(&device.base(), &mut all);
    // Both mean nothing, and the service makes them whenever it begins.
    all.retain(|file| !file.ends_with(".lock") && !file.ends_with("/.reserve"));
    all.sort();
    all
}

#[test]
fn a_repository_that_was_set_up_anew_is_accepted_once_it_is_forgotten() {
    for service in [false, true] {
        let device = Device::new();
        let publisher = Publisher::new(&device);
        let running = service.then(|| device.serve());
        let url = publisher.server.url();
        let add = || run(&device, &["runtime", "add", "--url", &url]);
        let forget = |url: &str, what: &[&str]| {
            let verb = ["root-authority", "forget", "--url", url];
            run(&device, &[&verb, what].concat())
        };
        let trusted = || run(&device, &["root-authority"])["repositories"].clone();
        assert_eq!(trusted(), json!(null));
        for version in ["1", "2"] {
            publisher.publish(&bare(version), &[]);
            assert_eq!(add()["status"], "ok");
        }
        let all = trusted();
        assert_eq!(all[0]["url"], json!(url.trim_end_matches('/')), "{all}");
        assert_eq!(all[0]["rootVersion"], 1);
        let before = all[0]["timestampVersion"].as_u64().unwrap();
        assert!(before > 1 && all[0]["newestTime"].is_string(), "{all}");

        // By a publisher whose clock is behind: versions start at its seconds.
        publisher.desk.begin_anew();
        let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
        publisher.desk.publish_runtime(&bare("3"), &[], yesterday);
        let failed = add();
        assert_eq!(failed["error"]["kind"], "StagingFailed", "{failed}");
        let hint = failed["error"]["hint"]
            .as_str()
            .unwrap_or_else(|| panic!("{failed}"));
        let command = format!(
            "root-authority forget --what versions --url {}",
            url.trim_end_matches('/')
        );
        assert!(hint.contains(&command), "{hint}");

        // Another one is another one, and less is not enough.
        assert_eq!(
            forget("http://elsewhere.example", &[]),
            json!({"known": false})
        );
        assert_eq!(forget(&url, &[]), json!({"known": true}));
        assert_eq!(add()["error"]["kind"], "StagingFailed");
        assert_eq!(
            forget(&url, &["--what", "versions"]),
            json!({"known": true})
        );
        assert_eq!(add()["status"], "ok");
        assert!(trusted()[0]["timestampVersion"].as_u64().unwrap() < before);

        let shown = device.show(&["root-authority"]);
        assert!(shown.contains("REPOSITORY"), "{shown}");
        for line in shown.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        if let Some(running) = running {
            let (_, log) = running.stop();
            let forgets = log.iter().filter(|line| line.starts_with("Forget by uid"));
            assert_eq!(forgets.count(), 3, "{log:?}");
        }
    }
}

#[test]
fn what_is_no_url_is_wrong_usage_and_nothing_is_tried() {
    let device = Device::new();
    let publisher = Publisher::new(&device);
    publisher.publish(&bare("1"), &[]);
    let good = publisher.server.url();
    let service = device.serve();
    let before = files(&device);
    for bad in [
        "",
        "x",
        "repository",
        "/srv/x",
        "ftp://a/x",
        "file:///x",
        "http://",
        "http://a b",
    ] {
        for args in [
            &["runtime", "add", "--url", bad][..],
            &["runtime", "add", "--plan", "--url", bad],
            &["runtime", "add", "--url", &good, "--artifacts-url", bad],
            &["root-authority", "forget", "--url", bad],
        ] {
            let output = device.run(&[args, &["-o", "json"]].concat());
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            let error: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(error["error"]["kind"], "Usage", "{error}");
        }
        // A client that calls the service by itself is told why.
        for parameters in [
            json!({"url": bad, "authToken": TOKEN}),
            json!({"url": good, "authToken": TOKEN, "artifactsUrl": bad}),
        ] {
            let method = "org.avocado.Runtimes.AddFromUrl";
            let error = service.client().call::<Value>(method, &parameters);
            let Err(ClientError::Service { name, parameters }) = error else {
                panic!("{bad}: {error:?}");
            };
            assert_eq!(name, "org.avocado.Runtimes.StagingFailed");
            let reason = parameters["reason"].as_str().unwrap();
            assert!(
                reason.contains("is not the URL of a repository"),
                "{reason}"
            );
        }
    }
    assert_eq!(publisher.server.requests().len(), 0);
    assert_eq!(files(&device), before);
}

#[test]
fn only_known_words_say_what_is_forgotten() {
    let device = Device::new();
    let service = device.serve();
    let method = "org.avocado.RootAuthority.Forget";
    for what in ["", "everything", "Roles"] {
        let parameters = json!({"url": "http://a", "what": what});
        let error = service.client().call::<Value>(method, &parameters);
        let Err(ClientError::Service { name, parameters }) = error else {
            panic!("{what}: {error:?}");
        };
        assert_eq!(name, "org.varlink.service.InvalidParameter");
        assert_eq!(parameters["parameter"], "what");
    }
    for parameters in [json!({"url": "http://a"}), json!({"url": "", "what": null})] {
        let reply: Value = service.client().call(method, &parameters).unwrap();
        assert_eq!(reply, json!({"known": false}));
    }
    assert!(!device.base().exists());
}

#[test]
fn a_repository_of_another_key_is_refused_by_name() {
    for service in [false, true] {
        let device = Device::new();
        let publisher = Publisher::new(&device);
        publisher.publish(&bare("1"), &[]);
        // The device was made for another key.
        let elsewhere = tempfile::tempdir().unwrap();
        let other = avocado_tuf::testing::TestPublisher::new(elsewhere.path(), 6);
        other.trust(&device.base(), Timestamp::now());
        let _running = service.then(|| device.serve());
        let url = publisher.server.url();
        let failed = run(&device, &["runtime", "add", "--url", &url]);
        let error = &failed["error"];
        assert_eq!(error["kind"], "StagingFailed", "{failed}");
        assert_eq!(
            error["parameters"]["cause"], "UntrustedSignature",
            "{failed}"
        );
    }
}

#[test]
fn only_root_has_something_forgotten() {
    let name = "only_root_has_something_forgotten";
    if !rustix::process::geteuid().is_root() {
        return avocado_test_support::skip(name, "it calls as another user, which takes root");
    }
    let device = Device::new();
    let publisher = Publisher::new(&device);
    publisher.publish(&bare("1"), &[]);
    let url = publisher.server.url();
    let service = device.serve();
    assert_eq!(
        run(&device, &["runtime", "add", "--url", &url])["status"],
        "ok"
    );
    let before = files(&device);
    // As a member of the group could: the socket is open to them.
    for path in [device.path(""), device.path("sock")] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let call = |method: &'static str, parameters: Value| {
        let address = service.address.clone();
        let ask = move || {
            // Of this thread alone, and for good.
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut client = avocado_varlink::client::VarlinkClient::connect(&address).unwrap();
            client.call::<Value>(method, &parameters)
        };
        std::thread::spawn(ask).join().unwrap()
    };
    let shown = call("org.avocado.RootAuthority.Show", json!({}));
    assert_eq!(shown.unwrap()["authority"]["version"], 1);
    for what in ["roles", "versions", "time"] {
        let parameters = json!({"url": url, "what": what});
        match call("org.avocado.RootAuthority.Forget", parameters) {
            Err(ClientError::Service { name, .. }) => {
                assert_eq!(name, "org.varlink.service.PermissionDenied");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(files(&device), before);
    let forget = ["root-authority", "forget", "--url", &url];
    assert_eq!(run(&device, &forget), json!({"known": true}));
}

#[test]
fn a_password_in_a_url_is_refused_and_told_nowhere() {
    let device = Device::new();
    let publisher = Publisher::new(&device);
    publisher.publish(&bare("1"), &[]);
    let good = publisher.server.url();
    let bad = good.replace("http://", "http://user:hunter2@");
    let service = device.serve_logging("trace");
    for args in [
        &["runtime", "add", "--url", &bad][..],
        &["runtime", "add", "--url", &good, "--artifacts-url", &bad],
        &["root-authority", "forget", "--url", &bad],
    ] {
        let output = device.run(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("AVOCADO_TUF_AUTH_TOKEN") && !told.contains("hunter2"),
            "{told}"
        );
    }
    let add = "org.avocado.Runtimes.AddFromUrl";
    for (method, parameters) in [
        (add, json!({"url": bad})),
        (
            add,
            json!({"url": good, "authToken": TOKEN, "artifactsUrl": bad}),
        ),
        (add, json!({"url": format!("{good}?token=hunter2")})),
        ("org.avocado.RootAuthority.Forget", json!({"url": bad})),
    ] {
        let answer = service.client().call::<Value>(method, &parameters);
        assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
    }
    let (_, log) = service.stop();
    assert!(
        log.iter().any(|line| line.contains("AddFromUrl")),
        "{log:?}"
    );
    assert!(!log.iter().any(|line| line.contains("hunter2")), "{log:?}");
    assert_eq!(publisher.server.requests().len(), 0);
    for file in files(&device) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            !String::from_utf8_lossy(&bytes).contains("hunter2"),
            "{file}"
        );
    }
}
