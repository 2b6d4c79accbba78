use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::source::FileId;
use crate::yaml;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Sample {
    text: Option<String>,
    flag: Option<bool>,
    number: Option<u32>,
    list: Option<Vec<Spanned<String>>>,
    #[serde(alias = "old")]
    names: NameMap<Option<TextOr<Inner>>>,
    anything: NotDecoded,
    either: Option<MapOrList<Inner>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Inner {
    number: Option<u64>,
}

/// The struct, the keys without which it was decoded, and what was said.
fn decoded(text: &str) -> (Option<Sample>, Vec<String>, Vec<String>) {
    let mut report = Report::new(Path::new("f"), text);
    let node = yaml::parse(FileId::MAIN, &mut report).expect("valid YAML");
    let decoded = decode::<Sample>(&node, &mut report);
    let said = report.finish().iter().map(ToString::to_string).collect();
    match decoded {
        Some(Decoded { value, dropped }) => (Some(value), dropped, said),
        None => (None, Vec::new(), said),
    }
}

#[test]
fn scalars_are_what_is_asked_for() {
    for (text, expected) in [
        ("text: 2024", Some("2024")),
        ("text: '2024'", Some("2024")),
        ("text: true", Some("true")),
        ("text: 1.10", Some("1.10")),
        ("text: 'null'", Some("null")),
        ("text: ''", Some("")),
        ("text: null", None),
        ("text:", None),
    ] {
        let (value, _, said) = decoded(text);
        assert_eq!(said, [""; 0], "{text}");
        assert_eq!(value.unwrap().text.as_deref(), expected, "{text}");
    }
    let (value, _, _) = decoded("{flag: True, number: 0x10, list: [1, b], anything: [{x: y}]}");
    let value = value.unwrap();
    assert_eq!((value.flag, value.number), (Some(true), Some(16)));
    let list = value.list.unwrap();
    assert_eq!(list[1].value, "b");
    assert_eq!((list[1].span.line, list[1].span.column), (1, 38));
}

#[test]
fn null_is_empty() {
    let (value, _, said) = decoded("list:\nnames:\neither:\nanything:\n");
    assert_eq!(said, [""; 0]);
    assert_eq!(value, decoded("").0);
}

#[test]
fn every_mistake_of_a_section_is_found() {
    let text = "text: []\nflag: 1\nlist: [[x]]\nnumber: 5\nnames: {a: {number: x}}\n";
    let (value, dropped, said) = decoded(text);
    assert_eq!(dropped, ["text", "flag", "list", "names"]);
    assert_eq!(value.unwrap().number, Some(5));
    assert_eq!(
        said,
        [
            "f:1:7: expected text, found a list",
            "f:2:7: expected `true` or `false`, found `1`",
            "f:3:8: expected text, found a list",
            "f:5:21: expected a whole number, found `x`",
        ]
    );
    let (value, _, said) = decoded("[x]");
    assert_eq!(value, None);
    assert_eq!(said, ["f:1:1: expected a map, found a list"]);
}

#[test]
fn unknown_keys_are_found_at_every_depth_and_names_are_not_keys() {
    let text = "tekst: 1\nnames: {a: {numbr: 1}, zzz: text}\nanything: {what: ever}\nold: {}\n";
    let (_, dropped, said) = decoded(text);
    assert_eq!(dropped, ["old"]);
    assert_eq!(
        said,
        [
            "f:1:1: unknown key `tekst`; it is ignored",
            "f:2:13: unknown key `numbr`; it is ignored",
            "f:4:1: `names` is given twice, under two names",
        ]
    );
}

#[test]
fn maps_and_lists_of_named_things() {
    let (value, _, said) = decoded("either: {a: {number: 1}, b: }");
    assert_eq!(said, [""; 0]);
    let Some(MapOrList::Map(NameMap(entries))) = value.unwrap().either else {
        panic!("a map");
    };
    assert_eq!(entries[0].0.value, "a");
    assert_eq!(entries[1].1, None);
    let (value, _, _) = decoded("either: [{number: 1}]");
    assert!(matches!(value.unwrap().either, Some(MapOrList::List(items)) if items.len() == 1));
    let (_, _, said) = decoded("either: text");
    assert_eq!(said, ["f:1:9: expected a map or a list"]);
}
