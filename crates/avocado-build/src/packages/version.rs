//! The order of versions, which is rpm's, and how rpm writes those of others.

use std::cmp::Ordering;
use std::path::Path;

use avocado_project::{HiddenNames, PathPattern};
use rpm_version::rpm_evr_compare;

/// Which of two versions is older, as rpm sees it: `~` comes before the end of a version, `^`
/// after it and before everything else.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    rpm_evr_compare(a, b)
}

/// A version as rpm can carry it: `-` would begin the release, and a pre-release comes before what
/// it leads to. `1.0.0-rc.1+7` is `1.0.0~rc.1^7`.
pub(crate) fn to_rpm(version: &str) -> String {
    version.replace('-', "~").replace('+', "^")
}

/// The version that became this one of rpm.
pub(crate) fn from_rpm(version: &str) -> String {
    version.replace('~', "-").replace('^', "+")
}

/// Whether a locked version, `version-release.arch`, is one that a project states for a package: the
/// version alone, with its release, or with both, an epoch before it or not, and `*` for anything.
/// `epoch` is that of the locked one, where it is known.
pub(crate) fn is_stated(locked: &str, epoch: Option<u32>, stated: &str) -> bool {
    let (stated_epoch, stated) = match stated.split_once(':') {
        Some((stated_epoch, version)) => (Some(stated_epoch), version),
        None => (None, stated),
    };
    if let (Some(stated), Some(locked)) = (stated_epoch, epoch)
        && !stated.contains('*')
        && stated.parse() != Ok(locked)
    {
        return false;
    }
    // What dnf may understand in another way, it is left to tell.
    let Ok(pattern) = PathPattern::new(stated) else {
        return true;
    };
    let mut forms = forms(locked).into_iter();
    forms.any(|form| pattern.matches(Path::new(form), HiddenNames::Match))
}

/// The same of the package of an extension, whose version may be stated as the extension has it.
pub(crate) fn is_stated_of_extension(locked: &str, epoch: Option<u32>, stated: &str) -> bool {
    let [version, ..] = forms(locked);
    is_stated(locked, epoch, stated) || from_rpm(version) == stated
}

/// `version`, `version-release` and `version-release.arch`.
fn forms(locked: &str) -> [&str; 3] {
    let (with_release, _arch) = locked.rsplit_once('.').unwrap_or((locked, ""));
    let (version, _release) = with_release.rsplit_once('-').unwrap_or((with_release, ""));
    [version, with_release, locked]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_locked_version_is_one_that_is_stated() {
        for (locked, stated, expected) in [
            ("1.0-r0.x86_64", "*", true),
            ("1.0-r0.x86_64", "1.0", true),
            ("1.0-r0.x86_64", "1.0-r0", true),
            ("1.0-r0.x86_64", "1.0-r0.x86_64", true),
            ("1.0-r0.x86_64", "1.*", true),
            ("1.0-r0.x86_64", "2:1.0", true),
            ("1.0-r0.x86_64", "*:1.0", true),
            ("1.0-r0.x86_64", "1:1.0", false),
            ("1.0-r0.x86_64", "1.0.1", false),
            ("1.0-r0.x86_64", "1", false),
            ("1.0-r0.x86_64", "1.0-r1", false),
            ("1.0-r0.x86_64", "2.*", false),
            ("1.0.0~rc.1^7-r0.noarch", "1.0.0-rc.1+7", false),
        ] {
            assert_eq!(
                is_stated(locked, Some(2), stated),
                expected,
                "{locked} {stated}"
            );
        }
        assert!(is_stated("1.0-r0.x", None, "1:1.0"));
        for (stated, expected) in [
            ("1.0.0-rc.1+7", true),
            ("1.0.0~rc.1^7-r0", true),
            ("1.0.0-rc.2", false),
            ("1.0.0", false),
        ] {
            let found = is_stated_of_extension("1.0.0~rc.1^7-r0.noarch", None, stated);
            assert_eq!(found, expected, "{stated}");
        }
    }

    /// What rpm's own order says of each pair: the first is older.
    const ORDERED: &[(&str, &str)] = &[
        ("6.1.0", "6.12.0"),
        ("6.12.0-rc1", "6.12.1"),
        ("6.12.9", "6.12.10+deb13"),
        ("1.0", "1.0.1"),
        ("1.0a", "1.0.1"),
        ("1.0", "1.0a"),
        ("a", "1"),
        ("Z", "a"),
        ("1.9", "1.10"),
        // Before the release that it leads to.
        ("1.0~rc1", "1.0"),
        ("1.0~rc1", "1.0~rc2"),
        ("1.0~~", "1.0~"),
        ("1.0~rc1^git1", "1.0~rc1^git2"),
        ("1.0~rc1", "1.0~rc1^git1"),
        // After the release that it follows, before the next one.
        ("1.0", "1.0^20240101"),
        ("1.0^20240101", "1.0.1"),
        ("1.0^20240101", "1.0a"),
        ("1.0^20240101", "1.0^20240102"),
        ("1.0^git1~pre", "1.0^git1"),
        ("1.0~rc1^git1", "1.0"),
        // A difference in the release counts only between equal versions.
        ("1.0-2", "1.0-10"),
        ("1.0^1-9", "1.0.1-1"),
    ];

    const EQUAL: &[(&str, &str)] = &[("1.0", "1_0"), ("1.05", "1.5"), ("1.0", "1..0")];

    #[test]
    fn versions_are_ordered_as_rpm_does() {
        for (a, b) in ORDERED {
            assert_eq!(compare(a, b), Ordering::Less, "{a} < {b}");
            assert_eq!(compare(b, a), Ordering::Greater, "{b} > {a}");
        }
        for (a, b) in EQUAL {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} = {b}");
        }
    }

    #[test]
    fn a_pre_release_comes_before_its_release_in_rpm_and_back() {
        let versions = [
            "1.0.0-alpha",
            "1.0.0-rc.1",
            "1.0.0-rc.1+7",
            "1.0.0",
            "1.0.0+7",
        ];
        for pair in versions.windows(2) {
            let (a, b) = (to_rpm(pair[0]), to_rpm(pair[1]));
            assert_eq!(compare(&a, &b), Ordering::Less, "{a} < {b}");
        }
        for version in versions {
            let carried = to_rpm(version);
            assert!(!carried.contains(['-', '+']), "{carried}");
            assert_eq!(from_rpm(&carried), version);
        }
    }

    #[test]
    fn rpm_says_the_same() {
        let cases = ORDERED
            .iter()
            .map(|(a, b)| (*a, *b, "-1"))
            .chain(EQUAL.iter().map(|(a, b)| (*a, *b, "0")));
        for (a, b, expected) in cases {
            // Of rpm's builtins this one compares as its transactions do.
            let expression = format!("%{{lua:print(rpm.vercmp('{a}', '{b}'))}}");
            let output = Command::new("rpm").arg("--eval").arg(expression).output();
            let Ok(output) = output else {
                return avocado_test_support::skip("rpm_says_the_same", "rpm is not installed");
            };
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said.trim(), expected, "{a} {b}");
        }
    }
}
