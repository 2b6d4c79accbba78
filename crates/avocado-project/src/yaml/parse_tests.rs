use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::source::line;

fn tree(text: &str) -> Result<Node, String> {
    let mut report = Report::new(Path::new("f"), text);
    match parse(FileId::MAIN, &mut report) {
        Some(node) => Ok(node),
        None => Err(report.finish().iter().map(ToString::to_string).collect()),
    }
}

/// The tree on one line: text in quotes where it cannot be anything else.
fn show(node: &Node) -> String {
    match &node.value {
        Value::Scalar(s) if s.style == Style::Plain => s.text.clone(),
        Value::Scalar(s) => format!("{:?}", s.text),
        Value::Sequence(items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Mapping(entries) => {
            let entry = |e: &Entry| format!("{}:{}", e.key.text, show(&e.value));
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(" "))
        }
    }
}

#[test]
fn trees() {
    for (text, expected) in [
        ("", ""),
        ("# only a comment", ""),
        ("a: 1", "{a:1}"),
        (
            "a: '1'\nb: \"x\\ty\"\nc: |\n  l\n",
            r#"{a:"1" b:"x\ty" c:"l\n"}"#,
        ),
        ("a:\nb: ~\n", "{a: b:~}"),
        ("- [1, {a: b}]\n- {}\n", "[[1 {a:b}] {}]"),
        ("a: &x {b: 1}\nc: *x\n", "{a:{b:1} c:{b:1}}"),
        ("&k a: 1\nb: *k\n", "{a:1 b:a}"),
        ("*k : 1", "error"),
        // What is written wins over what is merged, the first merged over the second.
        (
            "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  a: 0\n  <<: [*x, *y]\n  d: 0\n",
            "{x:{a:1 b:1} y:{b:2 c:2} z:{a:0 d:0 b:1 c:2}}",
        ),
        ("z: {<<: {a: 1}, a: 2}", "{z:{a:2}}"),
        ("z: {'<<': 1}", "{z:{<<:1}}"),
        ("z: {<<: {}, '<<': 1}", "{z:{<<:1}}"),
        ("a: !!str 1\nb: ! 2\n", r#"{a:"1" b:"2"}"#),
        ("a: 1\n...\n", "{a:1}"),
        ("%YAML 1.2\n---\na: 1\n", "{a:1}"),
        ("\u{feff}a: 1\r\nb: 2\r\n", "{a:1 b:2}"),
    ] {
        match (tree(text), expected) {
            (Err(_), "error") => {}
            (found, _) => assert_eq!(found.as_ref().map(show).as_deref(), Ok(expected), "{text}"),
        }
    }
}

#[test]
fn places_are_those_of_the_text() {
    let text = "ä: [x, 'yé']\n\"k\":\n  - |\n    ö\n  - z\n";
    let root = tree(text).unwrap();
    let mut found = Vec::new();
    collect(&root, &mut found);
    let found: Vec<(u32, u32, &str)> = found
        .iter()
        .map(|s| (s.line, s.column, &text[s.start..s.end]))
        .collect();
    assert_eq!(
        found,
        [
            (1, 1, "ä"),
            (1, 5, "x"),
            (1, 8, "'yé'"),
            (2, 1, "\"k\""),
            // Up to the indentation of what follows.
            (4, 5, "ö\n  "),
            (5, 5, "z"),
        ]
    );
}

/// The places of keys and scalars.
fn collect(node: &Node, spans: &mut Vec<Span>) {
    match &node.value {
        Value::Scalar(_) => spans.push(node.span),
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, spans)),
        Value::Mapping(entries) => {
            for entry in entries {
                spans.push(entry.key.span);
                collect(&entry.value, spans);
            }
        }
    }
}

#[test]
fn depth_has_a_limit() {
    let nested = |n: usize| format!("{}x", "- ".repeat(n));
    assert!(tree(&nested(MAX_DEPTH)).is_ok());
    for n in [MAX_DEPTH + 1, 1_000, 100_000] {
        let error = tree(&nested(n)).unwrap_err();
        assert!(error.contains("nested more than 64 levels"), "{error}");
    }
    // Through aliases as well.
    let mut text = String::from("- &a0 x\n");
    for n in 1..=MAX_DEPTH {
        text.push_str(&format!("- &a{n} [*a{}]\n", n - 1));
    }
    let error = tree(&text).unwrap_err();
    assert!(error.contains("nested more than 64 levels"), "{error}");
}

#[test]
fn size_has_a_limit() {
    let error = tree(&"- x\n".repeat(MAX_WEIGHT + 1)).unwrap_err();
    assert!(error.contains("too large"), "{error}");
    // A long text that is repeated.
    let text = format!("- &a {}\n{}", "x".repeat(1 << 20), "- *a\n".repeat(1000));
    let error = tree(&text).unwrap_err();
    assert!(error.contains("too large"), "{error}");
    // A large but honest file is read.
    assert!(tree(&"- some text of a list\n".repeat(100_000)).is_ok());
}

proptest! {
    /// The parser counts lines and columns as everybody else here does.
    #[test]
    fn places_are_where_the_text_is(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "a: b", "- x", "k: 'q", "'", "\r", "\n", "\r\n", "  ", "# ä", "k: |", " ", "[", "]", ", ", "\"ö", "\"",
            ]),
            0..24,
        ),
    ) {
        let text = pieces.concat();
        let mut report = Report::new(Path::new("f"), &text);
        if let Some(root) = parse(FileId::MAIN, &mut report) {
            let mut spans = Vec::new();
            collect(&root, &mut spans);
            for span in spans.into_iter().filter(|span| span.start < text.len()) {
                prop_assert_eq!((span.line, span.column), line::place(&text, span.start), "{:?}", text);
            }
        }
    }

    /// A second opinion on text: what JSON says, YAML says.
    #[test]
    fn quoted_text_is_what_was_quoted(text in "[ -~äöü\\n\\t{}:#'\"\\\\]{0,40}") {
        let json = serde_json::to_string(&text).unwrap();
        let root = tree(&format!("k: {json}")).map_err(TestCaseError::fail)?;
        prop_assert_eq!(root.get("k").and_then(Node::as_text), Some(text.as_str()));
    }
}
