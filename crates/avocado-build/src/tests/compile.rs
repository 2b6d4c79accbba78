//! When what the project compiles is compiled again.

use std::fs;

use super::test_project::TestProject;
use crate::error::BuildError;
use crate::goal::Goal;

const COMPILED: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
sdk:
  packages: {avocado-sdk-toolchain: '*'}
  compile:
    app: {compile: hook.sh, packages: {libgreeting-dev: '*'}}
    other: {compile: hook.sh}
extensions:
  app:
    version: 1.0.0
    packages: {app: {compile: app, install: install.sh}}
    sdk: {packages: {nativesdk-tool: '*'}}
  plain: {version: 1.0.0}
";

const SDK: [&str; 2] = ["sdk install", "sdk install target-sysroot"];

fn ran(project: &TestProject, goal: &Goal) -> Vec<String> {
    let mut ran = project.run(goal).unwrap().ran;
    ran.sort();
    ran
}

fn project() -> TestProject {
    let project = TestProject::new(COMPILED);
    project.write("install.sh", "true\n");
    fs::create_dir(project.path("src")).unwrap();
    project.write("src/main.c", "int main;\n");
    project
}

#[test]
fn what_is_compiled_is_compiled_before_it_is_installed() {
    let project = project();
    let mut all = vec!["ext build app", "ext image app", "sdk compile app"];
    all.extend(SDK);
    assert_eq!(
        ran(&project, &Goal::ExtImage(Some("app".parse().unwrap()))),
        all
    );
    // All sections, of which one is done.
    assert_eq!(
        ran(&project, &Goal::SdkCompile(vec![])),
        ["sdk compile other"]
    );
    assert_eq!(ran(&project, &Goal::SdkInstall), [""; 0]);
    let error = project.run(&Goal::SdkCompile(vec!["none".into()]));
    assert!(
        matches!(error, Err(BuildError::Unknown { .. })),
        "{error:?}"
    );
}

#[test]
fn every_input_of_a_script_runs_it_again_and_nothing_that_follows_from_the_same() {
    let mut project = project();
    let goal = Goal::ExtImage(None);
    ran(&project, &goal);
    assert_eq!(ran(&project, &goal), [""; 0]);
    let compiled = ["ext build app", "sdk compile app"];
    // What the scripts make of it is the same here, so no image is made anew.
    for name in ["src/main.c", "new", "avocado.lock.orig"] {
        project.write(name, "another\n");
        assert_eq!(ran(&project, &goal), compiled, "{name}");
        assert_eq!(ran(&project, &goal), [""; 0], "{name}");
    }
    fs::remove_file(project.path("new")).unwrap();
    assert_eq!(ran(&project, &goal), compiled);
    // The script that installs is what the tree is made of.
    project.write("install.sh", "false\n");
    let all = ["ext build app", "ext image app", "sdk compile app"];
    assert_eq!(ran(&project, &goal), all);

    for (old, new, sdk) in [
        (
            "libgreeting-dev",
            "libother-dev",
            "sdk install target-sysroot",
        ),
        ("nativesdk-tool", "nativesdk-other", "sdk install"),
    ] {
        project.edit(old, new);
        let ran = ran(&project, &goal);
        assert!(ran.contains(&sdk.to_owned()), "{old}: {ran:?}");
        assert!(
            ran.contains(&"sdk compile app".to_owned()),
            "{old}: {ran:?}"
        );
    }
    project.edit("app: {compile: hook.sh", "app: {compile: install.sh");
    assert_eq!(ran(&project, &goal), compiled);
    fs::remove_dir_all(project.options.project.state_dir().join("qemux86-64/sdk")).unwrap();
    // What is compiled from the same is the same: nobody after it is asked to run.
    let mut all = vec!["sdk compile app"];
    all.extend(SDK);
    assert_eq!(ran(&project, &goal), all);
}

#[test]
fn what_cannot_be_compiled_is_told_at_its_place() {
    for (old, new, said) in [
        ("compile: app,", "compile: apo,", "has no section `apo`"),
        (
            "install: install.sh",
            "install: none.sh",
            "script `none.sh` does not exist",
        ),
        (
            "app: {compile: hook.sh",
            "app: {compile: none.sh",
            "script `none.sh` does not exist",
        ),
    ] {
        let mut project = project();
        project.edit(old, new);
        let error = project.run(&Goal::ExtBuild(Some("app".parse().unwrap())));
        let error = error.unwrap_err();
        let [found] = error.diagnostics() else {
            panic!("{error}")
        };
        assert!(found.message.contains(said), "{found}");
        // Nobody else is stopped by it.
        project
            .run(&Goal::ExtBuild(Some("plain".parse().unwrap())))
            .unwrap();
    }
    let mut project = project();
    project.edit("    other:", "    a/b:");
    project.edit("compile: app,", "compile: a/b,");
    let error = project.run(&Goal::ExtBuild(None)).unwrap_err();
    assert!(error.diagnostics()[0].message.contains("`a/b`"), "{error}");
}

