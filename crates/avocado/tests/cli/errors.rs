use serde_json::Value;

use crate::Place;

/// What a person reads and what a program reads of the same failure.
fn both(place: &Place, args: &[&str], code: i32) -> String {
    let human = place.run(args).failed(code);
    assert_eq!(human.stdout, "", "a failure is no data");
    let json: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
    let json = place.run(&json).failed(code);
    assert_eq!(json.stderr, "");
    let documents = json.documents();
    let last = documents.last().unwrap();
    assert_eq!(last["event"], "error");
    format!(
        "{}---\n{}\n",
        human.stderr,
        serde_json::to_string_pretty(last).unwrap()
    )
}

#[test]
fn no_project() {
    insta::assert_snapshot!("no-project", both(&Place::new(), &["build"], 1));
}

#[test]
fn a_project_with_an_undefined_extension() {
    let place = Place::new();
    place.write(
        "avocado.yaml",
        "default_target: qemux86-64\nruntimes:\n  dev:\n    extensions: [ap]\nextensions:\n  app:\n    version: 1.0.0\n",
    );
    insta::assert_snapshot!("undefined-extension", both(&place, &["build"], 1));
}

#[test]
fn an_unknown_key_only_warns() {
    let place = Place::new();
    place.write(
        "avocado.yml",
        "default_target: qemux86-64\nextentions:\n  app:\n    version: 1.0.0\n",
    );
    let ended = place.run(&["ext", "list"]).ok();
    insta::assert_snapshot!("unknown-key", ended.stderr);
}

#[test]
fn another_machine_is_named_where_it_means_something() {
    let place = Place::new();
    for (args, message) in [
        (
            &["ext", "image", "--nfs-port", "12050"][..],
            "--nfs-port means nothing without --runs-on",
        ),
        (
            &["--runs-on", "me@host", "signing-keys", "list"],
            "`avocado signing-keys` runs no steps on another machine",
        ),
        (
            &["ext", "list", "--runs-on", "me@host"],
            "`avocado ext list` runs no steps on another machine",
        ),
        (
            &["ext", "package", "app", "--runs-on", "me@host"],
            "`avocado ext package` runs no steps on another machine",
        ),
        (
            &["runtime", "list", "--runs-on", "me@host"],
            "`avocado runtime list` runs no steps on another machine",
        ),
        (
            &["sdk", "deps", "--runs-on", "me@host"],
            "`avocado sdk deps` runs no steps on another machine",
        ),
        (
            &["rootfs", "clean", "--runs-on", "me@host"],
            "`avocado rootfs clean` runs no steps on another machine",
        ),
        (
            &["clean", "--runs-on", "me@host"],
            "`avocado clean` runs no steps on another machine",
        ),
        (
            &["sdk", "run", "--runs-on", "me@host", "true"],
            "`avocado sdk run` runs no steps on another machine",
        ),
        (
            &["update", "--runs-on", "me@host"],
            "`avocado update` runs no steps on another machine",
        ),
    ] {
        let shown = place.run(args).failed(2).stderr;
        assert!(
            shown.starts_with(&format!("error: {message}\nhint: ")),
            "{shown}"
        );
    }
    for args in [
        &["build", "--runs-on", "-oProxyCommand=x"][..],
        &["build", "--runs-on", "me@"],
        &["build", "--runs-on", "me@host", "--nfs-port", "0"],
    ] {
        place.run(args).failed(2);
    }
}

#[test]
fn a_device_that_no_shell_or_ssh_could_misread() {
    let place = Place::new();
    for device in ["-oProxyCommand=reboot", "a;b", "root@$(x)", "host:0", ""] {
        place
            .run(&["deploy", &format!("--device={device}")])
            .failed(2);
    }
}

#[test]
fn a_runtime_that_is_not_built_is_not_deployed() {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    insta::assert_snapshot!(
        "deploy-not-built",
        both(&place, &["deploy", "-d", "192.0.2.1"], 1)
    );
    insta::assert_snapshot!(
        "deploy-unknown-runtime",
        both(&place, &["deploy", "nope", "-d", "192.0.2.1"], 1)
    );
}

