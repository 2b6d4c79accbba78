//! What can be done with runtimes besides adding and activating them, through either door.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::io::{Read, Write};

use avocado_manifest::Manifest;
use avocado_test_server::{Fault, FaultRule};
use avocado_varlink::idl::Interface;
use common::publisher::{Publisher, TOKEN};
use common::*;
use serde_json::{Value, json};

const IDL: &str = include_str!("../varlink/org.avocado.Runtimes.varlink");

fn bare(version: &str) -> Manifest {
    let built_at = format!("2026-0{version}-01T00:00:00Z");
    runtime("dev", version, &built_at, Vec::new())
}

/// Runs with and without a service.
fn doors(test: impl Fn(&Device)) {
    for service in [false, true] {
        let device = Device::private();
        let running = service.then(|| device.serve());
        test(&device);
        if let Some(running) = running {
            assert_eq!(running.stop().0, Some(0));
        }
    }
}

fn image_file(manifest: &Manifest) -> String {
    manifest.extensions[0]
        .image_id
        .as_ref()
        .unwrap()
        .file_name()
}

#[test]
fn back_to_the_one_before() {
    doors(|device| {
        let none = device.json(&["runtime", "rollback"]);
        assert_eq!(none["error"]["kind"], "NoPreviousRuntime", "{none}");
        let (first, second) = (bare("1"), bare("2"));
        for manifest in [&first, &second] {
            device.put_runtime(manifest);
            let done = device.json(&["runtime", "activate", manifest.id.as_str()]);
            assert_eq!(done["status"], "ok", "{done}");
        }
        let list = device.show(&["runtime", "list"]);
        assert!(
            list.contains("* active") && list.contains("previous"),
            "{list}"
        );
        let back = device.json(&["runtime", "rollback"]);
        assert_eq!(back["runtime"]["id"], json!(first.id), "{back}");
        assert_eq!(back["runtime"]["active"], true);
        assert_eq!(device.json(&["runtime", "inspect"])["id"], json!(first.id));
        let again = device.show(&["runtime", "rollback"]);
        assert!(again.contains("Runtime dev 2 is active again"), "{again}");
    });
}

#[test]
fn pinned_runtimes_stay() {
    doors(|device| {
        let all = [bare("1"), bare("2"), bare("3")];
        all.iter().for_each(|m| device.put_runtime(m));
        device.make_active(all[2].id.as_str());
        let first = all[0].id.as_str();
        let pinned = device.json(&["runtime", "pin", first]);
        assert_eq!(pinned["runtime"]["pinned"], true, "{pinned}");
        let shown = device.show(&["runtime", "inspect", first]);
        assert!(shown.contains("Pinned:    yes"), "{shown}");
        let refused = device.json(&["runtime", "remove", first]);
        assert_eq!(refused["error"]["kind"], "RemovePinnedRuntime");
        let hint = refused["error"]["hint"].as_str().unwrap();
        assert!(hint.contains(&format!("unpin {first}")), "{hint}");

        let would = device.json(&["runtime", "prune", "--keep", "1", "--dry-run"]);
        let ids = |pruned: &Value| -> Vec<Value> {
            let runtimes = pruned["runtimes"].as_array().unwrap();
            runtimes.iter().map(|r| r["id"].clone()).collect()
        };
        assert_eq!(ids(&would), [json!(all[1].id)], "{would}");
        assert_eq!(
            device.json(&["runtime", "list"]).as_array().unwrap().len(),
            3
        );
        let unpinned = device.json(&["runtime", "unpin", first]);
        assert_eq!(unpinned["runtime"].get("pinned"), None, "{unpinned}");
        let done = device.show(&["runtime", "prune", "--keep", "1"]);
        assert!(
            done.contains(&format!("Removed runtime dev 1 ({first})")),
            "{done}"
        );
        assert_eq!(
            device.json(&["runtime", "list"]).as_array().unwrap().len(),
            1
        );
        let nothing = device.show(&["runtime", "prune", "--keep=1"]);
        assert!(nothing.contains("There is nothing to remove."), "{nothing}");
    });
}

#[test]
fn what_others_keep_of_a_runtime() {
    doors(|device| {
        let manifest = bare("1");
        device.put_runtime(&manifest);
        let id = &manifest.id.as_str()[..9];
        let metadata = |rest: &[&str]| {
            device.json(&[&["runtime", "metadata", rest[0], id], &rest[1..]].concat())
        };
        assert_eq!(metadata(&["list"]), json!({"entries": []}));
        let set = metadata(&["set", "site", "mast 7"]);
        assert_eq!(set, json!({"status": "ok"}));
        assert_eq!(metadata(&["get", "site"]), json!({"value": "mast 7"}));
        let entries = json!({"entries": [{"key": "site", "value": "mast 7"}]});
        assert_eq!(metadata(&["list"]), entries);
        let shown = device.show(&["runtime", "metadata", "list", id]);
        assert!(shown.contains("\nsite=mast 7\n"), "{shown}");
        assert_eq!(metadata(&["delete", "site"]), json!({"status": "ok"}));
        for method in ["get", "delete"] {
            let error = &metadata(&[method, "site"])["error"];
            assert_eq!(error["kind"], "MetadataKeyNotFound", "{error}");
            let parameters = json!({"id": manifest.id, "key": "site"});
            assert_eq!(error["parameters"], parameters);
        }
        assert_eq!(metadata(&["get", ""])["error"]["kind"], "Usage");
    });
}

