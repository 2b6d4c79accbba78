//! The service on a real device: systemd's own varlink client, the units and their rules, and who
//! may talk to it.

mod common;

use std::fs;
use std::net::SocketAddr;

use avocado_serve::ServeOptions;
use avocado_test_server::{Fault, FaultRule, TestServer};
use avocado_testbed::device::TestDevice;
use avocado_testbed::published::PublishedRepository;
use avocado_testbed::shared_fixture::SharedFixture;
use common::device::{BuiltDevice, cannot_boot};
use serde_json::{Value, json};

const SOCKET: &str = "/run/avocado/avocadoctl.sock";
const INTERFACES: [&str; 3] = [
    "org.avocado.Runtimes",
    "org.avocado.Extensions",
    "org.avocado.RootAuthority",
];

/// The documents that varlinkctl prints, however it separates them.
fn documents(text: &str) -> Vec<Value> {
    let text = text.replace('\u{1e}', "\n");
    let documents = serde_json::Deserializer::from_str(&text).into_iter();
    documents
        .map(|d| d.unwrap_or_else(|e| panic!("{e}: {text}")))
        .collect()
}

/// Calls a method by systemd's client.
fn call(device: &TestDevice, options: &[&str], method: &str, parameters: &Value) -> Vec<Value> {
    let method = format!("org.avocado.{method}");
    let parameters = parameters.to_string();
    let words = [
        &["varlinkctl", "--json=short"],
        options,
        &["call", SOCKET, &method, &parameters],
    ];
    documents(&device.exec(&words.concat()).unwrap())
}

/// The device of all cases. Each leaves it as it found it.
static WORLD: SharedFixture<BuiltDevice> = SharedFixture::new();

fn on_a_device(name: &str, case: impl FnOnce(&mut TestDevice)) {
    if cannot_boot(name) {
        return;
    }
    WORLD.run(BuiltDevice::boot, |world| {
        case(&mut world.device);
        assert_eq!(world.device.failed_units().unwrap(), "");
    });
}

/// While the device shuts down, the socket hangs up on every client; the program does without it.
#[test]
fn it_unmerges_at_the_end() {
    on_a_device("it_unmerges_at_the_end", |device| {
        device.reboot().unwrap();
        let logs = device.logs();
        assert!(logs.contains("The extensions are unmerged."), "{logs}");
        let failed: Vec<_> = logs
            .lines()
            .filter(|line| line.contains("avocado") && line.contains("status="))
            .collect();
        assert_eq!(failed, [""; 0]);
    });
}

#[test]
fn it_describes_itself() {
    on_a_device("it_describes_itself", |device| {
        let version = device.exec(&["varlinkctl", "--version"]).unwrap();
        assert!(version.starts_with("systemd 257"), "{version}");
        let info = device.exec(&["varlinkctl", "info", SOCKET]).unwrap();
        let methods = device
            .exec(&["varlinkctl", "list-methods", SOCKET])
            .unwrap();
        for interface in INTERFACES {
            assert!(info.contains(interface), "{info}");
            // systemd reads the definition, and so do those that are installed for it.
            let said = device
                .exec(&["varlinkctl", "introspect", SOCKET, interface])
                .unwrap();
            assert!(said.contains(&format!("interface {interface}")), "{said}");
            let file = format!("/usr/share/varlink/interfaces/{interface}.varlink");
            device.exec(&["varlinkctl", "validate-idl", &file]).unwrap();
        }
        for method in [
            "Runtimes.AddFromUrl",
            "Extensions.Refresh",
            "RootAuthority.Show",
        ] {
            assert!(methods.contains(method), "{methods}");
        }
    });
}

#[test]
fn it_merges_under_its_rules() {
    on_a_device("it_merges_under_its_rules", |device| {
        let merged = |expected: bool| {
            let status = call(device, &[], "Extensions.Status", &json!({}));
            let extensions = status[0]["extensions"].as_array().unwrap().clone();
            assert_eq!(extensions.len(), 2, "{status:?}");
            let is = |e: &Value| e["isMerged"] == expected;
            assert!(extensions.iter().all(is), "{status:?}");
        };
        merged(true);
        // Through the service, which is stopped and started between: each time by the socket.
        for (words, after) in [
            (&["avocadoctl", "unmerge"][..], false),
            (&["avocadoctl", "merge"], true),
            (&["avocadoctl", "ext", "refresh"], true),
        ] {
            device
                .exec(&["systemctl", "stop", "avocadoctl.service"])
                .unwrap();
            device.exec(words).unwrap();
            merged(after);
        }
        let hello = device
            .exec(&["systemctl", "is-active", "hello.service"])
            .unwrap();
        assert_eq!(hello.trim(), "active");
        let log = device
            .exec(&[
                "journalctl",
                "--no-pager",
                "--output=cat",
                "--unit=avocadoctl.service",
            ])
            .unwrap();
        for method in ["Unmerge", "Merge", "Refresh"] {
            let line = format!("{method} by uid 0, pid ");
            assert!(log.contains(&line), "{log}");
        }
        // The same words as without the service.
        let status = device.exec(&["avocadoctl", "status"]).unwrap();
        assert!(
            status.contains("hello-config") && status.contains("conf"),
            "{status}"
        );
    });
}

