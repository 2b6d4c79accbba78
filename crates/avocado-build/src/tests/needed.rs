//! What is told by the step that needs it, and stops nothing else.

use std::fs;

use super::test_project::TestProject;
use crate::goal::Goal;

const SHORT: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs:
  good: {packages: {small-rootfs: '*'}}
  shared: {packages: {small-rootfs: '*'}}
  own: {packages: {small-rootfs: '*', app: {compile: none, install: none.sh}}}
  elsewhere: {source: {type: path, path: ../os}}
  unprepared: {packages: {small-rootfs: '*'}, post_install: prepare.sh, overlay: overlay/none}
initramfs: {packages: {small-initramfs: '*'}}
kernel: {version: 9.99*}
sdk: {compile: {app: {compile: compile.sh}}}
extensions:
  good: {version: 1.0.0}
  unset: {version: '{{ env.NOT_SET }}'}
  from-file: {version: {file: nowhere.toml}}
  no-overlay: {version: 1.0.0, overlay: overlay/none, post_build: none.sh}
  file-overlay: {version: 1.0.0, overlay: {dir: hook.sh, preprocess: true}}
  compiled: {version: 1.0.0, packages: {app: {compile: app, install: install.sh}}}
  legacy: {version: 1.0.0, packages: {app: {extensions: app, config: ../app/avocado.yaml}}}
  needy: {version: 1.0.0, depends_on: {good: '>=1'}}
  boxed: {version: 1.0.0, image: {type: kab}}
runtimes:
  compiled: {rootfs: good, kernel: {compile: kernel, install: kernel.sh}}
  any: {rootfs: good, extensions: [good], kernel: {version: '*'}}
  pinned: {rootfs: good}
  various:
    rootfs: good
    type: kos
    packages: {app: {compile: app}}
    signing: {content_key: c, checksum_algorithm: blake3}
  one: {rootfs: shared}
  two: {rootfs: shared, kernel: {version: '>=6.6, <6.12'}}
  named: {rootfs: own, kernel: {package: kernel-rt}}
  elsewhere: {rootfs: elsewhere}
  unprepared: {rootfs: unprepared}
";

/// What is said where a goal cannot be reached.
fn said(project: &TestProject, goal: &Goal) -> String {
    let error = match project.run(goal) {
        Ok(_) => return "(nothing)\n".to_owned(),
        Err(error) => error,
    };
    let found = error.diagnostics().iter();
    let found: Vec<String> = found.map(|found| found.render()).collect();
    let directory = project.path("").display().to_string();
    let said = format!("{error}\n{}\n", found.join("\n"));
    said.replace(&directory, "[dir]/")
}

#[test]
fn what_a_step_cannot_have_is_told_with_its_place() {
    let project = TestProject::new(SHORT);
    let names = |text: &str| -> Vec<_> { text.split(' ').map(|n| n.parse().unwrap()).collect() };
    let mut all = String::new();
    let extensions = "good unset from-file no-overlay file-overlay compiled legacy needy boxed";
    for name in names(extensions) {
        all += &format!("== ext image {name}\n");
        all += &said(&project, &Goal::ExtImage(Some(name)));
    }
    for name in names("compiled pinned named various one elsewhere unprepared") {
        all += &format!("== build {name}\n");
        let runtime = Some(name);
        all += &said(&project, &Goal::Build { runtime, var: true });
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_version_is_read_from_a_file() {
    for (file, text) in [
        ("Cargo.toml", "[package]\nversion = '1.2.3'\n"),
        ("package.json", "{\"package\": {\"version\": \"1.2.3\"}}"),
        ("package.yaml", "package: {version: 1.2.3}\n"),
        ("other", "package: {version: 1.2.3}\n"),
    ] {
        let format = if file == "other" {
            ", format: yaml"
        } else {
            ""
        };
        let mut project = TestProject::new(&format!(
            "default_target: t\nextensions:\n  a: {{version: {{file: {file}, key: package.version{format}}}}}\n"
        ));
        let built = |project: &TestProject| project.run(&Goal::ExtImage(None));
        let error = built(&project).unwrap_err();
        let [missing] = error.diagnostics() else {
            panic!("{error}")
        };
        assert!(missing.message.ends_with("does not exist"), "{missing}");
        fs::write(project.path(file), text).unwrap();
        project.edit("default_target", "# now it is there\ndefault_target");
        built(&project).unwrap();
        let image = project.options.project.extensions[0].version.known();
        assert_eq!(image.unwrap().as_str(), "1.2.3", "{file}");
        for wrong in ["{", "package: 1", "package: {version: x}", "[package]\n"] {
            fs::write(project.path(file), wrong).unwrap();
            project.edit("# ", "# # ");
            let error = built(&project).unwrap_err();
            assert_eq!(error.diagnostics().len(), 1, "{file} {wrong}: {error}");
        }
    }
}

#[test]
fn where_something_is_written_changes_nothing() {
    let mut project = TestProject::new(super::graphs::HELLO);
    project.build();
    project.edit("default_target", "# a line more\ndefault_target");
    assert_eq!(project.build(), [""; 0]);
}

/// The feed's files and the source directory stop what needs them: the project can be read.
#[test]
fn what_the_feed_needs_is_told_when_it_is_needed() {
    let project = TestProject::new(
        "default_target: qemux86-64
distro: {repo: {ca: none.pem, gpgkey: none.asc}}
extensions: {good: {version: 1.0.0}, packaged: {version: 1.0.0, packages: {p: '*'}}}
",
    );
    let image = |name: &str| Goal::ExtImage(Some(name.parse().unwrap()));
    assert_eq!(said(&project, &image("good")), "(nothing)\n");
    let said_of_feed = said(&project, &image("packaged"));
    for part in [
        "the CA certificate `none.pem` does not exist",
        "avocado.yaml:2:21",
        "the key of the feed `none.asc` does not exist",
        "avocado.yaml:2:39",
    ] {
        assert!(said_of_feed.contains(part), "{said_of_feed}");
    }

    let elsewhere = TestProject::new(
        "default_target: qemux86-64\nsrc_dir: nowhere\nextensions: {good: {version: 1.0.0}}\n",
    );
    let said = said(&elsewhere, &image("good"));
    assert!(said.contains("avocado.yaml:2:10"), "{said}");
    assert!(!elsewhere.path("nowhere").exists());
}

#[test]
fn an_extension_of_no_runtime_is_told_and_left_out() {
    let project = TestProject::new(
        "default_target: qemux86-64
extensions:
  lib: {version: 1.0.0}
  in: {version: 1.0.0, depends_on: [lib]}
  out: {version: 1.0.0}
runtimes: {dev: {extensions: [in]}}
",
    );
    let images = Goal::ExtImage(None);
    let project = &project.options.project;
    let left_out = images.left_out(project);
    assert_eq!(
        left_out,
        [&"out".parse::<avocado_manifest::Name>().unwrap()]
    );
    assert!(
        Goal::ExtImage(Some("out".parse().unwrap()))
            .left_out(project)
            .is_empty()
    );
    assert!(Goal::RootfsImage.left_out(project).is_empty());
}
