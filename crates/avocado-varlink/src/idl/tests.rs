use serde_json::{Value, json};

use super::*;

const TEXT: &str = "\
# About the interface.
interface org.example.test-1

type Color (red, green) # a comment at the end of a line
type Box (
  # The width.
  width: int, color: ?Color,
  inner: ?Box
)
# Does it.
method Do(name: string, boxes: []Box, tags: ?[string](), note: ?string) -> (ok: bool, f: ?float)
method Rest() -> (any: any, object: object)
error Bad (field: string)
error Empty ()
";

fn object(value: Value) -> Parameters {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

#[test]
fn a_definition_is_read() {
    let interface = Interface::parse(TEXT).unwrap();
    assert_eq!(interface.name(), "org.example.test-1");
    assert_eq!(interface.methods().collect::<Vec<_>>(), ["Do", "Rest"]);
    assert_eq!(interface.text(), TEXT);
}

#[test]
fn parameters_are_checked() {
    let interface = Interface::parse(TEXT).unwrap();
    for good in [
        json!({"name": "a", "boxes": []}),
        json!({"name": "a", "boxes": [], "note": null, "tags": {"x": {}}}),
        json!({"name": "", "boxes": [{"width": -1, "color": "red", "inner": {"width": 2}}]}),
    ] {
        assert_eq!(
            interface.check_call("Do", &object(good.clone())),
            Ok(()),
            "{good}"
        );
    }
    for (bad, field) in [
        (json!({"boxes": []}), "name"),
        (json!({"name": null, "boxes": []}), "name"),
        (json!({"name": 1, "boxes": []}), "name"),
        (json!({"name": "a"}), "boxes"),
        (json!({"name": "a", "boxes": {}}), "boxes"),
        (json!({"name": "a", "boxes": [null]}), "boxes"),
        (
            json!({"name": "a", "boxes": [{"width": 1.5}]}),
            "boxes.width",
        ),
        (
            json!({"name": "a", "boxes": [{"width": 1, "color": "blue"}]}),
            "boxes.color",
        ),
        (
            json!({"name": "a", "boxes": [{"width": 1, "depth": 1}]}),
            "boxes.depth",
        ),
        (json!({"name": "a", "boxes": [], "tags": {"x": 1}}), "tags"),
        (json!({"name": "a", "boxes": [], "Note": "x"}), "Note"),
    ] {
        let found = interface.check_call("Do", &object(bad.clone()));
        assert_eq!(found, Err(ParameterMismatch(field.into())), "{bad}");
    }
    let reply = |value| interface.check_reply("Do", &object(value));
    assert_eq!(reply(json!({"ok": true, "f": 1})), Ok(()));
    assert_eq!(reply(json!({"ok": 1})), Err(ParameterMismatch("ok".into())));
    let error = |name, value| interface.check_error(name, &object(value));
    assert_eq!(error("Bad", json!({"field": "x"})), Ok(()));
    assert_eq!(error("Empty", json!({})), Ok(()));
    assert_eq!(
        error("Other", json!({"x": 1})),
        Err(ParameterMismatch("x".into()))
    );
    let rest = |value| interface.check_reply("Rest", &object(value));
    assert_eq!(rest(json!({"any": [], "object": {}})), Ok(()));
    assert_eq!(
        rest(json!({"any": null, "object": {}})),
        Err(ParameterMismatch("any".into()))
    );
    assert_eq!(
        rest(json!({"any": 1, "object": []})),
        Err(ParameterMismatch("object".into()))
    );
}

#[test]
fn bad_definitions_are_refused_with_their_line() {
    for (text, line) in [
        ("", 1),
        ("interface x\n", 1),
        ("interface org.example\nmethod do() -> ()\n", 2),
        ("interface org.example\nmethod Do() ()\n", 2),
        ("interface org.example\nmethod Do(a) -> ()\n", 2),
        ("interface org.example\nmethod Do(a: ??int) -> ()\n", 2),
        ("interface org.example\ntype A (b: int, c)\n", 2),
        ("interface org.example\ntype A (b: int, b: int)\n", 2),
        ("interface org.example\ntype A (b__c: int)\n", 2),
        ("interface org.example\ntype A ()\n\nerror A ()\n", 4),
        ("interface org.example\ntype A (b: C)\n", 3),
        ("interface org.example\nsurprise\n", 2),
        ("interface org.example\ntype A (b", 2),
    ] {
        let error = Interface::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
    let deep = format!(
        "interface org.example\ntype A (b: {})\n",
        "[]".repeat(100_000)
    );
    assert!(Interface::parse(&deep).is_err());
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "(interface a\\.b\n)?(type A |method M|\\(|\\)|->|:|,|\\?|\\[\\]|x|int|#|\n|é){0,40}") {
        let _ = Interface::parse(&text);
    }
}
