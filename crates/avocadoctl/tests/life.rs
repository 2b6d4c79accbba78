//! The life of runtimes, from a signed repository over HTTP, through either door.
#![allow(missing_docs)]

mod common;

use common::publisher::{Publisher, TOKEN};
use common::*;
use serde_json::{Value, json};

fn add(device: &Device, publisher: &Publisher, token: &str) -> (Value, String) {
    let url = publisher.server.url();
    let mut command = device.command(&["-o", "json", "runtime", "add", "--url", &url]);
    let output = command
        .env("AVOCADO_TUF_AUTH_TOKEN", token)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        !stderr.contains(token),
        "the token is nobody's business: {stderr}"
    );
    (serde_json::from_slice(&output.stdout).unwrap(), stderr)
}

fn life(service: bool) {
    let device = Device::private();
    let publisher = Publisher::new(&device);
    let running = service.then(|| device.serve());

    // Staged, with progress, and not activated.
    let image = vec![7; 3 << 20];
    let first = runtime(
        "dev",
        "1",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", &image)],
    );
    publisher.publish(&first, &[&image]);
    let (refused, _) = add(&device, &publisher, "another secret");
    assert_eq!(refused["error"]["kind"], "StagingFailed");
    let (added, progress) = add(&device, &publisher, TOKEN);
    assert_eq!(added["status"], "ok", "{added}");
    assert_eq!(added["runtime"]["id"], json!(first.id));
    assert_eq!(added["runtime"]["active"], false);
    assert!(progress.contains("100% of 3.0 MiB"), "{progress}");
    assert!(
        progress.lines().count() < 60,
        "not a line for each chunk: {progress}"
    );
    assert!(!device.base().join("active").exists());

    // Once more is a success, and downloads no image.
    let downloads = || {
        let requests = publisher.server.requests();
        requests
            .iter()
            .filter(|r| format!("{r:?}").contains(".raw"))
            .count()
    };
    let before = downloads();
    assert_eq!(add(&device, &publisher, TOKEN).0["status"], "ok");
    assert_eq!(downloads(), before);

    // Two that need nothing to be merged: there is no systemd here.
    let second = runtime("dev", "2", "2026-02-01T00:00:00Z", Vec::new());
    let third = runtime("dev", "3", "2026-03-01T00:00:00Z", Vec::new());
    for runtime in [&second, &third] {
        publisher.publish(runtime, &[]);
        assert_eq!(add(&device, &publisher, TOKEN).0["status"], "ok");
    }
    let order = || {
        let list = device.json(&["runtime", "list"]);
        let of = |r: &Value| (r["runtime"]["version"].clone(), r["active"].clone());
        list.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let no = |v: &str| (json!(v), json!(false));
    let yes = |v: &str| (json!(v), json!(true));
    assert_eq!(order(), [no("3"), no("2"), no("1")]);

    let activated = device.json(&["runtime", "activate", second.id.as_str()]);
    assert_eq!(activated["runtime"]["active"], true, "{activated}");
    assert_eq!(order(), [yes("2"), no("3"), no("1")]);
    let shown = device.show(&["runtime", "activate", &third.id.as_str()[..12]]);
    let line = format!("\nRuntime dev 3 is activated: {}\n", third.id);
    assert!(
        shown.contains(&line) && shown.ends_with("exit code 0\n"),
        "{shown}"
    );
    assert_eq!(order(), [yes("3"), no("2"), no("1")]);
    assert_eq!(device.json(&["runtime", "inspect"])["id"], json!(third.id));

    let refused = device.json(&["runtime", "remove", third.id.as_str()]);
    assert_eq!(refused["error"]["kind"], "RemoveActiveRuntime");
    for runtime in [&first, &second] {
        let removed = device.json(&["runtime", "remove", runtime.id.as_str()]);
        assert_eq!(removed, json!({"status": "ok"}));
    }
    assert_eq!(order(), [yes("3")]);
    let kept = device
        .base()
        .join("images")
        .join(first.extensions[0].image_id.as_ref().unwrap().file_name());
    assert!(kept.exists(), "images outlive their runtimes");

    if let Some(running) = running {
        let (code, log) = running.stop();
        assert_eq!(code, Some(0));
        assert!(log.iter().all(|line| !line.contains(TOKEN)), "{log:?}");
    }
}

#[test]
fn the_life_of_runtimes_in_this_process() {
    life(false);
}

#[test]
fn the_life_of_runtimes_through_the_service() {
    life(true);
}

#[test]
fn adding_activates_where_the_configuration_says_so() {
    let device = Device::private();
    device.configure("[avocado.update]\nactivate_on_add = true\n");
    let publisher = Publisher::new(&device);
    publisher.publish(
        &runtime("dev", "1", "2026-01-01T00:00:00Z", Vec::new()),
        &[],
    );
    let service = device.serve();
    // As peers do that never call Activate.
    let parameters = json!({"url": publisher.server.url(), "authToken": TOKEN});
    let method = "org.avocado.Runtimes.AddFromUrl";
    let reply: Value = service.client().call(method, &parameters).unwrap();
    assert_eq!(
        (&reply["done"], &reply["runtime"]["active"]),
        (&json!(true), &json!(true))
    );
    let streamed = service
        .client()
        .call_more::<Value>(method, &parameters)
        .unwrap();
    let replies: Vec<_> = streamed.map(Result::unwrap).collect();
    let (last, before) = replies.split_last().unwrap();
    assert!(!before.is_empty());
    assert!(
        before
            .iter()
            .all(|r| r["done"] == false && r.get("runtime").is_none()),
        "{before:?}"
    );
    assert_eq!(last["done"], true);
}
