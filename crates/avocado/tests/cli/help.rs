use crate::Place;

#[test]
fn every_help() {
    let place = Place::new();
    for command in [
        "",
        "init",
        "install",
        "uninstall",
        "build",
        "update",
        "unlock",
        "lock",
        "lock diff",
        "config",
        "config show",
        "config check",
        "schema",
        "ext",
        "ext image",
        "ext install",
        "ext build",
        "ext list",
        "ext deps",
        "ext fetch",
        "fetch",
        "sdk",
        "sdk install",
        "sdk deps",
        "sdk compile",
        "runtime",
        "runtime list",
        "runtime deps",
        "runtime install",
        "runtime build",
        "rootfs",
        "rootfs install",
        "rootfs deps",
        "rootfs image",
        "initramfs image",
        "kernel",
        "kernel image",
        "signing-keys",
        "signing-keys create",
        "signing-keys list",
        "signing-keys remove",
        "deploy",
        "vm",
        "vm start",
        "vm stop",
        "vm status",
        "vm shell",
        "vm logs",
        "vm rebuild",
        "vm reset",
        "vm update",
        "vm config",
        "vm config get",
        "vm config set",
        "vm config unset",
        "vm config list",
        "clean",
        "prune",
        "completion",
    ] {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let shown = place.run(&args).ok();
        assert_eq!(shown.stderr, "");
        let name = format!("help {command}").trim().replace(' ', "-");
        insta::assert_snapshot!(name, shown.stdout);
    }
}

#[test]
fn ext_image_has_every_published_option() {
    let help = Place::new().run(&["ext", "image", "--help"]).ok().stdout;
    for option in [
        "Usage: avocado ext image [OPTIONS] [NAME]",
        "-C, --config <CONFIG>",
        "[default: avocado.yaml]",
        "-v, --verbose",
        "-e, --extension <EXTENSION>",
        "-t, --target <TARGET>",
        "--out <OUT_DIR>",
        "--container-arg <CONTAINER_ARGS>",
        "--dnf-arg <DNF_ARGS>",
        "--runs-on <USER@HOST>",
        "--nfs-port <NFS_PORT>",
        "--sdk-arch <ARCH>",
        "-h, --help",
    ] {
        assert!(help.contains(option), "{option} is missing in\n{help}");
    }
}

/// What is not supported yet is listed where it is published, and nowhere else.
#[test]
fn unsupported_options_are_not_advertised_everywhere() {
    let place = Place::new();
    for (command, listed) in [
        ("", true),
        ("ext image", true),
        ("ext", false),
        ("ext build", false),
        ("build", false),
        ("deploy", false),
        ("signing-keys create", false),
    ] {
        for flag in ["--help", "-h"] {
            let args: Vec<&str> = command.split_whitespace().chain([flag]).collect();
            let help = place.run(&args).ok().stdout;
            for option in ["--runs-on", "--nfs-port", "--sdk-arch"] {
                assert_eq!(help.contains(option), listed, "{args:?} {option}\n{help}");
            }
            assert_eq!(help.contains("not supported yet"), listed, "{help}");
        }
    }
}

#[test]
fn the_version_is_what_peers_parse() {
    assert_eq!(
        Place::new().run(&["--version"]).ok().stdout,
        "avocado 0.41.0\n"
    );
}
