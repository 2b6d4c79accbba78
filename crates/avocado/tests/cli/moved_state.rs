//! `avocado save` and `avocado load`, where they do not get as far as to a state. The rest is in
//! `tests/tests/moving.rs`.

use std::fs;

use crate::{Place, there};

const STATE: &str = ".avocado/state/qemux86-64";

fn project() -> Place {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    place
}

#[test]
fn what_cannot_be_saved_is_told_and_nothing_is_written() {
    let place = project();
    let none = place.run(&["save", "state.avocado"]).failed(1).stderr;
    assert!(none.contains("there is no state in "), "{none}");
    assert!(none.contains("build something first"), "{none}");
    assert!(!there(place.path(".avocado")));
    place.write(&format!("{STATE}/f"), "x");
    let none = place.run(&["save", "-t", "other", "state.avocado"]);
    assert!(none.failed(1).stderr.contains("other"));
    for (file, said) in [
        (".avocado/state/x", "is in the state that is to be saved"),
        (".", "is a directory"),
        ("none/x", "cannot create"),
    ] {
        let failed = place.run(&["save", file]).failed(1).stderr;
        assert!(failed.contains(said), "{file}: {failed}");
    }
    let json = place.run(&["save", "-", "--output", "json"]).failed(2);
    assert!(json.stdout.contains("name a file"), "{}", json.stdout);
    let names = fs::read_dir(place.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let written: Vec<String> = names.filter(|name| name.contains("state.av")).collect();
    assert_eq!(written, [""; 0]);
}

#[test]
fn a_file_is_named_once() {
    let place = project();
    for command in [
        &["save"][..],
        &["load"],
        &["save", "a", "-o", "b"],
        &["load", "a", "-i", "b"],
        &["load", "a", "--sha256", "abc"],
    ] {
        place.run(command).failed(2);
    }
}

#[test]
fn what_is_no_saved_state_is_not_loaded() {
    let place = project();
    let missing = place.run(&["load", "none"]).failed(1).stderr;
    assert!(missing.contains("none"), "{missing}");
    place.write("text", &"no archive ".repeat(100));
    place.write(&format!("{STATE}/f"), "x");
    for arguments in [&["load", "text"][..], &["load", "-i", "text", "--force"]] {
        let failed = place.run(arguments).failed(1).stderr;
        assert!(failed.contains("cannot load the saved state"), "{failed}");
        assert_eq!(
            fs::read_to_string(place.path(&format!("{STATE}/f"))).unwrap(),
            "x"
        );
    }
    let mut pipe = place.command();
    let empty = place
        .end(pipe.args(["load", "-"]).write_stdin(""))
        .failed(1);
    assert!(
        empty.stderr.contains("it has no avocado-state.json"),
        "{}",
        empty.stderr
    );
}
