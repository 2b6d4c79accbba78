//! What tests of every crate share: how one says that this machine cannot run it, and documents that
//! are wrong in one way each ([`BrokenDocument`]).
//!
//! A test runner of Rust knows only tests that pass and tests that fail: one that returns early
//! counts as passed, and what it printed is not shown. So a test that cannot run here calls
//! [`skip`] and returns, and the skip is seen: `./test` counts it and names it, and where every
//! test has to run, as in CI, it is a failure.
//!
//! Unlike the other libraries this one reads the environment, because no test has a `main` that
//! could pass it on:
//!
//! | variable | meaning |
//! |---|---|
//! | `AVOCADO_TEST_REQUIRE` | `all`: a skip is a failure |
//! | `AVOCADO_TEST_MAY_SKIP` | names, separated by commas, that may be skipped even then |
//! | `AVOCADO_TEST_SKIPS` | a file to which every skip adds the line `NAME: WHY` |

mod broken_documents;

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

pub use broken_documents::{BrokenDocument, BrokenReport};

/// Says that the test `name` does not run, and why; the caller returns then.
///
/// # Panics
/// Where every test has to run (`AVOCADO_TEST_REQUIRE=all`, and `name` is not one that may be
/// skipped), and when the skip cannot be written down: it must not go unseen.
pub fn skip(name: &str, why: impl Display) {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let text = |name| variable(name).unwrap_or_default().into_string();
    let may_skip = text("AVOCADO_TEST_MAY_SKIP").unwrap_or_default();
    let all = text("AVOCADO_TEST_REQUIRE").is_ok_and(|value| value == "all");
    assert!(
        !all || may_skip.split(',').any(|other| other.trim() == name),
        "{name} cannot run here, and AVOCADO_TEST_REQUIRE=all wants every test to run: {why}"
    );
    let line = line(name, &why.to_string());
    if let Some(path) = variable("AVOCADO_TEST_SKIPS")
        && let Err(error) = append(Path::new(&path), &line)
    {
        let path = Path::new(&path).display();
        panic!("the skip of {name} cannot be written to {path}: {error}");
    }
    // On the real standard output, past the harness, which keeps the output of a passing test to
    // itself. When it is closed there is no one to tell.
    let mut stdout = io::stdout().lock();
    let _ = write!(stdout, "SKIP {line}").and_then(|()| stdout.flush());
}

/// One line whatever the reason is made of.
fn line(name: &str, why: &str) -> String {
    let why: Vec<&str> = why.split_whitespace().collect();
    format!("{name}: {}\n", why.join(" "))
}

/// In one write to the end: other test processes write to the same file.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output};

    /// What the test below does when it runs in a process of its own: the environment is one for
    /// all threads of a process.
    const INSIDE: &str = "AVOCADO_TEST_SUPPORT_INSIDE";

    #[test]
    fn inside() {
        if std::env::var_os(INSIDE).is_some() {
            skip("some_test", "no tool\nof that name");
        }
    }

    fn run(variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tests::inside"]).env(INSIDE, "1");
        for name in [
            "AVOCADO_TEST_REQUIRE",
            "AVOCADO_TEST_MAY_SKIP",
            "AVOCADO_TEST_SKIPS",
        ] {
            command.env_remove(name);
        }
        command
            .envs(variables.iter().copied())
            .output()
            .expect("a test program can be run")
    }

    #[test]
    fn a_skip_is_printed_although_the_test_passes() {
        let output = run(&[]);
        assert!(output.status.success());
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            stdout.contains("SKIP some_test: no tool of that name\n"),
            "{stdout}"
        );
    }

    #[test]
    fn every_skip_adds_a_line_to_the_list() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("skips");
        for _ in 0..2 {
            assert!(
                run(&[("AVOCADO_TEST_SKIPS", list.to_str().unwrap())])
                    .status
                    .success()
            );
        }
        let line = "some_test: no tool of that name\n";
        assert_eq!(std::fs::read_to_string(list).unwrap(), line.repeat(2));
    }

    #[test]
    fn a_skip_that_cannot_be_written_down_is_a_failure() {
        let output = run(&[("AVOCADO_TEST_SKIPS", "/nowhere/skips")]);
        assert!(!output.status.success());
    }

    #[test]
    fn a_skip_is_a_failure_where_every_test_has_to_run() {
        let all = ("AVOCADO_TEST_REQUIRE", "all");
        let output = run(&[all]);
        assert!(!output.status.success());
        let said = [output.stdout, output.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains("no tool\nof that name"));
        assert!(
            !run(&[all, ("AVOCADO_TEST_MAY_SKIP", "some_tes")])
                .status
                .success()
        );
        let named = ("AVOCADO_TEST_MAY_SKIP", "other test, some_test");
        assert!(run(&[all, named]).status.success());
    }
}
