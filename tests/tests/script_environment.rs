//! What the scripts of a project are told in their environment.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Sandbox, cannot_build, cannot_compile, ran};

/// The environment that a script wrote with `env -0`.
fn environment(file: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file).unwrap();
    let variables = text.split_terminator('\0').map(|variable| {
        let (name, value) = variable.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    variables.collect()
}

#[test]
fn scripts_have_the_published_environment_and_nothing_else() {
    if cannot_compile("scripts_have_the_published_environment_and_nothing_else") {
        return;
    }
    let sandbox = Sandbox::example("compiled");
    let project = sandbox.project.clone();
    let away = sandbox.directory.path().join("near");
    fs::create_dir(&away).unwrap();
    fs::write(
        away.join("avocado.yaml"),
        "extensions: {near: {version: 1.0.0}}\n",
    )
    .unwrap();
    let yaml = project.read("avocado.yaml").unwrap()
        + "    post_build: greeter/hook.sh\n  near: {source: {type: path, path: ../near}}\n";
    project.write("avocado.yaml", &yaml).unwrap();
    // Not executable: the shell adds nothing but what it has itself.
    let write = |script: &str, to: &str| {
        let path = format!("greeter/{script}");
        let text = format!("env -0 >\"{to}\"\n");
        project.write(&path, &text).unwrap();
    };
    write("compile.sh", "$AVOCADO_BUILD_DIR/env");
    write("install.sh", "$AVOCADO_BUILD_EXT_SYSROOT/install.env");
    write("hook.sh", "$AVOCADO_BUILD_EXT_SYSROOT/hook.env");
    let project = project
        .with_env("LANG", "tlh_KL.UTF-8")
        .with_env("SECRET", "x")
        .with_env("AVOCADO_REPO_CA_B64", "x");
    let yaml = yaml.replace("    enable_services: [greeter.service]\n", "");
    project.write("avocado.yaml", &yaml).unwrap();
    project.avocado(&["ext", "build", "greeter"]).ok().unwrap();
    let prefix = "/opt/_avocado/qemux86-64";
    let sdk = format!("{prefix}/sdk/x86_64");
    let build = format!("{sdk}/build/greeter");
    let sysroot = format!("{prefix}/sdk/target-sysroot");
    let feed = common::feed().url();
    let path = std::env::var("PATH").unwrap();
    let of_all = [
        ("AVOCADO_TARGET", "qemux86-64"),
        ("AVOCADO_SDK_TARGET", "qemux86-64"),
        ("AVOCADO_SRC_DIR", "/opt/src"),
        ("AVOCADO_PREFIX", prefix),
        ("AVOCADO_SDK_PREFIX", &sdk),
        ("AVOCADO_EXT_SYSROOTS", &format!("{prefix}/extensions")),
        (
            "DNF_SDK_TARGET_PREFIX",
            &format!("{prefix}/sdk/target-repoconf"),
        ),
        ("AVOCADO_HOST_PLATFORM", "linux"),
        ("AVOCADO_HOST_UID", "0"),
        ("AVOCADO_HOST_GID", "0"),
        ("AVOCADO_SDK_IMAGE", "docker.io/avocadolinux/sdk:2024"),
        ("AVOCADO_SDK_REPO_URL", &feed),
        (
            "AVOCADO_SDK_REPO_RELEASE",
            "2024/edge/snapshots/20260201T000000Z",
        ),
        ("AVOCADO_EXT_PATH_MOUNTS", "near"),
        ("SOURCE_DATE_EPOCH", "1767225600"),
        ("HOME", "/tmp"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("PWD", "/opt/src"),
        // Of the SDK.
        ("CC", "gcc"),
        ("CXX", "g++"),
        ("AR", "ar"),
        ("STRIP", "strip"),
        ("SDKTARGETSYSROOT", &sysroot),
        ("CPPFLAGS", &format!("-I{sysroot}/usr/include")),
        ("LDFLAGS", &format!("-L{sysroot}/usr/lib/x86_64-linux-gnu")),
    ];
    let tree = project.state().join("extensions/greeter");
    let built = project.state().join("sdk/x86_64/build/greeter");
    for (file, own) in [
        (built.join("env"), &["AVOCADO_BUILD_DIR"][..]),
        (
            tree.join("install.env"),
            &[
                "AVOCADO_BUILD_DIR",
                "AVOCADO_BUILD_EXT_SYSROOT",
                "AVOCADO_EXT_NAME",
            ],
        ),
        (
            tree.join("hook.env"),
            &["AVOCADO_BUILD_EXT_SYSROOT", "AVOCADO_EXT_NAME"],
        ),
    ] {
        let mut found = environment(&file);
        let search_path = found.remove("PATH").unwrap();
        assert!(search_path.starts_with(&path), "{search_path}");
        // What a shell has for itself.
        for name in ["_", "SHLVL", "OLDPWD"] {
            found.remove(name);
        }
        for name in own {
            let value = found.remove(*name).unwrap_or_default();
            match *name {
                "AVOCADO_BUILD_DIR" => assert_eq!(value, build),
                "AVOCADO_EXT_NAME" => assert_eq!(value, "greeter"),
                _ => assert!(value.starts_with(prefix), "{name}: {value}"),
            }
        }
        let expected = of_all.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, BTreeMap::from(expected), "{}", file.display());
    }
}

/// Linux starts no program with a string of more than 128 KiB in its environment.
#[test]
fn a_long_bundle_of_certificates_keeps_no_step_from_starting() {
    if cannot_build("a_long_bundle_of_certificates_keeps_no_step_from_starting") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let yaml = "default_target: qemux86-64
distro: {release: '2024', channel: edge, repo: {ca: ca.pem}}
extensions: {app: {version: 1.0.0}}
";
    project.write("avocado.yaml", yaml).unwrap();
    let bundle = "of a certificate\n".repeat(12_000);
    project.write("ca.pem", &bundle).unwrap();
    let steps = ran(project, &["ext", "build", "app"]);
    assert_eq!(steps, ["ext build app"]);
}
