//! What dnf says: how far it is, and why it failed.

use avocado_backend::ToolError;

use crate::error::{BuildError, ToolFailure};
use crate::failure_kind::FailureKind;

pub(super) fn failure(error: ToolError) -> BuildError {
    let missing = missing_in_cache(&error);
    if missing.is_empty() {
        ToolFailure::read_by(error, failure_kind).into()
    } else {
        BuildError::NotInCache { missing }
    }
}

/// What a dnf that was to ask nobody says it would have had to ask for.
fn missing_in_cache(error: &ToolError) -> Vec<String> {
    let ToolError::Failed { output, .. } = error else {
        return Vec::new();
    };
    let lines = || output.iter();
    // Of each package it only says that its file, which is not there, is not the right one.
    let packages = lines()
        .filter(|line| line.contains("has incorrect checksum"))
        .filter_map(|line| line.split('"').nth(1))
        .map(|package| format!("package {package}"));
    let indexes = lines()
        .filter_map(|line| line.split_once("Cache-only enabled but no cache for "))
        .filter_map(|(_, rest)| rest.split('\'').nth(1))
        .map(|repository| format!("the index of repository {repository}"));
    let is_of_cache = error.says("due to \"--cacheonly\" option");
    let packages = packages.filter(|_| is_of_cache);
    let mut missing: Vec<String> = indexes.chain(packages).collect();
    missing.sort();
    missing.dedup();
    missing
}

/// Whether the feed had something else than its index says: it moved on meanwhile, or is damaged.
pub(super) fn feed_moved(error: &ToolError) -> bool {
    let is_download =
        error.says("Error downloading packages") || error.says("Failed to download metadata");
    let is_other = error.says("Status code: 404") || error.says("checksum doesn't match");
    // Without that there is no feed at all.
    is_download && is_other && !error.says("Cannot download repomd.xml")
}

/// What dnf says of its failure, in the locale that steps run in: it ends with 1 whatever it is.
fn failure_kind(error: &ToolError) -> Option<FailureKind> {
    if feed_moved(error) {
        return Some(FailureKind::FeedChanged);
    }
    let words = [
        // What curl says through dnf, where the error of the system gets lost.
        (
            "Failed writing received data to disk",
            FailureKind::StorageFull,
        ),
        ("Unable to find a match", FailureKind::PackageNotFound),
        ("No match for argument", FailureKind::PackageNotFound),
        ("GPG check FAILED", FailureKind::PackageSignature),
        ("digest: BAD", FailureKind::PackageDamaged),
        ("Cannot download repomd.xml", FailureKind::FeedUnreachable),
        ("Failed to download metadata", FailureKind::FeedUnreachable),
    ];
    let said = words.into_iter().find(|(words, _)| error.says(words));
    said.map(|(_, kind)| kind)
}

/// What a line of dnf's like `  Installing : hello-1.0.0-r0.x86_64   2/3` counts.
pub(super) fn transaction_step(line: &str) -> Option<(&str, u64, u64)> {
    let mut words = line
        .trim_start()
        .strip_prefix("Installing")?
        .split_whitespace();
    let (package, count) = match (words.next()?, words.next()?, words.next()) {
        (":", package, Some(count)) => (package, count),
        _ => return None,
    };
    let (done, total) = count.split_once('/')?;
    Some((package, done.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_transaction_are_counted() {
        let line = "  Installing       : hello-1.0.0-r0.core2_64                    2/3 ";
        let step = transaction_step(line);
        assert_eq!(step, Some(("hello-1.0.0-r0.core2_64", 2, 3)));
        for other in [
            "Installing:",
            " Installing dependencies:",
            " hello  1.0.0  3/4",
            "",
        ] {
            assert_eq!(transaction_step(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_not_in_the_cache_is_named() {
        use std::os::unix::process::ExitStatusExt as _;
        let failed = |lines: &[&str]| ToolError::Failed {
            tool: "dnf".into(),
            status: std::process::ExitStatus::from_raw(256),
            output: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let refused = "Error: Some packages have invalid cache, but cannot be downloaded due to \
                       \"--cacheonly\" option";
        let package = |name: &str| {
            format!("Package \"{name}\" from repository \"target\" has incorrect checksum")
        };
        let (b, a) = (package("b-1-r0.noarch"), package("a-1-r0.noarch"));
        assert_eq!(
            missing_in_cache(&failed(&[&b, &a, refused])),
            ["package a-1-r0.noarch", "package b-1-r0.noarch"]
        );
        let index = "Error: Failed to download metadata for repo 'avocado-sdk': Cache-only enabled \
                     but no cache for 'avocado-sdk'";
        assert_eq!(
            missing_in_cache(&failed(&[index])),
            ["the index of repository avocado-sdk"]
        );
        // One that may ask and gets other bytes.
        for lines in [&[a.as_str()][..], &["Error: Unable to find a match: x"]] {
            assert!(missing_in_cache(&failed(lines)).is_empty());
        }
    }

    #[test]
    fn what_dnf_says_of_a_failure_is_understood() {
        use std::os::unix::process::ExitStatusExt as _;
        use std::process::ExitStatus;
        for (lines, kind) in [
            (
                &[
                    "No match for argument: nothing-1.0",
                    "Error: Unable to find a match: nothing-1.0",
                ][..],
                Some(FailureKind::PackageNotFound),
            ),
            (
                &[
                    "Error: Failed to download metadata for repo 'a': Cannot download repomd.xml: Cannot download repodata/repomd.xml: All mirrors were tried",
                ],
                Some(FailureKind::FeedUnreachable),
            ),
            (
                &[
                    "  - Curl error (23): Failed writing received data to disk/application",
                    "Error: Failed to download metadata for repo 'a'",
                ],
                Some(FailureKind::StorageFull),
            ),
            (
                &[
                    "[MIRROR] a-1.rpm: Status code: 404 for http://feed/a-1.rpm (IP: ::1)",
                    "Error: Error downloading packages:",
                ],
                Some(FailureKind::FeedChanged),
            ),
            (
                &[
                    "[MIRROR] a-1.rpm: Status code: 503 for http://feed/a-1.rpm (IP: ::1)",
                    "Error: Error downloading packages:",
                ],
                None,
            ),
            (
                &[
                    "  - Downloading successful, but checksum doesn't match. Calculated: 1",
                    "Error: Failed to download metadata for repo 'a'",
                ],
                Some(FailureKind::FeedChanged),
            ),
            (
                &["OSError: [Errno 28] No space left on device"],
                Some(FailureKind::StorageFull),
            ),
            (&["Error: nothing provides x needed by y"], None),
            (&[], None),
        ] {
            let error = ToolError::Failed {
                tool: "dnf".into(),
                status: ExitStatus::from_raw(256),
                output: lines.iter().map(|l| (*l).to_owned()).collect(),
            };
            let error = failure(error);
            assert_eq!(error.kind(), kind, "{lines:?}");
        }
    }
}
