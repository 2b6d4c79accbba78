//! The service on a real device: systemd's own varlink client, the units and their rules, and who
//! may talk to it.

mod common;

use std::fs;
use std::net::SocketAddr;

use avocado_serve::{Fault, Options, Rule, Server};
use avocado_testbed::device::{Device, DeviceOptions};
use avocado_testbed::keys::Keys;
use avocado_testbed::published::Published;
use avocado_testbed::tools::{Need, skip};
use common::{Sandbox, cannot_build};
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
fn call(device: &Device, options: &[&str], method: &str, parameters: &Value) -> Vec<Value> {
    let method = format!("org.avocado.{method}");
    let parameters = parameters.to_string();
    let words = [
        &["varlinkctl", "--json=short"],
        options,
        &["call", SOCKET, &method, &parameters],
    ];
    documents(&device.exec(&words.concat()).unwrap())
}

#[test]
fn a_service_on_a_device() {
    let needs = [
        Need::Root,
        Need::Tool("systemd-nspawn"),
        Need::Tool("nsenter"),
        Need::Tool("ip"),
        Need::Tool("ssh-keygen"),
    ];
    let name = "a_service_on_a_device";
    if skip(name, &needs) || cannot_build(name) {
        return;
    }
    let sandbox = Sandbox::built();
    let state = sandbox.project.state();
    let artifacts = sandbox.project.events(&["build"]).unwrap().artifacts();
    let rootfs = artifacts.into_iter().find(|a| a.kind == "rootfs").unwrap();
    let work = tempfile::tempdir().unwrap();
    let keys = Keys::create(work.path()).unwrap();
    let var = state.join("runtimes/dev/var-staging");
    let options = DeviceOptions::new(rootfs.path, var, work.path(), keys);
    let mut device = Device::boot(options).unwrap();

    it_describes_itself(&device);
    it_merges_under_its_rules(&device);
    it_streams(&device);
    it_is_for_its_group(&device);
    the_units_are_sound(&device);
    assert_eq!(device.failed_units().unwrap(), "");
    it_unmerges_at_the_end(&mut device);
    device.shutdown().unwrap();
}

/// While the device shuts down, the socket hangs up on everybody; the program does without it.
fn it_unmerges_at_the_end(device: &mut Device) {
    device.reboot().unwrap();
    let logs = device.logs();
    assert!(logs.contains("The extensions are unmerged."), "{logs}");
    let failed: Vec<_> = logs
        .lines()
        .filter(|line| line.contains("avocado") && line.contains("status="))
        .collect();
    assert_eq!(failed, [""; 0]);
}

fn it_describes_itself(device: &Device) {
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
}

fn it_merges_under_its_rules(device: &Device) {
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
}

/// A runtime with an image that takes its time, from a repository of its own.
fn it_streams(device: &Device) {
    const LENGTH: u64 = 32 << 20;
    let directory = tempfile::tempdir().unwrap();
    let published = Published::create(directory.path(), LENGTH).unwrap();
    let anchor = device.var().join("lib/avocado/metadata/root.json");
    let before = fs::read(&anchor).unwrap();
    fs::write(&anchor, &published.anchor).unwrap();
    let mut options = Options::new(&published.directory);
    options.address = SocketAddr::from((device.host_address(), 0));
    // Half of it comes with the first request, and the rest with the next.
    options
        .faults
        .add(Rule::new(Fault::Cut(LENGTH / 2), "*.raw").first(1));
    let server = Server::start(options).unwrap();
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
}

fn it_is_for_its_group(device: &Device) {
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
}

fn the_units_are_sound(device: &Device) {
    let units = [
        "avocadoctl.socket",
        "avocadoctl.service",
        "avocado-extension.service",
        "avocado-ensure-extensions.service",
    ];
    let words = [&["systemd-analyze", "verify", "--man=no"][..], &units].concat();
    let output = device.enter(&words).ok().unwrap();
    let said = format!("{}{}", output.stdout, output.stderr);
    let about_us: Vec<_> = said
        .lines()
        .filter(|line| line.contains("avocado"))
        .collect();
    assert_eq!(about_us, [""; 0]);
}
