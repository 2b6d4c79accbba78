use std::fs;

use serde_json::json;

use crate::Place;

#[test]
fn the_configuration_is_read_and_changed() {
    let place = Place::new();
    let get = |key: &str| place.run(&["config", "get", key]).ok();
    let missing = get("runtime.cpus");
    assert_eq!((missing.stdout.as_str(), missing.stderr.as_str()), ("", ""));
    let missing = place.json(&["config", "get", "runtime.cpus"]);
    assert_eq!(
        missing,
        json!({"key": "runtime.cpus", "value": null, "default": 4})
    );

    fs::create_dir_all(place.vm("")).unwrap();
    let text = "# mine\nruntime:\n  cpus: 2 # two\ndesktop:\n  theme: dark\n";
    fs::write(place.vm("config.yaml"), text).unwrap();
    place.run(&["config", "set", "runtime.cpus", "6"]).ok();
    place
        .run(&["config", "set", "network.dns", "192.0.2.1"])
        .ok();
    place
        .run(&[
            "config",
            "set",
            "network.dns_search",
            "a.example",
            "b.example",
        ])
        .ok();
    assert_eq!(get("runtime.cpus").stdout, "6\n");
    assert_eq!(get("network.dns_search").stdout, "a.example\nb.example\n");
    let changed = fs::read_to_string(place.vm("config.yaml")).unwrap();
    assert!(
        changed.starts_with("# mine\nruntime:\n  cpus: 6 # two\ndesktop:\n  theme: dark\n"),
        "{changed}"
    );
    let listed = place.run(&["config", "list"]).ok().stdout;
    insta::assert_snapshot!(listed, @r#"
    desktop.theme = dark
    idle.containers_keep_awake = false (default)
    idle.hibernate_after_secs = 60 (default)
    idle.release_memory_after_secs = 0 (default)
    idle.silent_connection_secs = 600 (default)
    network.dns = ["192.0.2.1"]
    network.dns_search = ["a.example","b.example"]
    runtime.cpus = 6
    runtime.memory_mib = 4096 (default)
    "#);
    assert_eq!(place.run(&["config"]).ok().stdout, listed);
    assert_eq!(
        place.json(&["config", "list"])["network"]["dns"][0],
        "192.0.2.1"
    );
    place.run(&["config", "unset", "network.dns"]).ok();
    place.run(&["config", "unset", "network.dns"]).ok();
    assert_eq!(get("network.dns").stdout, "");
    assert_eq!(get("runtime").stdout, "{\"cpus\":6}\n");
}

#[test]
fn options_may_follow_the_values() {
    let place = Place::new();
    let set = |args: &[&str]| {
        let args: Vec<&str> = ["config", "set", "desktop.x"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        place.run(&args)
    };
    for (args, value) in [
        (&["y", "--output", "json"][..], json!("y")),
        (&["y", "z", "--output", "json"], json!(["y", "z"])),
        (&["--output", "json", "--", "-1"], json!(-1)),
        (
            &["--output", "json", "--", "y", "--output"],
            json!(["y", "--output"]),
        ),
    ] {
        let said = set(args).ok().stdout;
        assert!(said.contains("\"key\": \"desktop.x\""), "{said}");
        assert_eq!(place.json(&["config", "get", "desktop.x"])["value"], value);
    }
    let refused = set(&["-1"]).failed(2).stderr;
    assert!(refused.contains("unexpected argument '-1'"), "{refused}");
}

#[test]
fn a_map_goes_with_its_last_key() {
    let place = Place::new();
    place.run(&["config", "set", "bad.deep.key", "1"]).ok();
    place.run(&["config", "set", "runtime.cpus", "2"]).ok();
    place.run(&["config", "unset", "bad.deep.key"]).ok();
    let text = fs::read_to_string(place.vm("config.yaml")).unwrap();
    assert_eq!(text, "runtime:\n  cpus: 2\n");
}

#[test]
fn a_bad_configuration_is_named() {
    let place = Place::new();
    fs::create_dir_all(place.vm("")).unwrap();
    let text = "runtime:\n  cpus: 2\n";
    fs::write(place.vm("config.yaml"), text).unwrap();
    let refused = place
        .run(&["config", "set", "runtime.cpus", "many"])
        .failed(1);
    insta::assert_snapshot!(refused.stderr, @r"
    error: cannot use [PLACE]/home/.avocado/vm/config.yaml
      caused by: `runtime.cpus` is `many`, not a whole number from 1 to 1024
    ");
    assert_eq!(fs::read_to_string(place.vm("config.yaml")).unwrap(), text);
    let typo = place
        .run(&["config", "set", "idle.hibernate_after_sec", "9"])
        .ok();
    insta::assert_snapshot!(typo.stderr, @"warning: `idle.hibernate_after_sec` means nothing to this version of avocado; did you mean `idle.hibernate_after_secs`?");

    fs::write(place.vm("config.yaml"), "runtime: 5\n").unwrap();
    let image = place.path("image");
    place.image("image", "1");
    let start = place
        .run(&["start", "--vm-source", image.to_str().unwrap()])
        .failed(1);
    insta::assert_snapshot!(start.stderr, @r"
    error: cannot use [PLACE]/home/.avocado/vm/config.yaml
      caused by: `runtime` is `5`, not a map
    ");
    fs::remove_file(place.vm("config.yaml")).unwrap();
    let mut command = place.command(&["start", "--vm-source", image.to_str().unwrap()]);
    command.env("AVOCADO_VM_IDLE_HIBERNATE_SECS", "soon");
    let shown = place.end(&mut command).failed(2).stderr;
    assert_eq!(
        shown,
        "error: AVOCADO_VM_IDLE_HIBERNATE_SECS is `soon`, not a number of seconds\n"
    );
}

#[test]
#[cfg(unix)]
fn a_change_counts_for_a_running_vm_or_says_from_when() {
    let place = Place::new();
    let asked = place.pretend_to_run();
    let said = place.run(&["config", "set", "runtime.cpus", "6"]).ok();
    insta::assert_snapshot!(said.stderr, @"`runtime.cpus` counts from the next start of the VM: `avocado vm restart`");
    let launch = place.record(&json!(null))["launch"].to_string();
    fs::write(place.vm("launch.json"), launch).unwrap();
    let key = "idle.hibernate_after_secs";
    let said = place.run(&["config", "set", key, "90"]).ok();
    insta::assert_snapshot!(said.stderr, @"`idle.hibernate_after_secs` counts for the running VM at once");
    let configured = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["method"] == "configure").then(|| line["params"]["idle"].clone())
    };
    let last = || asked.try_iter().filter_map(|line| configured(&line)).last();
    assert_eq!(last(), Some(json!({"hibernate_after_secs": 90})));
    let launch = fs::read_to_string(place.vm("launch.json")).unwrap();
    assert!(launch.contains("\"hibernate_after_secs\": 90"), "{launch}");
    place.run(&["config", "unset", "idle"]).ok();
    let defaults = json!({
        "hibernate_after_secs": 60, "release_memory_after_secs": 0,
        "silent_connection_secs": 600, "containers_keep_awake": false,
    });
    assert_eq!(last(), Some(defaults));

    let mut command = place.command(&["config", "set", key, "30"]);
    command.env("AVOCADO_VM_IDLE_HIBERNATE_SECS", "9");
    let said = place.end(&mut command).ok();
    insta::assert_snapshot!(said.stderr, @"warning: AVOCADO_VM_IDLE_HIBERNATE_SECS is set, and goes before idle.hibernate_after_secs");
    assert_eq!(last(), None);
    // What means nothing here is none of the VM's business.
    let said = place.run(&["config", "set", "desktop.theme", "dark"]).ok();
    assert!(!said.stderr.contains("counts"), "{}", said.stderr);
}
