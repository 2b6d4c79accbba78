use crate::Place;

const PROJECT: &str = "default_target: qemux86-64
default_target_board: board
supported_targets: [qemux86-64, other]
distro: {release: 2024, channel: edge, repo: {url: https://feed.example.org}}
connect: {org: o, project: p}
provision_profiles: {usb: {}}
sdk: {image: sdk, packages: {avocado-sdk-toolchain: '*'}, compile: {app: {compile: app.sh}}}
extensions:
  app: {version: 1.0.0, packages: {app: '*', lib: 1.0-r0}, depends_on: {base: '>=1.2', unset: '*'}}
  base: {version: 1.3.0}
  unset: {version: '{{ env.NOT_SET }}'}
runtimes:
  dev: {version: 1.2.3, extensions: [app, unset], packages: {avocado-runtime: '*'}}
";

#[test]
fn a_project_is_shown_as_it_is_resolved() {
    let place = Place::new();
    place.write("avocado.yaml", PROJECT);
    let mut all = String::new();
    for args in [
        &["config", "show"][..],
        &["config", "show", "--detail"],
        &["config", "show", "--detail", "--output", "json"],
        &["config", "check"],
        &["config", "check", "--output", "json"],
        &["ext", "deps"],
        &["ext", "deps", "app", "--output", "json"],
    ] {
        let ended = place.run(args).ok();
        all += &format!("== {}\n{}", args.join(" "), ended.stdout);
    }
    insta::assert_snapshot!(all);

    place.write("avocado.yaml", "default_target: t\nextensions: {app: {}}\n");
    let ended = place.run(&["config", "check"]).failed(1);
    assert!(
        ended.stderr.contains("has no `version`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_check_tells_what_steps_would_stop_at() {
    let place = Place::new();
    place.write(
        "avocado.yaml",
        "default_target: t\nsrc_dir: sources\ndistro: {release: r, channel: c}\nextensions:\n  app: {version: 1.0.0, overlay: files, \
         packages: {tool: {compile: none, install: install.sh}}}\n\
         runtimes: {dev: {extensions: [app], post_build: finish.sh}}\n",
    );
    let check = || place.run(&["config", "check"]).ok().stderr;
    insta::assert_snapshot!(check(), @"
    warning: avocado.yaml:2:10: the source directory `sources` does not exist
      hint: it is looked for at [PLACE]/sources
    warning: avocado.yaml:5:34: the overlay directory `files` does not exist
      hint: it is looked for at [PLACE]/sources/files
    warning: avocado.yaml:5:68: `sdk.compile` has no section `none`
      hint: add it, with the script that compiles
    warning: avocado.yaml:5:83: the script `install.sh` does not exist
      hint: it is looked for at [PLACE]/sources/install.sh
    warning: avocado.yaml:6:49: the script `finish.sh` does not exist
      hint: it is looked for at [PLACE]/sources/finish.sh
    ");
    for needed in ["files/etc", "install.sh", "finish.sh"] {
        place.write(&format!("sources/{needed}"), "");
    }
    let said = check();
    assert!(
        said.contains("no section `none`") && said.lines().count() == 2,
        "{said}"
    );
}

#[test]
fn the_project_is_found_from_a_directory_within_it() {
    let place = Place::new();
    place.write("avocado.yaml", PROJECT);
    let below = place.path("a/b");
    std::fs::create_dir_all(&below).unwrap();
    let run = |args: &[&str]| place.end(place.command().args(args).current_dir(&below));
    let shown = run(&["config", "show"]).ok().stdout;
    assert!(
        shown.contains("Project           [PLACE]/avocado.yaml"),
        "{shown}"
    );
    place.write("avocado.yaml", "default_target: t\nextensions: {app: {}}\n");
    let said = run(&["config", "check"]).failed(1).stderr;
    assert!(said.contains("[PLACE]/avocado.yaml:2:14"), "{said}");
    // The next one counts, and one that is named.
    place.write("a/avocado.yml", "default_target: other\n");
    let shown = run(&["config", "show"]).ok().stdout;
    assert!(shown.contains("[PLACE]/a/avocado.yml"), "{shown}");
    let said = run(&["-C", "none.yaml", "config", "show"]).failed(1).stderr;
    assert!(said.contains("none.yaml"), "{said}");
}
