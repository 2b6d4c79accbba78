//! Many lock files that are wrong in one way each: what is said, where it points, and that it says
//! what to do.

use std::path::Path;

use avocado_project::LockFile;
use avocado_test_support::{BrokenDocument, BrokenReport};

const LOCKS: &str = include_str!("broken/locks.txt");

#[test]
fn what_is_wrong_with_a_lock_is_told_at_its_token() {
    let mut report = BrokenReport::default();
    for broken in BrokenDocument::all(LOCKS) {
        let text = broken.text.strip_suffix('\n').unwrap_or(&broken.text);
        let error = LockFile::parse(Path::new("avocado.lock"), text.as_bytes());
        let error = error.expect_err(broken.name);
        let place = format!("avocado.lock:{}:{}: ", broken.line, broken.column);
        report.add_error(&broken, &error, &place);
    }
    insta::assert_snapshot!(report.all());
    report.check(25);
}