const EVERYWHERE: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
sdk: {compile: {kernel: {compile: hook.sh}, app: {compile: hook.sh}, tool: {compile: hook.sh}}}
rootfs: {packages: {avocado-pkg-rootfs: '*', app: {compile: app, install: install.sh}}}
initramfs: {packages: {tool: {compile: tool, install: install.sh}}}
runtimes:
  dev:
    kernel: {compile: kernel, install: install.sh}
    packages: {app: {compile: app, install: install.sh}}
";

#[test]
fn what_is_compiled_for_a_runtime_is_there_before_it_is_assembled() {
    let mut project = TestProject::new(EVERYWHERE);
    project.write("install.sh", "true\n");
    let first = project.build();
    for step in ["sdk compile kernel", "sdk compile app", "sdk compile tool"] {
        assert!(first.contains(&step.to_owned()), "{step}: {first:?}");
    }
    let at = |step: &str| first.iter().position(|ran| ran == step).unwrap();
    for (before, after) in [
        ("sdk compile kernel", "runtime compile dev"),
        ("sdk compile app", "runtime compile dev"),
        ("sdk compile app", "rootfs image dev"),
        ("sdk compile tool", "initramfs image dev"),
        ("runtime compile dev", "runtime build dev"),
        ("runtime compile dev", "runtime vm dev"),
    ] {
        assert!(at(before) < at(after), "{before}, {after}: {first:?}");
    }
    assert_eq!(project.build(), [""; 0]);

    project.write("new", "another source\n");
    let scripts = [
        "initramfs image dev",
        "rootfs image dev",
        "runtime compile dev",
        "sdk compile app",
        "sdk compile kernel",
        "sdk compile tool",
    ];
    let mut ran = project.build();
    ran.sort();
    // All made the same of it.
    assert_eq!(ran, scripts);
    project.write("install.sh", "false\n");
    assert!(
        project
            .build()
            .contains(&"runtime repository dev".to_owned())
    );
    // The file that the runtime has of it is looked for.
    let state = project.options.project.state_dir().join("qemux86-64");
    fs::remove_file(state.join("runtimes/dev/.compiled.json")).unwrap();
    assert_eq!(project.build(), ["runtime compile dev"]);

    project.edit("kernel: {compile: kernel,", "kernel: {compile: kernels,");
    let error = project.run(&Goal::Build {
        runtime: None,
        var: true,
    });
    let error = error.unwrap_err();
    let said = &error.diagnostics()[0].message;
    assert!(said.contains("no section `kernels`"), "{said}");
    // Its extensions are made all the same, and the image that does not stand for a kernel.
    project.run(&Goal::InitramfsImage).unwrap();
}

#[test]
fn every_file_of_the_project_is_an_input_of_a_hook() {
    let project = TestProject::new(
        "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {post_install: hook.sh}
extensions: {app: {version: 1.0.0, post_build: hook.sh}, plain: {version: 1.0.0}}
runtimes: {dev: {extensions: [app, plain], post_build: hook.sh}}
",
    );
    project.build();
    assert_eq!(project.build(), [""; 0]);
    // What the hooks make of it is the same here.
    project.write("read-by-a-hook", "1\n");
    let mut ran = project.build();
    ran.sort();
    assert_eq!(
        ran,
        ["ext build app", "rootfs image dev", "runtime var dev"]
    );
    assert_eq!(project.build(), [""; 0]);
}

#[test]
fn what_scripts_are_told_is_an_input_of_theirs_and_of_nobody_else() {
    let mut project = project();
    let ca = project.path("ca.pem");
    project.write("ca.pem", "one\n");
    project.options.project.distro.ca = Some(ca);
    let goal = Goal::ExtImage(None);
    ran(&project, &goal);
    assert_eq!(ran(&project, &goal), [""; 0]);
    // The certificate may be anywhere on the machine; here it is a file of the project besides.
    let scripts = ["ext build app", "sdk compile app"];
    let distro = |project: &mut TestProject, change: fn(&mut avocado_project::Distro)| {
        change(&mut project.options.project.distro);
        let ran = ran(project, &goal);
        let of_scripts = ran.iter().filter(|step| !step.contains("install"));
        of_scripts.cloned().collect::<Vec<_>>()
    };
    let releasever = |d: &mut avocado_project::Distro| d.releasever = Some("2024/next".into());
    assert_eq!(distro(&mut project, releasever), scripts);
    assert_eq!(distro(&mut project, |d| d.tls_verify = false), scripts);
    assert_eq!(distro(&mut project, |d| d.ca = None), scripts);
    let url = |d: &mut avocado_project::Distro| d.repo_url = "https://other.example".into();
    assert_eq!(distro(&mut project, url), scripts);
    project.options.dnf_args = vec!["--nodocs".into()];
    assert_eq!(distro(&mut project, |_| ()), scripts);
    // Neither the way to the tools nor that to the network.
    project.options.search_path = "/other/tools".into();
    let proxy = ("https_proxy".to_owned(), "http://proxy.example".into());
    project.options.proxy_environment.extend([proxy]);
    assert_eq!(ran(&project, &goal), [""; 0]);
}

