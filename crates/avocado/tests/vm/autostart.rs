//! VMs that start when their user logs in.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::Place;

/// A `systemctl` that writes down what it is asked, and does what enabling does; none where a file says so.
/// A unit is in the state that the file `state` says, and inactive where there is none.
fn pretend_systemctl(place: &Place) -> String {
    let bin = place.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let (log, none, fails) = (place.path("asked"), place.path("none"), place.path("fails"));
    let state = place.path("state");
    let units = place.path("home/.config/systemd/user");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>'{log}'\n\
         if [ -e '{none}' ]; then echo 'Failed to connect to bus' >&2; exit 1; fi\n\
         if [ \"$2\" = is-active ]; then cat '{state}' 2>/dev/null || echo inactive; exit; fi\n\
         if [ \"$2\" = stop ]; then rm -f '{state}'; fi\n\
         if [ \"$2\" = enable ]; then\n\
         if [ -e '{fails}' ]; then echo 'Failed to enable' >&2; exit 1; fi\n\
         mkdir -p '{units}/default.target.wants'\n\
         ln -sf \"../$3\" '{units}/default.target.wants/'\"$3\"\n\
         fi\n",
        log = log.display(),
        none = none.display(),
        fails = fails.display(),
        state = state.display(),
        units = units.display(),
    );
    let program = bin.join("systemctl");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

#[test]
fn a_vm_starts_at_login_while_that_is_enabled() {
    let place = Place::new();
    let path = pretend_systemctl(&place);
    let run = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("PATH", &path);
        place.end(&mut command)
    };
    let enabled = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        let status: serde_json::Value = serde_json::from_str(&run(&args).ok().stdout).unwrap();
        status["enabled"].as_bool().unwrap()
    };
    let never = run(&["autostart", "enable"]).failed(1).stderr;
    assert!(never.contains("the VM was never started"), "{never}");

    // Each VM by itself.
    let launch = place.record(&json!(null))["launch"].to_string();
    for dir in ["home/.avocado/vm", "home/.avocado/vms/web"] {
        fs::create_dir_all(place.path(dir)).unwrap();
        fs::write(place.path(dir).join("launch.json"), &launch).unwrap();
    }
    let units = place.path("home/.config/systemd/user");
    fs::write(place.path("none"), "").unwrap();
    let none = run(&["autostart", "enable"]).failed(1).stderr;
    assert!(
        none.contains("no systemd that starts programs for this user"),
        "{none}"
    );
    assert!(!units.exists(), "nothing is left");
    fs::remove_file(place.path("none")).unwrap();
    fs::write(place.path("fails"), "").unwrap();
    let fails = run(&["autostart", "enable"]).failed(1).stderr;
    assert!(fails.contains("Failed to enable"), "{fails}");
    assert_eq!(
        crate::files(&units),
        Vec::<String>::new(),
        "nothing is left"
    );
    fs::remove_file(place.path("fails")).unwrap();

    run(&["autostart", "enable"]).ok();
    run(&["--name", "web", "autostart", "enable"]).ok();
    let unit = fs::read_to_string(units.join("avocado-vm@web.service")).unwrap();
    let program = env!("CARGO_BIN_EXE_avocado");
    let line = format!("\nExecStart=:\"{program}\" vm --name web start --again\n");
    assert!(unit.contains(&line), "{unit}");
    assert!(
        enabled(&["autostart", "status"]) && enabled(&["autostart", "status", "--name", "web"])
    );
    // While it is active, systemd needs its file to shut the guest down.
    for state in ["active", "activating", "deactivating", ""] {
        fs::write(place.path("state"), state).unwrap();
        let said = run(&["autostart", "disable"]).ok().stderr;
        assert!(said.contains("its unit stays"), "{said}");
        assert!(units.join("avocado-vm.service").exists());
        assert!(!enabled(&["autostart", "status"]));
    }
    fs::write(place.path("state"), "inactive\n").unwrap();
    run(&["autostart", "disable"]).ok();
    assert!(!units.join("avocado-vm.service").exists());
    assert!(
        !enabled(&["autostart", "status"]) && enabled(&["autostart", "status", "--name", "web"])
    );
    run(&["autostart", "disable"]).ok();

    // A VM that is deleted starts no more, and nothing of it is ended later.
    fs::write(place.path("state"), "active\n").unwrap();
    run(&["delete", "web", "--yes"]).ok();
    assert!(!enabled(&["autostart", "status", "--name", "web"]));
    assert_eq!(crate::files(&units), ["default.target.wants"]);
    let asked = fs::read_to_string(place.path("asked")).unwrap();
    assert!(
        asked.contains("--user enable avocado-vm@web.service\n"),
        "{asked}"
    );
    let end = "--user stop avocado-vm@web.service\n\
               --user is-active avocado-vm@web.service\n\
               --user daemon-reload\n";
    assert!(asked.ends_with(end), "{asked}");

    let mut command = place.command(&["autostart", "enable"]);
    command.env("AVOCADO_VM_STATE_DIR", place.path("x"));
    let stated = place.end(&mut command).failed(2).stderr;
    assert!(stated.contains("cannot start at each login"), "{stated}");
}
