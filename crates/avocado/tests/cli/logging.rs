use crate::Place;

const VERSION: &str = concat!("avocado ", env!("CARGO_PKG_VERSION"), "\n");

#[test]
fn a_command_says_more_when_asked() {
    let place = Place::new();
    let said = |more: &[&str], filter: Option<&str>| {
        let mut command = place.command();
        command.args(["signing-keys", "list"]).args(more);
        if let Some(filter) = filter {
            command.env("AVOCADO_LOG", filter);
        }
        place.end(&mut command).ok().stderr
    };
    assert_eq!(said(&[], None), "");
    assert_eq!(said(&["-v"], None), VERSION);
    assert_eq!(said(&[], Some("info")), VERSION);
    // Which command it is in, as with every line about how things are done.
    let begins = "debug avocado::commands: begins [command name=signing-keys]\n";
    assert_eq!(said(&["-vv"], None), format!("{VERSION}{begins}"));
    // The variable decides where it is set.
    assert_eq!(said(&["-vv"], Some("error")), "");
    let some = said(&[], Some("warn,avocado=info"));
    assert_eq!(some, VERSION);
}

#[test]
fn what_is_no_filter_is_an_error() {
    let place = Place::new();
    let mut command = place.command();
    command.args(["signing-keys", "list"]);
    let said = place
        .end(command.env("AVOCADO_LOG", "loud"))
        .failed(2)
        .stderr;
    assert!(
        said.starts_with("error: AVOCADO_LOG cannot be used"),
        "{said}"
    );
    assert!(said.contains("`loud` is not a level"), "{said}");
}
