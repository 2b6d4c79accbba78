//! What dnf says: how far it is, and why it failed. Of a failure its words choose no more than what a
//! user is told to do about it (a [`FailureKind`], whose hint is shown): no step goes another way for
//! them. What can be known otherwise is: see [`FeedState`] and
//! [`Dnf::missing_in_cache`](super::Dnf::missing_in_cache).

use avocado_backend::ToolError;

use super::cache::FeedState;
use crate::error::{BuildError, ToolFailure};
use crate::failure_kind::FailureKind;

/// The failure of a dnf after which the feed was found to be in this state.
pub(super) fn failure(error: ToolError, feed: FeedState) -> BuildError {
    let kind = |error: &ToolError| match feed {
        // Twice, or it would have been asked again.
        FeedState::Moved => Some(FailureKind::FeedChanged),
        FeedState::Unreachable => kind_by_words(error).or(Some(FailureKind::FeedUnreachable)),
        FeedState::Same | FeedState::NotAsked => kind_by_words(error),
    };
    ToolFailure::read_by(error, kind).into()
}

/// What dnf says of its failure, in the locale that steps run in: it ends with 1 whatever it is.
fn kind_by_words(error: &ToolError) -> Option<FailureKind> {
    // One that has no index is another matter than one that does not have what its index says.
    let is_other = ["Status code: 404", "checksum doesn't match"];
    if is_other.iter().any(|words| error.says(words)) && !error.says("Cannot download repomd.xml") {
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
    fn what_to_do_about_a_failure_is_told() {
        use std::os::unix::process::ExitStatusExt as _;
        use std::process::ExitStatus;
        let not_found = [
            "No match for argument: nothing-1.0",
            "Error: Unable to find a match: nothing-1.0",
        ];
        let no_metadata = [
            "Error: Failed to download metadata for repo 'a': Cannot download repomd.xml: Cannot download repodata/repomd.xml: All mirrors were tried",
        ];
        let not_there = [
            "[MIRROR] a-1.rpm: Status code: 404 for http://feed/a-1.rpm (IP: ::1)",
            "Error: Error downloading packages:",
        ];
        let busy = [
            "[MIRROR] a-1.rpm: Status code: 503 for http://feed/a-1.rpm (IP: ::1)",
            "Error: Error downloading packages:",
        ];
        let damaged = [
            "  - Downloading successful, but checksum doesn't match. Calculated: 1",
            "Error: Failed to download metadata for repo 'a'",
        ];
        let full = [
            "  - Curl error (23): Failed writing received data to disk/application",
            "Error: Failed to download metadata for repo 'a'",
        ];
        let full_too = ["OSError: [Errno 28] No space left on device"];
        let other = ["Error: nothing provides x needed by y"];
        for (lines, feed, kind) in [
            (
                &not_found[..],
                FeedState::Same,
                Some(FailureKind::PackageNotFound),
            ),
            (
                &not_found,
                FeedState::NotAsked,
                Some(FailureKind::PackageNotFound),
            ),
            (&not_there, FeedState::Same, Some(FailureKind::FeedChanged)),
            (&busy, FeedState::Same, None),
            (&other, FeedState::Same, None),
            (&[], FeedState::Same, None),
            // Whatever it says.
            (&other, FeedState::Moved, Some(FailureKind::FeedChanged)),
            (&[], FeedState::Moved, Some(FailureKind::FeedChanged)),
            (&full_too, FeedState::Moved, Some(FailureKind::StorageFull)),
            (
                &[],
                FeedState::Unreachable,
                Some(FailureKind::FeedUnreachable),
            ),
            (
                &no_metadata,
                FeedState::Unreachable,
                Some(FailureKind::FeedUnreachable),
            ),
            // It is there, and what it gives is of no use.
            (
                &damaged,
                FeedState::Unreachable,
                Some(FailureKind::FeedChanged),
            ),
            (
                &full,
                FeedState::Unreachable,
                Some(FailureKind::StorageFull),
            ),
        ] {
            let error = ToolError::Failed {
                tool: "dnf".into(),
                status: ExitStatus::from_raw(256),
                output: lines.iter().map(|l| (*l).to_owned()).collect(),
            };
            let error = failure(error, feed);
            assert_eq!(error.kind(), kind, "{lines:?} {feed:?}");
        }
    }
}