#[test]
fn as_many_are_kept_as_the_configuration_says() {
    doors(|device| {
        let all: Vec<_> = ["1", "2", "3", "4", "5"].map(bare).into();
        all.iter().for_each(|m| device.put_runtime(m));
        device.make_active(all[0].id.as_str());
        let removed = device.json(&["runtime", "gc"]);
        assert_eq!(
            removed["runtimes"].as_array().unwrap().len(),
            2,
            "{removed}"
        );
        let left = device.json(&["runtime", "list"]);
        let left = left.as_array().unwrap().iter();
        let left: Vec<_> = left.map(|r| r["runtime"]["version"].clone()).collect();
        assert_eq!(left, ["1", "5", "4"]);
    });
    let device = Device::private();
    let service = device.serve();
    let all: Vec<_> = ["1", "2", "3", "4", "5"].map(bare).into();
    all.iter().for_each(|m| device.put_runtime(m));
    let method = "org.avocado.Runtimes.GarbageCollect";
    let reply: Value = service.client().call(method, &json!({})).unwrap();
    let definition = Interface::parse(IDL).unwrap();
    let fits = definition.check_reply("GarbageCollect", reply.as_object().unwrap());
    assert_eq!(fits, Ok(()), "{reply}");
    let gone = [&all[0].id, &all[1].id];
    let removed = reply["result"]["removedRuntimes"].as_array().unwrap();
    assert!(removed.len() == 2 && gone.iter().all(|id| removed.contains(&json!(id))));
    assert_eq!(reply["result"]["removedImages"], json!([]));
}

#[test]
fn extensions_of_the_active_runtime_are_switched() {
    doors(|device| {
        let off = device.json(&["ext", "disable", "app"]);
        assert_eq!(off["error"]["kind"], "CommandFailed", "{off}");
        let app = extension("app", "1", b"app");
        let mut debug = extension("debug", "1", b"debug");
        debug.enabled = false;
        let manifest = runtime("dev", "1", "2026-01-01T00:00:00Z", vec![app, debug]);
        device.put_runtime(&manifest);
        device.make_active(manifest.id.as_str());
        // What is said of each, by `enabled` and `overridden`, and in words.
        let told = |expected: [(Value, Value, &str); 2]| {
            let runtimes = device.json(&["runtime", "list"]);
            for runtime in [&device.json(&["runtime", "inspect"]), &runtimes[0]] {
                for (at, (enabled, overridden, _)) in expected.iter().enumerate() {
                    let extension = &runtime["extensions"][at];
                    assert_eq!(&extension["enabled"], enabled, "{extension}");
                    assert_eq!(&extension["overridden"], overridden, "{extension}");
                }
            }
            let shown = device.show(&["runtime", "inspect"]);
            for (name, (.., words)) in ["app", "debug"].into_iter().zip(&expected) {
                let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
                assert!(line.contains(&format!(" {words}  ")), "{words}: {line}");
            }
        };
        told([
            (Value::Null, Value::Null, "yes"),
            (json!(false), Value::Null, "no"),
        ]);
        let done = json!({"updated": 1, "missing": 0});
        assert_eq!(device.json(&["ext", "disable", "app"]), done);
        let file = device.base().join("runtimes").join(manifest.id.as_str());
        let file = file.join("overrides.json");
        let kept = || -> Value { serde_json::from_slice(&fs::read(&file).unwrap()).unwrap() };
        let decided =
            |enabled: bool| json!({"version": 1, "extensions": {"app": {"enabled": enabled}}});
        assert_eq!(kept(), decided(false));
        told([
            (json!(false), json!(true), "no (ext disable)"),
            (json!(false), Value::Null, "no"),
        ]);
        assert_eq!(device.json(&["ext", "enable", "app-1"]), done);
        assert_eq!(kept(), decided(true));
        told([
            (Value::Null, json!(true), "yes (ext enable)"),
            (json!(false), Value::Null, "no"),
        ]);
        let none = device.json(&["ext", "disable", "app", "nope"]);
        assert_eq!(none["error"]["kind"], "ExtensionNotFound", "{none}");
        assert_eq!(kept(), decided(true));
    });
    let device = Device::private();
    let service = device.serve();
    let manifest = runtime(
        "dev",
        "1",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", b"app")],
    );
    device.put_runtime(&manifest);
    device.make_active(manifest.id.as_str());
    device.json(&["ext", "disable", "app"]);
    let method = "org.avocado.Runtimes.Inspect";
    let reply: Value = service.client().call(method, &json!({})).unwrap();
    let definition = Interface::parse(IDL).unwrap();
    let fits = definition.check_reply("Inspect", reply.as_object().unwrap());
    assert_eq!(fits, Ok(()), "{reply}");
    assert_eq!(reply["runtime"]["extensions"][0]["enabled"], false);
}