#[test]
fn an_unusable_setting_is_named() {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    let mut command = place.command();
    command.env("AVOCADO_PARALLEL_TASKS", "many").arg("build");
    let shown = place.end(&mut command).failed(2).stderr;
    assert_eq!(
        shown,
        "error: AVOCADO_PARALLEL_TASKS is `many`, not a number from 1 to 256\n"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    place.run(&["signing-keys", "create"]).ok();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_avocado"))
        .args(["completion", "bash"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_extension_that_is_not_here_is_listed() {
    let place = Place::new();
    place.write(
        "avocado.yaml",
        "default_target: qemux86-64
extensions:
  docker: {source: {type: package, version: '*'}}
  app: {version: 1.0.0}
  near: {source: {type: path, path: near}}
runtimes: {dev: {extensions: [docker, app]}}
",
    );
    place.write(
        "near/avocado.yaml",
        "extensions: {near: {version: 2.0.0}}\n",
    );
    insta::assert_snapshot!("ext-list-sources", place.run(&["ext", "list"]).ok().stdout);
    let json = place.run(&["ext", "list", "--output", "json"]).ok().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[2]["version"], Value::Null);
    assert_eq!(json[2]["source"]["fetched"], false);
    assert_eq!(json[2]["source"]["from"], "the package docker");
    assert_eq!(json[1]["source"]["fetched"], true);
    assert_eq!(json[0].get("source"), None);
}

#[test]
fn ext_list_is_one_document() {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    insta::assert_snapshot!("ext-list", place.run(&["ext", "list"]).ok().stdout);
    let json = place.run(&["ext", "list", "--output", "json"]).ok().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    insta::assert_json_snapshot!("ext-list-json", json);
}

#[test]
fn a_list_that_cannot_be_edited_is_left_alone() {
    let place = Place::new();
    let yaml = "default_target: qemux86-64
p: &p {hello: '*'}
extensions:
  app:
    version: 1.0.0
    packages: *p
";
    place.write("avocado.yaml", yaml);
    let install = &["install", "htop", "-e", "app"];
    insta::assert_snapshot!("install-alias", both(&place, install, 1));
    let install = &["install", "htop", "-e", "ap"];
    insta::assert_snapshot!("install-unknown-extension", both(&place, install, 1));
    let uninstall = &["uninstall", "hell", "-e", "app"];
    insta::assert_snapshot!("uninstall-unknown-package", both(&place, uninstall, 1));
    let after = std::fs::read_to_string(place.path("avocado.yaml")).unwrap();
    assert_eq!(after, yaml);
    for (arguments, message) in [
        (&["install", "htop"][..], "the following required arguments"),
        (
            &["install", "--no-save"],
            "the following required arguments",
        ),
        (
            &["install", "htop=1", "--sdk"],
            "error: `htop=1` is no name of a package",
        ),
        (
            &["install", "htop", "--sdk", "--rootfs"],
            "cannot be used with",
        ),
        (&["uninstall", "htop"], "the following required arguments"),
        (
            &["install", "--sdk", "host"],
            "hint: `--backend host` says where the tools run",
        ),
        (
            &["install", "--sdk", "container"],
            "hint: `--backend container` says where the tools run",
        ),
    ] {
        let shown = place.run(arguments).failed(2).stderr;
        assert!(shown.contains(message), "{arguments:?}: {shown}");
    }
    let unlock = place.run(&["unlock", "-e", "other"]).failed(1).stderr;
    assert!(
        unlock.contains("the project has no extension `other`"),
        "{unlock}"
    );
    place.write("avocado.yaml", "default_target: qemux86-64\n");
    let unlock = place.run(&["unlock", "-e", "other"]).failed(1).stderr;
    assert!(
        unlock.contains("hint: it has no extension at all for target qemux86-64"),
        "{unlock}"
    );
    place.write("avocado.yaml", yaml);
    place.run(&["unlock", "--rootfs"]).ok();
    assert!(!place.path("avocado.lock").exists());
}
