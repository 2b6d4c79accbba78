use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::{Place, there};

/// Two references, and what is none.
fn references(place: &Place) {
    for (path, text) in [
        ("refs/hello/avocado.yaml", "default_target: qemux86-64\n"),
        ("refs/hello/run.sh", "#!/bin/sh\n"),
        ("refs/hello/overlay/etc/a.conf", "1"),
        ("refs/hello/.gitignore", "target\n"),
        ("refs/hello/.avocado/state/x", "x"),
        ("refs/other/avocado.yml", ""),
        ("refs/docs/README.md", ""),
    ] {
        place.write(path, text);
    }
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(place.path("refs/hello/run.sh"), mode).unwrap();
    symlink("a.conf", place.path("refs/hello/overlay/etc/b.conf")).unwrap();
}

fn git(place: &Place, args: &[&str]) -> String {
    let output = Command::new("git")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .arg("-C")
        .arg(place.path("refs"))
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_reference_becomes_a_project_of_its_own() {
    let place = Place::new();
    references(&place);
    let init = ["init", "--reference", "hello", "--reference-repo", "refs"];
    let ended = place.run(&[&init[..], &["--output", "json"]].concat()).ok();
    let complete = ended.documents().pop().unwrap();
    assert_eq!(complete["path"], "hello");
    assert_eq!(complete["commit"], serde_json::Value::Null);
    let files = [
        ".gitignore",
        "avocado.yaml",
        "overlay/etc/a.conf",
        "overlay/etc/b.conf",
        "run.sh",
    ];
    assert_eq!(complete["files"], serde_json::json!(files));
    let at = |path: &str| place.path("hello").join(path);
    assert_eq!(
        at("run.sh").metadata().unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert_eq!(
        fs::read_link(at("overlay/etc/b.conf")).unwrap().to_str(),
        Some("a.conf")
    );
    assert_eq!(
        fs::read_to_string(at(".gitignore")).unwrap(),
        "target\n.avocado/\n"
    );
    assert!(!there(at(".avocado")) && !there(at(".avocado-reference")));
    // What the reference is itself stays as it was.
    assert_eq!(
        fs::read_to_string(place.path("refs/hello/.gitignore")).unwrap(),
        "target\n"
    );

    // Another directory, and one with a name.
    place.run(&[&init[..], &["mine"]].concat()).ok();
    place
        .run(&[&init[..], &["work", "--name", "own"]].concat())
        .ok();
    for config in ["mine/avocado.yaml", "work/own/avocado.yaml"] {
        assert!(there(place.path(config)), "{config}");
    }
}

#[test]
fn a_reference_comes_from_a_branch_or_a_commit_of_a_repository() {
    if Command::new("git").arg("--version").output().is_err() {
        let name = "a_reference_comes_from_a_branch_or_a_commit_of_a_repository";
        return avocado_test_support::skip(name, "git is not installed");
    }
    let place = Place::new();
    references(&place);
    git(&place, &["init", "--quiet", "--initial-branch=main"]);
    let commit = |text: &str| {
        place.write("refs/hello/overlay/etc/a.conf", text);
        git(&place, &["add", "--all", "--force"]);
        git(&place, &["commit", "--quiet", "--message", text]);
        git(&place, &["rev-parse", "HEAD"])
    };
    let first = commit("first");
    git(&place, &["branch", "next"]);
    let last = commit("last");
    place.write("refs/hello/overlay/etc/a.conf", "not committed");
    let url = format!("file://{}", place.path("refs").display());
    let clone = ["clone", "--quiet", "--bare", ".", "../bare"];
    git(&place, &clone);
    for (to, repository, more, text, of) in [
        ("tree", "refs", &[][..], "not committed", None),
        ("url", &*url, &[], "last", Some(&last)),
        ("bare-one", "bare", &[], "last", Some(&last)),
        (
            "branch",
            "refs",
            &["--reference-branch", "next"],
            "first",
            Some(&first),
        ),
        (
            "commit",
            &url,
            &["--reference-commit", &first],
            "first",
            Some(&first),
        ),
    ] {
        let init = [
            "init",
            to,
            "--reference",
            "hello",
            "--reference-repo",
            repository,
        ];
        // A user's own, whatever it is called.
        place.write(&format!("{to}/.avocado-reference/mine"), "mine");
        let ended = place
            .run(&[&init[..], more, &["--output", "json"]].concat())
            .ok();
        let complete = ended.documents().pop().unwrap();
        assert_eq!(complete["commit"], serde_json::json!(of), "{to}");
        let at = |path: &str| place.path(to).join(path);
        let found = fs::read_to_string(at("overlay/etc/a.conf")).unwrap();
        assert_eq!(found, text, "{to}");
        let names = fs::read_dir(place.path(to)).unwrap().flatten();
        let of_checkouts = names.map(|entry| entry.file_name().into_string().unwrap());
        let of_checkouts = of_checkouts.filter(|name| name.starts_with(".avocado-reference"));
        assert_eq!(of_checkouts.count(), 1, "{to}");
        assert!(
            !there(at(".git")) && there(at(".avocado-reference/mine")),
            "{to}"
        );
        assert_eq!(
            at("run.sh").metadata().unwrap().permissions().mode() & 0o777,
            0o755
        );
    }
    let none = [
        "init",
        "none",
        "--reference",
        "hello",
        "--reference-repo",
        &url,
    ];
    let ended = place.run(&[&none[..], &["--reference-branch", "nowhere"]].concat());
    let said = ended.failed(1).stderr;
    assert!(
        said.contains("cannot fetch the references of file://"),
        "{said}"
    );
    assert!(!there(place.path("none")));
}

#[test]
fn what_cannot_be_taken_leaves_everything_as_it_was() {
    let place = Place::new();
    references(&place);
    let init = |more: &[&str]| {
        let args = ["init", "--reference-repo", "refs", "--reference"];
        place.run(&[&args[..], more].concat())
    };
    let said = init(&["nothing"]).failed(1).stderr;
    assert!(
        said.contains("refs has no reference `nothing` (it has hello, other)"),
        "{said}"
    );
    assert!(!there(place.path("nothing")));
    for more in [
        &["docs"][..],
        &[
            "hello",
            "--reference-branch",
            "a",
            "--reference-commit",
            "b",
        ],
    ] {
        let ended = init(more);
        assert_ne!(ended.code, Some(0), "{more:?}");
    }
    init(&["hello", "--target", "pi"]).failed(2);
    place.run(&["init", "--reference-branch", "main"]).failed(2);

    for file in ["run.sh", "overlay/etc/b.conf", "avocado.yml"] {
        let mine = format!("mine-{}/{file}", file.len());
        place.write(&mine, "mine");
        let directory = mine.split('/').next().unwrap();
        let said = init(&["hello", directory]).failed(1).stderr;
        assert!(
            said.contains(&format!("already there, and another: {mine}")),
            "{said}"
        );
        assert!(said.contains("overwrites nothing"), "{said}");
        assert_eq!(fs::read_to_string(place.path(&mine)).unwrap(), "mine");
        assert!(!there(place.path(directory).join("avocado.yaml")));
    }
    // What else is there does not matter.
    place.write("kept/notes", "mine");
    init(&["hello", "kept"]).ok();
    assert_eq!(
        fs::read_to_string(place.path("kept/notes")).unwrap(),
        "mine"
    );
}

#[test]
fn a_link_out_of_a_reference_is_refused() {
    for target in ["../../secret", "/etc/passwd", "deep/link/../../../secret"] {
        let place = Place::new();
        references(&place);
        place.write("secret", "x");
        place.write("refs/hello/a/b/c", "");
        fs::create_dir_all(place.path("refs/hello/deep")).unwrap();
        symlink("../a/b", place.path("refs/hello/deep/link")).unwrap();
        symlink(target, place.path("refs/hello/out")).unwrap();
        let args = ["init", "--reference", "hello", "--reference-repo", "refs"];
        let said = place.run(&args).failed(1).stderr;
        assert!(
            said.contains("a link at out that leads out of it"),
            "{target}: {said}"
        );
        assert!(!there(place.path("hello")));
    }
}