#[test]
fn what_is_wrong_is_named() {
    doors(|device| {
        let image = vec![3; 70_000];
        let good = runtime(
            "dev",
            "1",
            "2026-01-01T00:00:00Z",
            vec![extension("app", "1", &image)],
        );
        device.put_image(&image);
        device.put_runtime(&good);
        let right = device.json(&["runtime", "verify"]);
        assert_eq!(
            right,
            json!({"runtimes": 1, "images": 1, "bytes": 70_000, "good": true, "problems": []})
        );
        let images = device.base().join("images");
        fs::write(images.join("left.raw"), "over").unwrap();
        let harmless = device.run(&["runtime", "verify"]);
        assert_eq!(harmless.status.code(), Some(0));
        let said = String::from_utf8(harmless.stdout).unwrap();
        assert!(said.contains("unreferenced: left.raw"), "{said}");

        let file = image_file(&good);
        fs::write(images.join(&file), "other bytes").unwrap();
        let gone = extension("gone", "1", b"gone");
        device.put_runtime(&runtime("dev", "2", "2026-01-01T00:00:00Z", vec![gone]));
        let wrong = device.run(&["runtime", "verify", "-o", "json"]);
        assert_eq!(wrong.status.code(), Some(1));
        let wrong: Value = serde_json::from_slice(&wrong.stdout).unwrap();
        let problems = &wrong["error"]["parameters"]["verification"]["problems"];
        let mut kinds: Vec<_> = problems
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["kind"].as_str().unwrap())
            .collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["corrupt", "missing", "unreferenced"], "{wrong}");
        let corrupt = problems.as_array().unwrap().iter();
        let corrupt = corrupt.clone().find(|p| p["kind"] == "corrupt").unwrap();
        assert_eq!(corrupt["file"], json!(file));
        assert_eq!(corrupt["runtimes"], json!([good.id]));
    });
}

#[test]
fn what_adding_would_come_to() {
    doors(|device| {
        let publisher = Publisher::new(device);
        let (mine, theirs) = (vec![1; 100_000], vec![2; 200_000]);
        device.put_image(&mine);
        let extensions = vec![
            extension("mine", "1", &mine),
            extension("theirs", "1", &theirs),
        ];
        let manifest = runtime("dev", "1", "2026-01-01T00:00:00Z", extensions);
        publisher.publish(&manifest, &[&mine, &theirs]);
        let url = publisher.server.url();
        let add = |how: &[&str]| {
            let args = [&["runtime", "add", "--url", &url, "-o", "json"], how].concat();
            let mut command = device.command(&args);
            let output = command
                .env("AVOCADO_TUF_AUTH_TOKEN", TOKEN)
                .output()
                .unwrap();
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        };
        let check = add(&["--check"]);
        assert_eq!(check["available"], true, "{check}");
        assert_eq!(check["runtime"]["id"], json!(manifest.id));
        let plan = add(&["--plan"]);
        assert_eq!(plan["fetchBytes"], 200_000, "{plan}");
        assert_eq!(plan["sharedBytes"], 100_000);
        assert_eq!(
            (&plan["reboot"], &plan["staged"]),
            (&json!(false), &json!(false))
        );
        let theirs_here = || {
            let file = manifest.extensions[1]
                .image_id
                .as_ref()
                .unwrap()
                .file_name();
            device.base().join("images").join(file).exists()
        };
        assert!(!theirs_here(), "nothing is done");

        let only = add(&["--download-only"]);
        assert_eq!(only["status"], "ok", "{only}");
        assert_eq!(only["plan"]["runtime"]["id"], json!(manifest.id));
        assert!(theirs_here());
        assert_eq!(device.json(&["runtime", "list"]), json!([]));
        assert_eq!(add(&["--plan"])["fetchBytes"], 0);
        assert_eq!(add(&[])["status"], "ok");
        assert_eq!(add(&["--check"])["available"], false);

        let path = device.manifest_file("again.json", &manifest);
        let path = path.display().to_string();
        let text = device.show(&["runtime", "add", "--plan", "--manifest", &path]);
        assert!(text.contains("which is on this device already"), "{text}");
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= 80 || line.contains('$')),
            "{text}"
        );
        let refused = add(&["--check", "--plan"]);
        assert_eq!(refused["error"]["kind"], "Usage");
    });
}

