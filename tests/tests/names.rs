//! Names with spaces, quotes, dollars, line ends and leading dashes, of everything that has a name:
//! from the sources to the device's door, with the real tools.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, source_root};
use common::{AWKWARD, Sandbox, cannot_build, cp, feed};
use serde_json::json;

/// All that the name of an extension can be made of, where it is packaged.
const EXTENSION: &str = "a+b.C-d_e";

/// Names of files.
fn file_names() -> [String; 7] {
    [
        AWKWARD.to_owned(),
        format!("-{AWKWARD}"),
        "--help".to_owned(),
        "two\nlines".to_owned(),
        " \t ".to_owned(),
        "%{nil} [a] {b} ?".to_owned(),
        "é\u{202e}\u{1f951}".to_owned(),
    ]
}

/// What is in a directory: paths, each with its content.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = walkdir::WalkDir::new(root).into_iter();
    let entries = entries.map(|entry| entry.unwrap().into_path());
    let files = entries.filter(|path| path.is_file());
    let below = |path: &PathBuf| path.strip_prefix(root).unwrap().to_owned();
    files
        .map(|path| (below(&path), fs::read(&path).unwrap()))
        .collect()
}

/// A project whose names are all awkward.
struct AwkwardProject {
    sandbox: Sandbox,
    project: TestProject,
    sources: PathBuf,
    overlay: PathBuf,
}

impl AwkwardProject {
    fn new() -> Self {
        let sandbox = Sandbox::fresh();
        let place = sandbox.directory.path().join("all");
        let name = |prefix: &str| format!("{prefix} {AWKWARD}");
        let directory = place.join(format!("-{AWKWARD}\n2"));
        let sources = directory.join(name("-s"));
        let near = place.join(name("-near"));
        for overlay in [sources.join(name("-o")), near.join(name("-o"))] {
            for file in file_names() {
                let path = overlay.join("usr/lib/probe").join(&file).join(&file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
        }
        for place in [&sources, &near] {
            cp(
                &source_root().join("tests/names/hook"),
                &place.join(name("-h")),
            );
        }
        fs::create_dir(sources.join(name("-seeds"))).unwrap();
        fs::write(sources.join(name("-seeds")).join("--help"), "seed").unwrap();
        let app = json!({
            "version": "1.0.0", "types": ["sysext"],
            "overlay": {"dir": name("-o"), "preprocess": ["*.conf"]}, "post_build": name("-h"),
        });
        let yaml = json!({
            "default_target": "qemux86-64",
            "src_dir": name("-s"),
            "distro": {"release": "2024", "channel": "edge"},
            "rootfs": {"packages": {"hello-tools": "*"}},
            "initramfs": {"packages": {"hello-tools": "*"}},
            "extensions": {
                EXTENSION: app,
                "near": {"source": {"type": "path", "path": format!("../../{}", name("-near"))}},
            },
            "runtimes": {"dev": {
                "extensions": [EXTENSION, "near"],
                "var_files": [{"source": name("-seeds"), "dest": format!("lib/{}", name("-d"))}],
            }},
        });
        let of_near = json!({"extensions": {"near": app}});
        fs::write(near.join("avocado.yaml"), of_near.to_string()).unwrap();
        let keys = sandbox.directory.path().join("keys");
        let project = TestProject::new(&directory, &feed().url(), &keys).unwrap();
        project.write("avocado.yaml", &yaml.to_string()).unwrap();
        AwkwardProject {
            overlay: sources.join(name("-o")),
            sandbox,
            project,
            sources,
        }
    }

    fn state(&self) -> PathBuf {
        self.sources.join(".avocado/state/qemux86-64")
    }

    /// The files of the project, without its state.
    fn own_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = files(&self.sandbox.directory.path().join("all"));
        files.retain(|path, _| !path.iter().any(|part| part == ".avocado"));
        files
    }

    /// No name was run by a shell.
    fn nothing_was_run(&self) {
        for place in [
            self.sandbox.directory.path(),
            Path::new("/tmp/pwned"),
            Path::new("pwned"),
        ] {
            let found = walkdir::WalkDir::new(place).into_iter().flatten();
            let pwned = found.into_iter().find(|entry| entry.file_name() == "pwned");
            assert!(pwned.is_none(), "{pwned:?}");
        }
    }

    /// What is said about what is deployed.
    fn deployed(&self) -> String {
        let arguments = ["deploy", "--strict", "--device", "nowhere.invalid"];
        let refused = self.project.avocado(&arguments).run().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused}");
        refused.stderr
    }
}

