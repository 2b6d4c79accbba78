use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::{Place, there};

#[test]
fn a_project_is_scaffolded() {
    let place = Place::new();
    let ended = place.run(&["init", "demo", "--target", "qemux86-64"]).ok();
    assert_eq!(ended.stdout, "");
    insta::assert_snapshot!("init-stderr", ended.stderr);
    for file in [
        "avocado.yaml",
        ".gitignore",
        "overlay/usr/bin/app",
        "overlay/etc/app.conf",
    ] {
        let text = fs::read_to_string(place.path("demo").join(file)).unwrap();
        insta::assert_snapshot!(format!("init-{}", file.replace('/', "-")), text);
    }
    let mode = fs::metadata(place.path("demo/overlay/usr/bin/app"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);
}

#[test]
fn the_scaffold_loads_without_a_warning() {
    for (name, target) in [
        ("app", "qemux86-64"),
        // Names that YAML would take for something else.
        ("1.5", "qemuarm64"),
        ("true", "qemux86-64"),
        ("~null", "2024"),
    ] {
        let place = Place::new();
        place
            .run(&["init", "--target", target, "--extension", name])
            .ok();
        let loaded = avocado_project::load(&avocado_project::LoadOptions {
            text: None,
            config: &place.path("avocado.yaml"),
            target: None,
            env: &|_| None,
            cli_version: "0.41.0",
        })
        .unwrap();
        assert_eq!(loaded.warnings, [], "{name}");
        let project = loaded.project;
        assert_eq!(project.target.as_str(), target);
        assert_eq!(
            project.sdk.image.as_deref(),
            Some("docker.io/avocadolinux/sdk:2024")
        );
        let [extension] = &project.extensions[..] else {
            panic!("{:?}", project.extensions);
        };
        assert_eq!(extension.name.as_str(), name);
        assert!(extension.sysext && extension.confext);
        assert!(place.path("overlay/usr/bin").join(name).is_file());
        let [runtime] = &project.runtimes[..] else {
            panic!("{:?}", project.runtimes);
        };
        assert_eq!(runtime.extensions[0].name, extension.name);
        for (_, image) in project.rootfs.iter().chain(&project.initramfs) {
            let users = &image.permissions.as_ref().unwrap().users;
            assert_eq!(users[0].name, "root");
            assert_eq!(users[0].password.as_deref(), Some(""));
        }
    }
}

#[test]
fn nothing_is_overwritten() {
    for name in ["avocado.yaml", "avocado.yml", "overlay/usr/bin/app"] {
        let place = Place::new();
        place.write(name, "mine");
        let ended = place.run(&["init"]).failed(1);
        assert!(
            ended
                .stderr
                .contains(&format!("error: ./{name} is already there")),
            "{}",
            ended.stderr
        );
        assert_eq!(fs::read_to_string(place.path(name)).unwrap(), "mine");
        // Not even begun.
        assert!(!there(place.path(".gitignore")) && !there(place.path("overlay/etc")));
    }
}

#[test]
fn an_interrupted_init_can_be_repeated() {
    let place = Place::new();
    place.run(&["init"]).ok();
    fs::remove_file(place.path("avocado.yaml")).unwrap();
    place.run(&["init"]).ok();
    assert_eq!(
        fs::read_to_string(place.path(".gitignore")).unwrap(),
        ".avocado/\n"
    );
}

#[test]
fn a_gitignore_is_kept() {
    for (before, after) in [
        ("target\n", "target\n.avocado/\n"),
        ("target", "target\n.avocado/\n"),
        ("/.avocado\nx\n", "/.avocado\nx\n"),
    ] {
        let place = Place::new();
        place.write(".gitignore", before);
        place.run(&["init"]).ok();
        assert_eq!(fs::read_to_string(place.path(".gitignore")).unwrap(), after);
    }
}

#[test]
fn a_name_that_leaves_the_directory_is_refused() {
    let place = Place::new();
    for name in ["../evil", "a/b", "", "-x"] {
        for option in ["--name", "--extension", "--reference"] {
            place.run(&["init", &format!("{option}={name}")]).failed(2);
        }
    }
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 0);
}

#[test]
fn the_name_of_a_project_is_that_of_its_directory() {
    for (args, directory) in [
        (&["--name", "demo"][..], "demo"),
        (&["work", "--name", "demo"], "work/demo"),
        (&["work"], "work"),
        (&[], ""),
    ] {
        let place = Place::new();
        place.run(&[&["init"], args].concat()).ok();
        let config = place.path(directory).join("avocado.yaml");
        let text = fs::read_to_string(config).unwrap();
        assert!(text.contains("\n  app:\n"), "{text}");
    }
}

#[test]
fn programs_get_ndjson() {
    let place = Place::new();
    let ended = place
        .run(&["init", "demo", "-t", "qemux86-64", "--output", "json"])
        .ok();
    assert_eq!(ended.stderr, "");
    let documents = ended.documents();
    assert_eq!(documents[0]["event"], "start");
    let last = documents.last().unwrap();
    insta::assert_json_snapshot!("init-complete", last);

    // What was there already is not among the files.
    place.write("again/.gitignore", "/.avocado\n");
    let ended = place.run(&["init", "again", "--output", "json"]).ok();
    let last = ended.documents().pop().unwrap();
    assert_eq!(last["files"].as_array().unwrap().len(), 4, "{last}");
}
