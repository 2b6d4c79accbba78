use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::source::FileId;
use crate::yaml;

const DOCUMENT: &str = "
default_target_board: board
default_runtime: dev
a: {b: text, n: 5, t: \"{{ config.a.b }}!\", empty: '', deep: {er: x}}
distro: {release: 2024, channel: edge, target-t1: {channel: stable}}
extensions: {app: {version: 0.1.0, target-t1: {version: 0.2.0}}, net: {version: 0.3.0}}
runtimes: {dev: {target_board: dev-board}, prod: {}}
list: [x]
";

fn variables(name: &str) -> Option<String> {
    match name {
        "X" => Some("x".to_owned()),
        "EMPTY" => Some(String::new()),
        "TEMPLATE" => Some("{{ config.a.b }}".to_owned()),
        "OPEN" => Some("{{".to_owned()),
        "LOOP" => Some("{{ env.LOOP }}".to_owned()),
        _ => None,
    }
}

/// The value of `value:` in the document, and what was said.
fn resolved(template: &str, env: &dyn Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    let value = serde_json::to_string(template).unwrap();
    let text = format!("{DOCUMENT}value: {value}\n");
    let mut report = Report::new(Path::new("f"), &text);
    let root = yaml::parse(FileId::MAIN, &mut report).expect("valid YAML");
    let context = InterpolationContext {
        env,
        target: Some("t1"),
    };
    let root = interpolate(root, &context, &mut report);
    let value = root.get("value").and_then(Node::as_text);
    let said = report.finish().into_iter().map(|d| d.message).collect();
    (value.unwrap_or_default().to_owned(), said)
}

#[test]
fn expressions() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{ env.X }}", "x"),
        ("{{env.X}}-{{  env.X  }}", "x-x"),
        ("<{{ env.EMPTY }}>", "<>"),
        ("{{ env.TEMPLATE }}", "text"),
        (
            "{{ config.a.b }}/{{ config.a.n }}/{{ config.a.deep.er }}",
            "text/5/x",
        ),
        ("{{ config.a.t }}", "text!"),
        ("<{{ config.a.empty }}>", "<>"),
        ("{{ avocado.target }}", "t1"),
        ("{{ avocado.target.board }}", "dev-board"),
        ("{{ avocado.runtime }}", "dev"),
        (
            "{{ avocado.distro.release }} {{ avocado.distro.version }}",
            "2024 2024",
        ),
        ("{{ avocado.distro.channel }}", "stable"),
        ("{{ avocado.extensions.app.version }}", "0.2.0"),
        ("{{ avocado.extensions.net.version }}", "0.3.0"),
        // Not known: stays, to the byte.
        (
            "k-{{avocado.kernel.version }}-k",
            "k-{{avocado.kernel.version }}-k",
        ),
        (
            "{{ avocado.extensions.none.version }}",
            "{{ avocado.extensions.none.version }}",
        ),
        ("{{ avocado.extensions }}", "{{ avocado.extensions }}"),
        // Braces that are no expression.
        ("}} { } {x}", "}} { } {x}"),
        ("{{{ env.X }}}", "{{{ env.X }}}"),
        ("{{ env.X }}}}", "x}}"),
    ] {
        let (found, _) = resolved(template, &variables);
        assert_eq!(found, expected, "{template}");
    }
}

#[test]
fn the_board_is_the_most_specific_that_is_given() {
    let board =
        |env: &dyn Fn(&str) -> Option<String>| resolved("{{ avocado.target.board }}", env).0;
    let only = |wanted: &'static str, value: &'static str| {
        move |name: &str| (name == wanted).then(|| value.to_owned())
    };
    assert_eq!(
        board(&only("AVOCADO_TARGET_BOARD", "env-board")),
        "env-board"
    );
    assert_eq!(board(&only("-", "")), "dev-board");
    assert_eq!(board(&only("AVOCADO_RUNTIME", "prod")), "board");
}

#[test]
fn mistakes() {
    for (template, expected) in [
        ("{{ env.OPEN }}", "`{{` is not closed"),
        ("{{ env.LOOP }}", "circular reference: env.LOOP → env.LOOP"),
        (
            "{{ config.value }}",
            "circular reference: config.value → config.value",
        ),
        (
            "{{ config.list }}",
            "`config.list` is a list; a template can only insert text",
        ),
        (
            "{{ config. }}",
            "`config.` does not exist: there is no `` in `config`",
        ),
        (
            "{{ config.a.b.c }}",
            "`config.a.b.c` does not exist: there is no `c` in `config.a.b`",
        ),
        ("{{ {{ env.X }} }}", "`{{` is not closed: `{{ {{ env.X`"),
        ("{{ }}", "`` is not an expression; it stays as it is"),
        (
            "{{ env. }}",
            "`env.` is not an expression; it stays as it is",
        ),
    ] {
        let (value, said) = resolved(template, &variables);
        assert_eq!(said, [expected], "{template}");
        assert_eq!(value, template);
    }
}

#[test]
fn a_long_chain_ends() {
    let mut text = String::from("a0: x\n");
    for n in 1..200 {
        text.push_str(&format!("a{n}: \"{{{{ config.a{} }}}}\"\n", n - 1));
    }
    let mut report = Report::new(Path::new("f"), &text);
    let root = yaml::parse(FileId::MAIN, &mut report).expect("valid YAML");
    let context = InterpolationContext {
        env: &|_| None,
        target: None,
    };
    let root = interpolate(root, &context, &mut report);
    assert_eq!(root.get("a20").and_then(Node::as_text), Some("x"));
    let said = report.finish();
    assert!(
        said.iter()
            .all(|d| d.message.contains("too many references")),
        "{said:?}"
    );
}

proptest! {
    #[test]
    fn text_without_expressions_stays(text in "([a-z }]|\\{[a-z ])*") {
        let (found, said) = resolved(&text, &variables);
        prop_assert_eq!(said, Vec::<String>::new());
        prop_assert_eq!(found, text);
    }

    /// What a variable holds arrives as it is, wherever it is put.
    #[test]
    fn values_arrive_unchanged(value in "[a-z:\"'#\\\\ \\n]{0,20}", before in "[a-z ]{0,5}") {
        let env = |name: &str| (name == "V").then(|| value.clone());
        let (found, _) = resolved(&format!("{before}{{{{ env.V }}}}"), &env);
        prop_assert_eq!(found, format!("{before}{value}"));
    }
}

#[test]
fn of_thousands_of_references_in_one_text_each_has_its_place() {
    let many = 4_000;
    let text = format!(
        "value: \"é{}\\\n  {}{{{{ config.none }}}}\"\n",
        "{{ env.X }}".repeat(many),
        "{{ env.X }}{{ env.N }}".repeat(many / 4)
    );
    let mut report = Report::new(Path::new("f"), &text);
    let root = yaml::parse(FileId::MAIN, &mut report).expect("valid YAML");
    let context = InterpolationContext {
        env: &variables,
        target: None,
    };
    interpolate(root, &context, &mut report);
    let places = report.finish().into_iter().map(|d| (d.line, d.column));
    let mut places: Vec<_> = places.collect();
    // Two references are 22 characters, and two spaces come before them.
    assert_eq!(places.pop(), Some((2, 3 + 22 * 1_000)));
    let expected = (0..1_000).map(|nth| (2, 3 + 11 + 22 * nth));
    assert!(places.len() > 10);
    assert!(
        places.iter().copied().eq(expected.take(places.len())),
        "{places:?}"
    );
}
