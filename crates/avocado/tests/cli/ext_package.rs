use crate::{Place, there};

const PROJECT: &str = "default_target: qemux86-64
extensions:
  app: {version: 1.0.0-rc.1, overlay: overlay}
  other: {version: 1.0.0, post_build: missing.sh}
  far: {source: {type: package, version: '*'}}
";

#[test]
fn the_sources_of_an_extension_become_a_package() {
    let place = Place::new();
    place.write("avocado.yaml", PROJECT);
    place.write("overlay/etc/app.conf", "x");
    let run = |args: &[&str]| place.run(&[&["ext", "package"], args].concat());
    let file = "app-1.0.0~rc.1-r0.noarch.rpm";
    let json = run(&["app", "--out-dir", "out", "--output", "json"]).ok();
    let documents = json.documents();
    assert_eq!(documents[0]["action"], "ext package");
    let complete = documents.last().unwrap();
    let artifact = &complete["artifacts"][0];
    assert_eq!(artifact["kind"], "package");
    assert_eq!(artifact["name"], "app-1.0.0-rc.1");
    assert_eq!(complete["copied"][0], format!("out/{file}"));
    assert!(there(place.path("out").join(file)));
    // Nothing of its making stays.
    let work = place.path(".avocado/state/qemux86-64/.work/packaged/app");
    assert!(!there(work));
    let shown = run(&["-e", "app"]).ok();
    assert!(shown.stdout.contains(file), "{}", shown.stdout);

    for (args, code, said) in [
        (&["other"][..], 1, "avocado.yaml:4:39"),
        (&["far"], 1, "comes from the package far: package it there"),
        (
            &["none"],
            1,
            "no extension of its own `none` (it has app, other)",
        ),
        (&[], 2, "the project has app, other"),
    ] {
        let ended = run(args).failed(code);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
        let work = place.path(".avocado/state/qemux86-64/.work/packaged");
        let left = std::fs::read_dir(work).unwrap().count();
        assert_eq!(left, 0, "{args:?} left something of its making");
    }
}

#[test]
fn what_is_copied_from_a_tree_is_named() {
    let place = Place::new();
    place.write("avocado.yaml", PROJECT);
    let run = |args: &[&str]| place.run(&[&["ext", "checkout"], args].concat());
    let paths = ["--ext-path", "etc/x", "--src-path", "x"];
    for (args, code, said) in [
        (&["app", "--ext-path", "etc/x"][..], 2, "--src-path <PATH>"),
        (&paths, 2, "which extension"),
    ] {
        let ended = run(args).failed(code);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
    }
    assert!(!there(place.path("x")));
}
