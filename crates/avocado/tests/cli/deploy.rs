//! `avocado deploy` to a device that is made of two small programs and curl.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use avocado_manifest::{Digest, MANIFEST_VERSION, Manifest, RuntimeId, RuntimeLabel};
use avocado_tuf::Keyring;
use avocado_tuf::writer::{self, Publication, PublicationTarget, RoleSigners};

use crate::{Ended, Place};

const YAML: &str = "default_target: qemux86-64\nsupported_targets: [qemux86-64]\n\
                    runtimes:\n  dev: {}\n";

/// A project whose runtime is built, and the device's files in `device`.
fn built() -> Place {
    let place = Place::new();
    place.write("avocado.yaml", YAML);
    place.write(
        "device/configuration",
        "hostname 127.0.0.1\nstricthostkeychecking ask\nconnecttimeout none\n",
    );
    let output = place.path(".avocado/state/qemux86-64/output/runtimes/dev");
    fs::create_dir_all(&output).unwrap();
    let manifest = Manifest {
        manifest_version: MANIFEST_VERSION,
        id: RuntimeId::from_digest(Digest::of(b"dev")),
        built_at: "2026-01-01T00:00:00Z".into(),
        runtime: RuntimeLabel {
            name: "dev".into(),
            version: "1".into(),
        },
        rootfs: None,
        initramfs: None,
        kernel: None,
        extensions: Vec::new(),
        os_bundle: None,
    };
    let text = manifest.to_json().unwrap();
    let path = output.join("manifest.json");
    fs::write(&path, &text).unwrap();
    let now = jiff::Timestamp::now();
    let keyring = Keyring::new(place.path("keys"));
    let entry = keyring.create("dev-signing-key", now).unwrap();
    let key = keyring.load(&entry, &|_| {}).unwrap();
    writer::publish(&Publication {
        directory: &output.join("repository"),
        signers: RoleSigners::one(&key),
        role: "runtime-dev",
        targets: &[PublicationTarget {
            name: "manifest.json".into(),
            source: &path,
            digest: Digest::of(&text),
            length: text.len() as u64,
        }],
        now,
    })
    .unwrap();
    place
}

fn cannot_deploy(test: &str) -> bool {
    let mut curl = Command::new("curl");
    let silent = curl.arg("--version").stdout(Stdio::null()).status();
    let can = silent.is_ok_and(|status| status.success());
    if !can {
        avocado_test_support::skip(test, "curl is not installed");
    }
    !can
}

/// A deployment with the stand-ins in the place of ssh and avocadoctl.
fn deploy(place: &Place, args: &[&str]) -> Ended {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/device");
    let mut path = programs.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = place.command();
    command
        .env("PATH", path)
        .env("DEVICE", place.path("device"))
        .env("AVOCADO_SIGNING_KEYS_DIR", place.path("keys"))
        .env("AVOCADO_DEPLOY_REPO_PORT", "0")
        .args(["deploy", "-d", "127.0.0.1"])
        .args(args);
    place.end(&mut command)
}

/// What the device wrote down.
fn device(place: &Place, file: &str) -> String {
    fs::read_to_string(place.path("device").join(file)).unwrap()
}

/// Without the token, with a wrong one, with the right one; and at another address.
const STATUSES: &str = "401\n401\n200\n000\n";

#[test]
fn only_the_device_is_served_and_only_on_its_route() {
    if cannot_deploy("only_the_device_is_served_and_only_on_its_route") {
        return;
    }
    let place = built();
    let ended = deploy(&place, &["-vv"]).ok();
    assert_eq!(device(&place, "statuses"), STATUSES);
    let token = device(&place, "token");
    assert!(token.len() >= 64 && token.chars().all(|c| c.is_ascii_hexdigit()));
    // A user who looks at processes, output or logs does not learn it.
    for said in [
        device(&place, "ssh"),
        device(&place, "avocadoctl"),
        ended.stdout,
        ended.stderr,
    ] {
        assert!(!said.contains(&token), "{said}");
    }
    deploy(&place, &[]).ok();
    assert_ne!(device(&place, "token"), token);
}

#[test]
fn an_older_avocadoctl_gets_the_token_too() {
    if cannot_deploy("an_older_avocadoctl_gets_the_token_too") {
        return;
    }
    let place = built();
    place.write("device/old", "");
    deploy(&place, &[]).ok();
    assert_eq!(device(&place, "statuses"), STATUSES);
    assert!(device(&place, "avocadoctl").contains("\nruntime activate "));
}

#[test]
fn ssh_keeps_what_is_configured() {
    if cannot_deploy("ssh_keeps_what_is_configured") {
        return;
    }
    let place = built();
    deploy(&place, &[]).ok();
    let words = device(&place, "ssh");
    assert!(
        words.contains("StrictHostKeyChecking=accept-new"),
        "{words}"
    );
    fs::remove_file(place.path("device/ssh")).unwrap();
    place.write(
        "device/configuration",
        "hostname 127.0.0.1\nstricthostkeychecking true\nconnecttimeout 3\n",
    );
    deploy(&place, &["--ssh-arg=-v"]).ok();
    let words = device(&place, "ssh");
    let commands: Vec<&str> = words.lines().collect();
    assert_eq!(commands[0], "-v -T -l root -G -- 127.0.0.1");
    assert!(
        commands[1].starts_with("-v -T -l root -- 127.0.0.1 "),
        "{words}"
    );
    assert!(!words.contains("accept-new"), "{words}");
}