#[test]
fn a_bundle_of_certificates_that_is_too_long_for_a_variable_is_left_out_and_that_is_told_once() {
    let mut project = project();
    let ca = project.path("ca.pem");
    project.write("ca.pem", &"a line of a certificate\n".repeat(9_000));
    project.options.project.distro.ca = Some(ca.clone());
    let said = project.said("AVOCADO_REPO_CA_B64");
    assert_eq!(said.len(), 1, "{said:?}");
    let place = ca.display().to_string();
    assert!(said[0].contains(&place), "{said:?}");
    // What no script sees is no input of theirs, were it not a file of the project.
    fs::rename(&ca, project.path(".avocado/ca.pem")).unwrap();
    project.options.project.distro.ca = Some(project.path(".avocado/ca.pem"));
    project.build();
    fs::write(project.path(".avocado/ca.pem"), "b\n".repeat(90_000)).unwrap();
    assert_eq!(project.build(), [""; 0]);
    fs::write(project.path(".avocado/ca.pem"), "short\n").unwrap();
    assert_eq!(project.build(), ["sdk compile app", "ext build app"]);
    assert_eq!(project.said("AVOCADO_REPO_CA_B64"), [""; 0]);
}

#[test]
fn what_is_compiled_is_packaged_again_for_what_it_is_made_of_and_for_nothing_else() {
    let mut project = TestProject::new(
        "default_target: qemux86-64
distro: {release: '2024', channel: edge}
sdk:
  compile:
    app: {compile: hook.sh, package: {install: install.sh, version: 1.0.0}}
    other: {compile: hook.sh}
extensions: {app: {version: 1.0.0}}
",
    );
    project.write("install.sh", "true\n");
    let goal = Goal::SdkPackage("app".into());
    let package = "sdk package app";
    let all = ["sdk compile app", SDK[0], SDK[1], package];
    let report = project.run(&goal).unwrap();
    let artifact = &report.artifacts[0];
    assert_eq!((&*artifact.kind, &*artifact.name), ("package", "app"));
    let mut steps = report.ran;
    steps.sort();
    assert_eq!(steps, all);
    assert_eq!(ran(&project, &goal), [""; 0]);

    // Its own description is nothing that is compiled.
    for (old, new) in [
        ("version: 1.0.0}}", "version: 1.1.0}}"),
        ("1.1.0}}", "1.1.0, requires: [libgreeting]}}"),
        ("[libgreeting]", "[libgreeting], license: MIT"),
        ("MIT", "MIT, files: [/usr/bin/*]"),
        ("default_target", "source_date_epoch: 7\ndefault_target"),
    ] {
        project.edit(old, new);
        let ran = ran(&project, &goal);
        assert!(ran.contains(&package.to_owned()), "{new}: {ran:?}");
    }
    for change in ["install.sh", "src.c"] {
        project.write(change, "changed\n");
        assert_eq!(
            ran(&project, &goal),
            ["sdk compile app", package],
            "{change}"
        );
        assert_eq!(ran(&project, &goal), [""; 0], "{change}");
    }
    fs::remove_file(&artifact.path).unwrap();
    assert_eq!(ran(&project, &goal), [package]);

    let error = project.run(&Goal::SdkPackage("other".into())).unwrap_err();
    let said = error.diagnostics()[0].to_string();
    assert!(
        said.contains("the section `other` has no `package`"),
        "{said}"
    );
    let error = project.run(&Goal::SdkPackage("none".into()));
    assert!(
        matches!(error, Err(BuildError::Unknown { .. })),
        "{error:?}"
    );
    fs::remove_file(project.path("install.sh")).unwrap();
    let error = project.run(&goal).unwrap_err();
    let said = error.diagnostics()[0].to_string();
    assert!(
        said.contains("the script `install.sh` does not exist"),
        "{said}"
    );
}
