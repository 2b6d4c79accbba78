//! Many lock files that are wrong in one way each: what is said, where it points, and that it says
//! what to do.

use std::error::Error;
use std::path::Path;

use avocado_project::LockFile;

/// Each has a name, and `«` and `»` around what is to be pointed at.
const LOCKS: &str = include_str!("broken/locks.txt");

#[test]
fn what_is_wrong_with_a_lock_is_told_at_its_token() {
    let (mut all, mut inexact) = (String::new(), Vec::new());
    let mut count = 0;
    for text in LOCKS.split("=== ").skip(1) {
        count += 1;
        let (name, marked) = text.split_once('\n').unwrap();
        let marked = marked.strip_suffix('\n').unwrap_or(marked);
        let (before, rest) = marked.split_once('«').unwrap();
        let lock = format!("{before}{}", rest.replacen('»', "", 1));
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        let error = LockFile::parse(Path::new("avocado.lock"), lock.as_bytes());
        let error = error.expect_err(name);
        let causes = std::iter::successors(error.source(), |error| (*error).source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        let place = format!("avocado.lock:{line}:{column}: ");
        if !error.to_string().starts_with(&place) {
            inexact.push(format!("{name}: {place}\n  {error}"));
        }
        assert!(
            error.to_string().contains("; "),
            "{name}: what to do? {error}"
        );
        all += &format!("== {name}\n{error}\n");
        for cause in causes {
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