#[test]
fn progress_has_numbers_and_a_call_without_more_has_one_reply() {
    let device = Device::new();
    let publisher = Publisher::new(&device);
    let image = vec![5; 20 << 20];
    let extensions = vec![extension("app", "1", &image)];
    publisher.publish(
        &runtime("dev", "1", "2026-01-01T00:00:00Z", extensions),
        &[&image],
    );
    let service = device.serve();
    let interface = Interface::parse(IDL).unwrap();
    let parameters = json!({"url": publisher.server.url(), "authToken": TOKEN});

    // The server stops in the middle: what was told until then was told while bytes moved.
    let half = image.len() as u64 / 2;
    publisher
        .server
        .faults()
        .add(FaultRule::new(Fault::Stall(half), "*.raw"));
    let method = "org.avocado.Runtimes.AddFromUrl";
    let mut replies = service
        .client()
        .call_more::<Value>(method, &parameters)
        .unwrap();
    let mut moved = 0;
    while moved == 0 {
        let reply = replies.next().unwrap().unwrap();
        let object = reply.as_object().unwrap();
        assert_eq!(
            interface.check_reply("AddFromUrl", object),
            Ok(()),
            "{reply}"
        );
        assert_eq!(reply["done"], false);
        let progress = &reply["progress"];
        if progress["stage"] == "download" && progress["unit"] == "bytes" {
            moved = progress["done"].as_u64().unwrap();
            assert!(moved <= half, "{reply}");
        }
    }
    publisher.server.faults().clear();
    publisher.server.faults().release();
    let last = replies.map(Result::unwrap).last().unwrap();
    assert_eq!(
        (&last["done"], last.get("progress")),
        (&json!(true), None),
        "{last}"
    );

    let mut stream = std::os::unix::net::UnixStream::connect(service.address.path()).unwrap();
    for method in ["AddFromUrl", "DownloadFromUrl", "PlanFromUrl"] {
        let call =
            json!({"method": format!("org.avocado.Runtimes.{method}"), "parameters": parameters});
        stream.write_all(format!("{call}\0").as_bytes()).unwrap();
    }
    stream
        .write_all(b"{\"method\":\"org.avocado.Runtimes.Verify\"}\0")
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let replies: Vec<Value> = text
        .split_terminator('\0')
        .map(|reply| serde_json::from_str(reply).unwrap())
        .collect();
    assert_eq!(replies.len(), 4, "{text}");
    for reply in &replies {
        assert!(
            reply.get("error").is_none() && reply.get("continues").is_none(),
            "{reply}"
        );
    }
}

#[test]
fn a_client_that_leaves_stops_its_download() {
    let device = Device::new();
    let publisher = Publisher::new(&device);
    let image = vec![5; 8 << 20];
    let manifest = runtime(
        "dev",
        "1",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", &image)],
    );
    publisher.publish(&manifest, &[&image]);
    let service = device.serve();
    let parameters = json!({"url": publisher.server.url(), "authToken": TOKEN});
    let method = "org.avocado.Runtimes.AddFromUrl";

    publisher
        .server
        .faults()
        .add(FaultRule::new(Fault::Stall(2 << 20), "*.raw"));
    let mut replies = service
        .client()
        .call_more::<Value>(method, &parameters)
        .unwrap();
    let downloading = |reply: &Value| reply["progress"]["stage"] == "download";
    while !downloading(&replies.next().unwrap().unwrap()) {}
    drop(replies);
    // A client that calls after that is answered after the service has noticed.
    let list = "org.avocado.Runtimes.List";
    let _: Value = service.client().call(list, &json!({})).unwrap();
    publisher.server.faults().clear();
    // The next one has its turn when the first one is over, and goes on from where that was. (The
    // server still keeps the first one waiting.)
    let added: Value = service.client().call(method, &parameters).unwrap();
    publisher.server.faults().release();
    assert_eq!(added["runtime"]["id"], json!(manifest.id));
    let ranges = publisher.server.requests();
    let mut images = ranges.iter().filter(|r| r.path.ends_with(".raw"));
    assert!(images.next().unwrap().range.is_none());
    assert!(
        images.all(|r| r.range.is_some()),
        "nothing is downloaded twice"
    );
    let (_, log) = service.stop();
    let lines: Vec<_> = log
        .iter()
        .filter(|l| l.starts_with("AddFromUrl by uid"))
        .collect();
    assert_eq!(lines.len(), 2, "{log:?}");
    assert!(lines[0].contains("cancelled"), "{log:?}");
    assert!(lines[1].contains(manifest.id.as_str()), "{log:?}");
}
