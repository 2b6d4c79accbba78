//! What programs read: with `--output json`, every line of standard output is JSON, or all of it is one
//! document; and a failure is an event with a message.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Place;

const YAML: &str = "default_target: qemux86-64\nsupported_targets: [qemux86-64]\n\
                    distro: {release: '2024', channel: edge}\n\
                    extensions:\n  app: {version: 1.0.0, types: [sysext]}\n\
                    runtimes:\n  dev: {extensions: [app]}\n";

/// One line for each; most fail here, where there is neither a feed nor anything that was built.
const COMMANDS: &[&str] = &[
    "build",
    "build -r none",
    "clean",
    "config show",
    "config check",
    "deploy -d 127.0.0.1",
    "diff dev dev",
    "doctor",
    "ext list",
    "ext build app",
    "ext image none",
    "fetch",
    "hitl server -e none",
    "init sub",
    "initramfs list",
    "install",
    "kernel image",
    "load none",
    "lock diff none",
    "prune",
    "rootfs list",
    "provision dev",
    "provision --list",
    "rootfs image",
    "runtime list",
    "runtime build dev",
    "save .",
    "sbom",
    "scan",
    "schema",
    "sdk install",
    "signing-keys list",
    "signing-keys create one",
    "uninstall none -e app",
    "unlock",
    "update",
    "verify",
    "verify none",
    "vm status",
];

/// Those that print for a shell or for people, whatever is asked.
const OTHERS: [&str; 2] = ["completion", "yaml"];

#[test]
fn every_line_of_every_command_is_json() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let pages = fs::read_dir(reference).unwrap().map(|page| {
        let name = page.unwrap().file_name().into_string().unwrap();
        let name = name.strip_prefix("avocado-").unwrap();
        name.strip_suffix(".md").unwrap().to_owned()
    });
    let mut missing: BTreeSet<String> = pages.collect();
    missing.retain(|name| !OTHERS.contains(&name.as_str()));
    let place = Place::new();
    place.write("avocado.yaml", YAML);
    for command in COMMANDS {
        let words: Vec<&str> = command.split(' ').collect();
        missing.remove(words[0]);
        let mut run = place.command();
        run.env("AVOCADO_REPO_URL", "http://127.0.0.1:9")
            .timeout(std::time::Duration::from_secs(60))
            .args(&words)
            .args(["--output", "json"]);
        let ended = place.end(&mut run);
        let text = ended.stdout.trim();
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        let Ok(lines) = lines else {
            let whole = serde_json::from_str::<Value>(text);
            assert!(whole.is_ok(), "{command}: {text}\n{}", ended.stderr);
            continue;
        };
        for line in lines.iter().filter(|line| line.get("event").is_some()) {
            assert!(line["event"].is_string(), "{command}: {line}");
        }
        if ended.code != Some(0) && *command != "doctor" {
            let last = lines.last();
            let last = last.unwrap_or_else(|| panic!("{command}: {}", ended.stderr));
            assert_eq!(last["event"], "error", "{command}: {last}");
            assert!(!last["message"].as_str().unwrap().is_empty(), "{command}");
        }
    }
    assert!(
        missing.is_empty(),
        "no line of these is looked at: {missing:?}"
    );
}