#[test]
fn no_name_of_a_project_is_more_than_a_name() {
    if cannot_build("no_name_of_a_project_is_more_than_a_name") {
        return;
    }
    let awkward = AwkwardProject::new();
    let (project, place) = (&awkward.project, awkward.sandbox.directory.path());
    project.avocado(&["fetch"]).ok().unwrap();
    let events = project.events(&["build"]).unwrap();
    let again = project.events(&["build"]).unwrap();
    assert_eq!(again.complete()["ran"], 0);
    let images = events.artifacts();
    let images: Vec<_> = images.iter().filter(|a| a.kind == "extension").collect();
    assert_eq!(images.len(), 2);
    let overlay = files(&awkward.overlay);
    assert_eq!(overlay.len(), file_names().len());
    for (number, image) in images.iter().enumerate() {
        let out = place.join(format!("image-{number}"));
        let call = ToolCall::new("unsquashfs")
            .args(["-q", "-n", "-d"])
            .arg(&out);
        call.arg(&image.path).ok().unwrap();
        let mut there = files(&out);
        let hook = there.remove(Path::new("usr/lib/hook/name")).unwrap();
        assert!(
            hook.ends_with(format!("-h {AWKWARD}").as_bytes()),
            "{hook:?}"
        );
        there.retain(|path, _| path.starts_with("usr/lib/probe"));
        assert_eq!(there, overlay);
    }
    let seed = awkward.state().join("runtimes/dev/var-staging/lib");
    let seed = seed.join(format!("-d {AWKWARD}")).join("--help");
    assert_eq!(fs::read_to_string(seed).unwrap(), "seed");

    // Whether what is deployed is older than its sources.
    assert!(
        !awkward.deployed().contains("older"),
        "{}",
        awkward.deployed()
    );
    let changed = awkward.overlay.join("usr/lib/probe/--help/--help");
    fs::write(changed, "changed").unwrap();
    let said = awkward.deployed();
    let older = format!("`ext build {EXTENSION}` (build.overlay.content: ");
    assert!(said.contains(&older), "{said}");

    // The sources as a package: what comes out is what went in, where rpm has a way to say it.
    let arguments = ["ext", "package", EXTENSION, "--out-dir"];
    let out = place.join(format!("out {AWKWARD}"));
    let package = || project.avocado(&arguments).arg(&out).run().unwrap();
    let refused = package();
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    let why = "cannot be in a package of rpm, whose paths are printable";
    assert!(refused.stderr.contains(why), "{refused}");
    for name in file_names() {
        if name.contains(char::is_control) {
            fs::remove_dir_all(awkward.overlay.join("usr/lib/probe").join(name)).unwrap();
        }
    }
    let (overlay, made) = (files(&awkward.overlay), package());
    assert!(made.status.success(), "{made}");
    let package = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    // rpm looks for patterns in names that it is given.
    let plain = place.join("package.rpm");
    fs::copy(&package, &plain).unwrap();
    let root = place.join("installed");
    fs::create_dir(&root).unwrap();
    let rpm = ToolCall::new("rpm").arg("--root").arg(&root);
    let rpm = rpm.args([
        "--dbpath",
        "/db",
        "--install",
        "--nodeps",
        "--noscripts",
        "--",
    ]);
    rpm.arg(&plain).ok().unwrap();
    let name = OsString::from(format!("-o {AWKWARD}"));
    let entries = walkdir::WalkDir::new(&root).into_iter().flatten();
    let mut packaged = entries.filter(|entry| entry.file_name() == name);
    assert_eq!(files(packaged.next().unwrap().path()), overlay);

    // What goes is of the state alone.
    let before = awkward.own_files();
    let yaml = project.read("avocado.yaml").unwrap();
    project
        .write("avocado.yaml", &yaml.replace(EXTENSION, "other"))
        .unwrap();
    let image = awkward
        .state()
        .join(format!("output/extensions/{EXTENSION}-1.0.0.raw"));
    assert!(image.exists());
    project.avocado(&["prune"]).ok().unwrap();
    assert!(!image.exists());
    project.write("avocado.yaml", &yaml).unwrap();
    assert_eq!(awkward.own_files(), before);
    project.avocado(&["clean"]).ok().unwrap();
    assert!(!awkward.state().exists());
    assert_eq!(awkward.own_files(), before);
    awkward.nothing_was_run();
}
