//! Patterns of paths, as a shell has them.

use std::fmt;
use std::path::Path;

use glob::{MatchOptions, Pattern};
use serde::{Serialize, Serializer};

/// A pattern of paths below a directory. `*` and `?` stand for characters of a name, `[…]` for one of
/// several, and `**` for any number of directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathPattern(Pattern);

/// Whether wildcards stand for the dot at the beginning of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenNames {
    /// Those with a dot are meant like any other.
    Match,
    /// The dot has to be written, as in a shell: not each `.env` is meant for the world.
    NoMatch,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathPatternError(&'static str);

impl PathPattern {
    /// The pattern that a text is.
    ///
    /// # Errors
    /// Where a bracket is not closed, or `**` is a part of a name.
    pub fn new(text: &str) -> Result<Self, PathPatternError> {
        let pattern = Pattern::new(text);
        pattern
            .map(PathPattern)
            .map_err(|error| PathPatternError(error.msg))
    }

    /// Whether a path is of it; one that is not UTF-8 is of none.
    pub fn matches(&self, path: &Path, hidden: HiddenNames) -> bool {
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: hidden == HiddenNames::NoMatch,
        };
        self.0.matches_path_with(path, options)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for PathPattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stay_within_names() {
        for (pattern, path, expected) in [
            ("etc/*.conf", "etc/a.conf", true),
            ("etc/*.conf", "etc/app/a.conf", false),
            ("etc/**", "etc/app/a.conf", true),
            ("etc/**", "etc", false),
            ("etc/**/a.conf", "etc/a.conf", true),
            ("**/a.conf", "etc/app/a.conf", true),
            ("**/a.conf", "a.conf", true),
            ("etc/?.conf", "etc/ä.conf", true),
            ("etc/?.conf", "etc/ab.conf", false),
            ("etc/[ab].conf", "etc/b.conf", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
        ] {
            let pattern = PathPattern::new(pattern).unwrap();
            for hidden in [HiddenNames::Match, HiddenNames::NoMatch] {
                let found = pattern.matches(Path::new(path), hidden);
                assert_eq!(found, expected, "{pattern} {path}");
            }
        }
    }

    #[test]
    fn a_dot_is_meant_where_it_is_asked_for() {
        for (pattern, path) in [("home/**", "home/.profile"), ("*", ".env")] {
            let pattern = PathPattern::new(pattern).unwrap();
            let matches = |hidden| pattern.matches(Path::new(path), hidden);
            assert!(matches(HiddenNames::Match), "{pattern}");
            assert!(!matches(HiddenNames::NoMatch), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for text in ["[a", "a**", "etc/**.conf"] {
            assert!(PathPattern::new(text).is_err(), "{text}");
        }
    }
}
