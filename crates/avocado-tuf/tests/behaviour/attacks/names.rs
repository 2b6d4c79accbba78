//! Names that are not what they seem, or could not be one.

use std::fs;

use avocado_tuf::TufError;
use serde_json::{Value, json};

use super::{Attack, TOP, attack, unacceptable, upward};
use crate::support::{Forge, tree};

/// Delegates to a role of this name, which the snapshot lists.
fn rename_role(f: &mut Forge, name: &str) {
    f.role("targets")["delegations"]["roles"][0]["name"] = json!(name);
    upward(f, "targets");
    let meta = f.role("snapshot")["meta"]["app.json"].clone();
    f.role("snapshot")["meta"][format!("{name}.json")] = meta;
    upward(f, "snapshot");
}

fn delegations(f: &mut Forge) -> &mut Value {
    &mut f.role("targets")["delegations"]
}

pub(super) fn attacks() -> Vec<Attack> {
    let targets = |e: &TufError| unacceptable(e, "targets");
    let above: &[&str] = &["timestamp", "snapshot"];
    vec![
        attack(
            "role name that is too long for a file",
            |f| rename_role(f, &"r".repeat(251)),
            |e| matches!(e, TufError::RoleName { .. }),
            TOP,
        ),
        attack(
            "role name that is too long once quoted",
            |f| rename_role(f, &"ä".repeat(42)),
            |e| matches!(e, TufError::RoleName { .. }),
            TOP,
        ),
        attack(
            "role without a name",
            |f| rename_role(f, ""),
            targets,
            above,
        ),
        attack(
            "delegation to the root",
            |f| rename_role(f, "root"),
            targets,
            above,
        ),
        attack(
            "role that is delegated to twice",
            |f| {
                let role = delegations(f)["roles"][0].clone();
                delegations(f)["roles"].as_array_mut().unwrap().push(role);
                upward(f, "targets");
            },
            targets,
            above,
        ),
        attack(
            "role of two scopes",
            |f| {
                delegations(f)["roles"][0]["path_hash_prefixes"] = json!([""]);
                upward(f, "targets");
            },
            targets,
            above,
        ),
        attack(
            "role of no scope",
            |f| {
                let role = delegations(f)["roles"][0].as_object_mut().unwrap();
                role.remove("paths");
                upward(f, "targets");
            },
            targets,
            above,
        ),
        attack(
            "half a character",
            |f| {
                upward(f, "targets");
                let file = f.path("metadata/timestamp.json");
                let text = fs::read_to_string(&file).unwrap();
                fs::write(file, text.replace("1.0.31", "\\ud800")).unwrap();
            },
            |e| unacceptable(e, "timestamp"),
            &[],
        ),
    ]
}

/// Names of targets that would leave a directory, that no file can have, or that a reader takes
/// for others.
fn bad_names() -> Vec<String> {
    let fixed = [
        "../evil",
        "/etc/passwd",
        "a/../../b",
        "a/..",
        "..",
        ".",
        "./a",
        "a//b",
        "a/",
        "",
        "a\0b",
        "a\nb",
        "a\u{1b}[2Jb",
        "a\\b",
        "..\\..\\b",
        // Full-width, one dot leaders, division slash, fraction slash.
        "\u{ff0e}\u{ff0e}/b",
        "\u{2024}\u{2024}/b",
        "\u{2025}/b",
        "..\u{ff0f}b",
        "..\u{2215}b",
        "..\u{2044}b",
        "..\u{ff3c}b",
        // Read from the right: exe.raw
        "a\u{202e}war.exe",
        "a\u{2066}b",
        // Not to be seen at all.
        "manifest\u{200b}.json",
        "manifest.json\u{feff}",
        "manif\u{ad}est.json",
        "manifest\u{e0020}.json",
    ];
    let mut names: Vec<String> = fixed.map(str::to_owned).into();
    names.push("a".repeat(256));
    names.push("ä".repeat(128));
    names.push(format!("{}b", "a/".repeat(512)));
    names
}

#[test]
fn names_are_refused_before_any_request_and_any_file() {
    let mut forge = Forge::new();
    // Each is listed, by one that may speak of it. (What JSON escapes, the second way to the
    // signed bytes does not know.)
    let plain = |name: &String| !name.contains(|c: char| c.is_control() || c == '\\');
    for name in bad_names().into_iter().filter(plain) {
        forge.role("targets")["targets"][name] =
            json!({"length": 1, "hashes": {"sha256": "0".repeat(64)}});
    }
    forge.publish_all();
    let device = forge.device();
    let mut client = device.client().unwrap();
    client.refresh().unwrap();
    device.files.take_log();
    let before = (device.stored(), tree(device.dir.path()));
    for name in bad_names() {
        let error = client.target(&name).expect_err(&name);
        assert!(
            matches!(error, TufError::TargetName(_)),
            "{name:?}: {error:?}"
        );
        // What is shown of it is harmless.
        let shown = error.to_string();
        assert!(
            !shown.contains(char::is_control) && shown.len() < 3000,
            "{shown}"
        );
    }
    assert_eq!(device.files.take_log(), [""; 0]);
    assert_eq!((device.stored(), tree(device.dir.path())), before);
}

#[test]
fn names_that_only_need_quoting_are_names() {
    let mut forge = Forge::new();
    let names = [
        "a b?#%&+.raw",
        "%2e%2e%2fa.raw",
        "größe.raw",
        "日本語.raw",
        "..a.raw",
    ];
    for name in names {
        forge.add("app", name, name.as_bytes());
    }
    forge.publish_all();
    let mut device = forge.device();
    device.files.allow_dots = true;
    for name in names {
        let mut client = device.client().unwrap();
        let info = client.target(name).unwrap().unwrap();
        device.files.take_log();
        // As one segment of a URL it has another spelling, which this transport knows no file of.
        let result = client.download(&info, &device.partial(), &avocado_events::Silent);
        assert!(matches!(result, Err(TufError::Fetch { .. })) || name == "..a.raw");
        let asked = device.files.take_log().remove(0);
        let segment = asked.strip_prefix("targets/").unwrap();
        assert!(
            segment
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-~%".contains(c)),
            "{segment}"
        );
    }
    // Composed and decomposed are two names, and only one of them is listed.
    assert!(device.fetch("gro\u{308}ße.raw").unwrap().is_none());
}
