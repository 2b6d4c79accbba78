//! What a shell is told of what may come next.

use crate::Place;

/// What comes after these words, for bash.
fn after(place: &Place, words: &[&str]) -> Vec<String> {
    let mut command = place.command();
    command
        .env("AVOCADO_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .env("_CLAP_IFS", "\n")
        .args(["--", "avocado"])
        .args(words);
    let said = place.end(&mut command).ok();
    assert_eq!(said.stderr, "", "{words:?}");
    said.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_script_for_each_shell_asks_the_program() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let shown = place.run(&["completion", shell]).ok();
        assert!(shown.stdout.contains("AVOCADO_COMPLETE"), "{shell}");
        assert_eq!(shown.stderr, "");
    }
}

#[test]
fn the_names_of_the_project_are_known() {
    let place = Place::new();
    let yaml = "default_target: a\nsupported_targets: [a, board]\n\
                runtimes: {dev: {}, release: {}}\n\
                sdk: {compile: {tool: {compile: a.sh}, test: {compile: b.sh}}}\n\
                extensions: {app: {version: 1.0.0}, app-config: {version: 1.0.0}, other: {version: 1.0.0}}\n";
    place.write("avocado.yaml", yaml);
    for (words, wanted) in [
        (&["ext", "image", "ap"][..], &["app", "app-config"][..]),
        (&["ext", "package", "o"], &["other"]),
        (&["sdk", "package", "to"], &["tool"]),
        (&["sdk", "compile", "t"], &["tool", "test"]),
        (&["build", "-e", "o"], &["other"]),
        (&["build", "--runtime", ""], &["dev", "release"]),
        (&["deploy", "d"], &["dev"]),
        (&["-t", "b"], &["board"]),
        (&["sig"], &["signing-keys"]),
        (&["completion", "z"], &["zsh"]),
    ] {
        let told = after(&place, words);
        assert_eq!(told, wanted, "{words:?}");
    }
}

#[test]
fn the_project_is_the_one_that_the_line_names() {
    let place = Place::new();
    place.write("avocado.yaml", "default_target: a\nruntimes: {here: {}}\n");
    let other = "supported_targets: [a, board]\nruntimes: {there: {}}\n";
    place.write("other.yaml", other);
    for (words, wanted) in [
        (&["build", "-r", ""][..], &["here"][..]),
        // Nothing says a target yet.
        (&["-C", "other.yaml", "-t", ""], &["a", "board"]),
        (&["-C", "other.yaml", "build", "-r", ""], &[]),
        (
            &["-C", "other.yaml", "build", "-t", "board", "-r", ""],
            &["there"],
        ),
        (
            &["--config=other.yaml", "build", "--target=a", "-r", ""],
            &["there"],
        ),
        (&["build", "-Cother.yaml", "-ta", "-r", "t"], &["there"]),
        (&["-C", "none.yaml", "build", "-r", ""], &[]),
    ] {
        assert_eq!(after(&place, words), wanted, "{words:?}");
    }
}

#[test]
fn where_nothing_can_be_read_nothing_is_said() {
    let place = Place::new();
    assert_eq!(after(&place, &["build", "-e", "o"]), [""; 0]);
    for broken in ["extensions: [", "a: 1\n"] {
        place.write("avocado.yaml", broken);
        assert_eq!(after(&place, &["build", "-e", "o"]), [""; 0], "{broken}");
    }
}