/// A runtime with an image that takes its time, from a repository of its own.
#[test]
fn it_streams() {
    on_a_device("it_streams", |device| {
        const LENGTH: u64 = 32 << 20;
        let directory = tempfile::tempdir().unwrap();
        let published = PublishedRepository::create(directory.path(), LENGTH).unwrap();
        let anchor = device.var().join("lib/avocado/metadata/root.json");
        let before = fs::read(&anchor).unwrap();
        fs::write(&anchor, &published.anchor).unwrap();
        let mut options = ServeOptions::new(&published.directory);
        options.address = SocketAddr::from((device.host_address(), 0));
        let server = TestServer::start(options).unwrap();
        // Half of it comes with the first request, and the rest with the next.
        server
            .faults()
            .add(FaultRule::new(Fault::Cut(LENGTH / 2), "*.raw").first(1));
        let parameters = json!({"url": server.url()});

        let plan = call(device, &[], "Runtimes.PlanFromUrl", &parameters);
        assert_eq!(plan[0]["plan"]["fetchBytes"], LENGTH, "{plan:?}");
        let replies = call(device, &["--more"], "Runtimes.AddFromUrl", &parameters);
        let (last, before_it) = replies.split_last().unwrap();
        assert_eq!(
            last["runtime"]["id"],
            json!(published.manifest.id),
            "{last}"
        );
        assert_eq!(last["done"], true);
        let moved: Vec<u64> = before_it
            .iter()
            .filter(|r| {
                r["progress"]["item"]
                    .as_str()
                    .is_some_and(|item| item.ends_with(".raw"))
            })
            .filter_map(|r| r["progress"]["done"].as_u64())
            .collect();
        assert!(
            moved.iter().any(|done| (1..LENGTH).contains(done)),
            "{moved:?}"
        );
        assert!(moved.is_sorted(), "{moved:?}");
        assert!(
            before_it.iter().all(|r| r["done"] == false),
            "{before_it:?}"
        );

        // Once more without `more`: one reply, and nothing to download.
        let once = call(device, &[], "Runtimes.AddFromUrl", &parameters);
        assert_eq!(
            (once.len(), &once[0]["done"]),
            (1, &json!(true)),
            "{once:?}"
        );
        let list = call(device, &[], "Runtimes.List", &json!({}));
        assert_eq!(list[0]["runtimes"].as_array().unwrap().len(), 2, "{list:?}");
        let verified = call(device, &["--more"], "Runtimes.Verify", &json!({}));
        let found = &verified.last().unwrap()["verification"];
        assert_eq!(found["good"], true, "{found}");

        let id = json!({"id": published.manifest.id});
        // It prints nothing where there are no parameters.
        let empty: Vec<Value> = Vec::new();
        assert_eq!(call(device, &[], "Runtimes.Remove", &id), empty);
        let gone = device
            .enter(&[
                "varlinkctl",
                "call",
                SOCKET,
                "org.avocado.Runtimes.Inspect",
                &id.to_string(),
            ])
            .run()
            .unwrap();
        assert!(!gone.status.success(), "{gone}");
        assert!(
            gone.stderr.contains("org.avocado.Runtimes.RuntimeNotFound"),
            "{gone}"
        );
        let pruned = call(device, &[], "Runtimes.Prune", &json!({}));
        assert!(
            pruned[0]["freedBytes"].as_u64().unwrap() >= LENGTH,
            "{pruned:?}"
        );
        fs::write(&anchor, before).unwrap();
    });
}

#[test]
fn it_is_for_its_group() {
    on_a_device("it_is_for_its_group", |device| {
        let of = |groups: &str| {
            let user = ["setpriv", "--reuid=65534", "--regid=65534", groups];
            let words = [&user[..], &["avocadoctl", "-o", "json", "runtime", "list"]].concat();
            device.enter(&words).run().unwrap()
        };
        let member = of("--groups=avocado");
        assert!(member.status.success(), "{member}");
        let stranger = of("--clear-groups");
        assert!(!stranger.status.success(), "{stranger}");
        let error = &documents(&stranger.stdout)[0]["error"];
        assert!(
            error["hint"].as_str().unwrap().contains("group `avocado`"),
            "{error}"
        );
    });
}

#[test]
fn the_units_are_sound() {
    on_a_device("the_units_are_sound", |device| {
        let units = [
            "avocadoctl.socket",
            "avocadoctl.service",
            "avocado-extension.service",
            "avocado-ensure-extensions.service",
            "avocado-unmerge.service",
            "avocado-hitl.service",
            "avocado-commit.service",
        ];
        let words = [&["systemd-analyze", "verify", "--man=no"][..], &units].concat();
        let output = device.enter(&words).ok().unwrap();
        let said = format!("{}{}", output.stdout, output.stderr);
        let about_us: Vec<_> = said
            .lines()
            .filter(|line| line.contains("avocado"))
            .collect();
        assert_eq!(about_us, [""; 0]);
    });
}
