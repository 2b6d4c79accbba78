use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::{Ended, Place};

/// What it says where programs are in one directory.
fn doctor(place: &Place, directory: &str) -> Ended {
    let mut command = place.command();
    command.env("PATH", place.path(directory));
    place.end(command.args(["doctor", "--output", "json"]))
}

fn finding<'a>(diagnosis: &'a Value, subject: &str) -> &'a Value {
    let findings = diagnosis["findings"].as_array().unwrap();
    findings.iter().find(|f| f["subject"] == subject).unwrap()
}

#[test]
fn what_is_not_there_is_told_with_the_way_to_get_it() {
    let place = Place::new();
    let output = doctor(&place, "none").failed(1);
    let diagnosis: Value = serde_json::from_str(&output.stdout).unwrap();
    for (ability, area) in [
        ("build_on_host", "dnf"),
        ("build_in_containers", "podman"),
        ("deploy", "ssh"),
    ] {
        assert_eq!(diagnosis["can"][ability], false);
        let finding = finding(&diagnosis, area);
        assert_eq!(finding["state"], "missing");
        assert_eq!(finding["area"], ability);
    }
    let advice = &finding(&diagnosis, "ssh")["advice"];
    assert_eq!(
        advice,
        "install the package openssh-client (Debian) or openssh-clients (Fedora)"
    );
    for subject in ["git", "skopeo", "mcopy"] {
        assert_eq!(finding(&diagnosis, subject)["state"], "limited");
    }
}

#[test]
fn an_engine_that_does_not_answer_makes_no_containers() {
    let place = Place::new();
    let engine = place.path("bin/docker");
    for (script, state, found) in [
        ("echo Docker version 9", "good", "Docker version 9"),
        (
            "[ \"$1\" = --version ] || { echo no daemon >&2; exit 1; }",
            "missing",
            "no daemon",
        ),
    ] {
        place.write("bin/docker", &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).unwrap();
        let output = doctor(&place, "bin");
        let diagnosis: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(diagnosis["can"]["build_in_containers"], state == "good");
        let docker = finding(&diagnosis, "docker");
        assert_eq!(
            (&docker["state"], &docker["found"]),
            (&state.into(), &found.into())
        );
        assert_eq!(output.code, Some(i32::from(state != "good")));
    }
}
