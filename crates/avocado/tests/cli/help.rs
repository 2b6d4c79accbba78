//! What `--help` says. The whole of it is held by `docs/reference`.

use crate::Place;

#[test]
fn a_request_for_help_is_no_error() {
    let place = Place::new();
    for args in [
        &["--help"][..],
        &["ext", "image", "-h"],
        &["help", "vm", "start"],
    ] {
        let shown = place.run(args).ok();
        assert!(shown.stdout.contains("Usage: avocado"), "{args:?}");
        assert_eq!(shown.stderr, "", "{args:?}");
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

#[test]
fn the_version_is_what_peers_parse() {
    assert_eq!(
        Place::new().run(&["--version"]).ok().stdout,
        "avocado 0.41.0\n"
    );
}
