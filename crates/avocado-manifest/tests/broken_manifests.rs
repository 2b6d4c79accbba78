//! Many manifests that are wrong in one way each: what is said, where it points, and that it says what
//! to do.

use std::error::Error;

use avocado_manifest::Manifest;

/// Each has a name, and `«` before what is to be pointed at. `LONG` is a text that nobody writes.
const MANIFESTS: &str = include_str!("broken_manifests.txt");

#[test]
fn what_is_wrong_with_a_manifest_is_told_at_its_token() {
    let (mut all, mut inexact) = (String::new(), Vec::new());
    let mut count = 0;
    for text in MANIFESTS.split("=== ").skip(1) {
        count += 1;
        let (name, marked) = text.split_once('\n').unwrap();
        let marked = marked.strip_suffix('\n').unwrap_or(marked);
        let (before, rest) = marked.split_once('«').unwrap();
        let manifest = format!("{before}{}", rest.replacen('»', "", 1));
        let manifest = manifest.replace("LONG", &"x".repeat(1000));
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        let error = Manifest::parse(manifest.as_bytes()).expect_err(name);
        let place = format!("line {line}, column {column}: ");
        if !error.to_string().starts_with(&place) {
            inexact.push(format!("{name}: {place}\n  {error}"));
        }
        assert!(
            error.to_string().contains("; "),
            "{name}: what to do? {error}"
        );
        all += &format!("== {name}\n{error}\n");
        if let Some(cause) = error.source() {
            all += &format!("  {cause}\n");
        }
    }
    insta::assert_snapshot!(all);
    assert!(count >= 25, "{count}");
    let most = count / 20;
    assert!(
        inexact.len() <= most,
        "{}: {}",
        inexact.len(),
        inexact.join("\n")
    );
}
