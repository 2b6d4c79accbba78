use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rpm_version::rpm_evr_compare;
use serde::{Deserialize, Serialize};

/// Which versions are meant, of a kernel (`kernel-<spec>:`) or of an extension (`depends_on`). One of
///
/// - a version: `6.6.52`;
/// - the beginning of versions: `6.6.*`;
/// - conditions that all hold, in rpm's order of versions: `>=6.6, <6.12`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionSpec {
    text: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    StartsWith(String),
    Compares(&'static [Ordering], String),
}

/// The operators; one that begins with another comes before it.
const OPERATORS: [(&str, &[Ordering]); 6] = [
    ("!=", &[Ordering::Less, Ordering::Greater]),
    ("<=", &[Ordering::Less, Ordering::Equal]),
    (">=", &[Ordering::Greater, Ordering::Equal]),
    ("=", &[Ordering::Equal]),
    ("<", &[Ordering::Less]),
    (">", &[Ordering::Greater]),
];

/// A text is no [`VersionSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not say which versions are meant")]
pub struct VersionSpecError {
    text: String,
}

impl VersionSpec {
    /// Whether it means this version of a package: the order is rpm's.
    pub fn matches(&self, version: &str) -> bool {
        self.matches_as(version, str::to_owned)
    }

    /// Whether it means this version of an extension, of which `1.0.0-rc.1` comes before `1.0.0`.
    pub fn matches_extension(&self, version: &str) -> bool {
        self.matches_as(version, spelled_for_rpm)
    }

    fn matches_as(&self, version: &str, spelled: impl Fn(&str) -> String) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::StartsWith(beginning) => version.starts_with(beginning),
            Condition::Compares(orders, other) => {
                orders.contains(&rpm_evr_compare(&spelled(version), &spelled(other)))
            }
        })
    }
}

impl FromStr for VersionSpec {
    type Err = VersionSpecError;

    fn from_str(text: &str) -> Result<Self, VersionSpecError> {
        let conditions: Option<Vec<Condition>> = text.split(',').map(condition).collect();
        // Without an operator there is one condition.
        let lone = |c: &Condition| matches!(c, Condition::StartsWith(_));
        match conditions {
            Some(conditions) if conditions.len() == 1 || !conditions.iter().any(lone) => {
                Ok(VersionSpec {
                    text: text.to_owned(),
                    conditions,
                })
            }
            _ => Err(VersionSpecError {
                text: text.to_owned(),
            }),
        }
    }
}

/// A version of an extension as rpm spells it, which writes otherwise what comes before a release
/// and after it. `2` is `2.0.0` here: what comes before that comes before `2`.
fn spelled_for_rpm(text: &str) -> String {
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let missing = 3_usize.saturating_sub(numbers.split('.').count());
    let rest = rest.replace('-', "~").replace('+', "^");
    format!("{numbers}{}{rest}", ".0".repeat(missing))
}

fn condition(text: &str) -> Option<Condition> {
    let text = text.trim();
    let operator = OPERATORS
        .iter()
        .find_map(|(name, orders)| Some((text.strip_prefix(name)?.trim(), *orders)));
    let is_version = |text: &str| {
        let usable = |c: char| c.is_ascii_alphanumeric() || "._+~^:-".contains(c);
        !text.is_empty() && text.chars().all(usable)
    };
    if let Some((version, orders)) = operator {
        return is_version(version).then(|| Condition::Compares(orders, version.to_owned()));
    }
    match text.strip_suffix('*') {
        Some(beginning) => {
            is_version(beginning).then(|| Condition::StartsWith(beginning.to_owned()))
        }
        None => is_version(text).then(|| Condition::Compares(&[Ordering::Equal], text.to_owned())),
    }
}

impl TryFrom<String> for VersionSpec {
    type Error = VersionSpecError;

    fn try_from(text: String) -> Result<Self, VersionSpecError> {
        text.parse()
    }
}

impl From<VersionSpec> for String {
    fn from(spec: VersionSpec) -> Self {
        spec.text
    }
}

impl fmt::Display for VersionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_versions_are_meant() {
        for (spec, version, meant) in [
            ("6.6.52", "6.6.52", true),
            ("6.6.52", "6.6.5", false),
            ("6.6.*", "6.6.52-yocto", true),
            ("6.6.*", "6.12.1", false),
            (">=6.6, <6.12", "6.6.0", true),
            (">=6.6, <6.12", "6.11.9", true),
            (">=6.6, <6.12", "6.12", false),
            ("!=6.6.52", "6.6.52", false),
            ("> 6.9", "6.10", true),
            ("=6.10", "6.10", true),
        ] {
            let parsed: VersionSpec = spec.parse().unwrap();
            assert_eq!(parsed.matches(version), meant, "{spec} {version}");
            let json = serde_json::to_string(&parsed).unwrap();
            assert_eq!(serde_json::from_str::<VersionSpec>(&json).unwrap(), parsed);
        }
        for (spec, version, meant) in [
            (">=1.0.0", "1.0.0-rc.1", false),
            (">=1.0.0-rc.1, <1.0.0", "1.0.0-rc.2", true),
            (">1.0.0", "1.0.0+7", true),
            ("1.0.0-rc.1", "1.0.0-rc.1", true),
            ("1.0.*", "1.0.10", true),
            (">=2", "2.0.0-rc.1", false),
            ("1.2", "1.2.0", true),
            ("<=1.2", "1.2.0-rc.1", true),
            ("<=1.2", "1.2.1", false),
        ] {
            let parsed: VersionSpec = spec.parse().unwrap();
            assert_eq!(parsed.matches_extension(version), meant, "{spec} {version}");
        }
        for wrong in ["", "*", ">=", "6.6 6.7", "6.*, 6.6", ">=6.6,", "a b"] {
            assert!(wrong.parse::<VersionSpec>().is_err(), "{wrong}");
        }
    }
}
