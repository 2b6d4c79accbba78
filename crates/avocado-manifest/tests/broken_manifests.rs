//! Many manifests that are wrong in one way each: what is said, where it points, and that it says what
//! to do.

use avocado_manifest::Manifest;
use avocado_test_support::{BrokenDocument, BrokenReport};

/// `LONG` is a text that nobody writes.
const MANIFESTS: &str = include_str!("broken_manifests.txt");

#[test]
fn what_is_wrong_with_a_manifest_is_told_at_its_token() {
    let mut report = BrokenReport::default();
    for broken in BrokenDocument::all(MANIFESTS) {
        let text = broken.text.strip_suffix('\n').unwrap_or(&broken.text);
        let text = text.replace("LONG", &"x".repeat(1000));
        let error = Manifest::parse(text.as_bytes()).expect_err(broken.name);
        let place = format!("line {}, column {}: ", broken.line, broken.column);
        report.add_error(&broken, &error, &place);
    }
    insta::assert_snapshot!(report.all());
    report.check(25);
}
