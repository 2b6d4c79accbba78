use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rpm_version::rpm_evr_compare;
use serde::{Deserialize, Serialize};

/// Which kernels something is for, as in `kernel-<spec>:`. One of
///
/// - a version: `6.6.52`;
/// - the beginning of versions: `6.6.*`;
/// - conditions that all hold, in rpm's order of versions: `>=6.6, <6.12`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelSpec {
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

/// A text is no [`KernelSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not say for which kernels it is")]
pub struct KernelSpecError {
    text: String,
}

impl KernelSpec {
    /// Whether it is for a kernel of this version.
    pub fn matches(&self, version: &str) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::StartsWith(beginning) => version.starts_with(beginning),
            Condition::Compares(orders, other) => orders.contains(&rpm_evr_compare(version, other)),
        })
    }
}

impl FromStr for KernelSpec {
    type Err = KernelSpecError;

    fn from_str(text: &str) -> Result<Self, KernelSpecError> {
        let conditions: Option<Vec<Condition>> = text.split(',').map(condition).collect();
        // Without an operator there is one condition.
        let lone = |c: &Condition| matches!(c, Condition::StartsWith(_));
        match conditions {
            Some(conditions) if conditions.len() == 1 || !conditions.iter().any(lone) => {
                Ok(KernelSpec {
                    text: text.to_owned(),
                    conditions,
                })
            }
            _ => Err(KernelSpecError {
                text: text.to_owned(),
            }),
        }
    }
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

impl TryFrom<String> for KernelSpec {
    type Error = KernelSpecError;

    fn try_from(text: String) -> Result<Self, KernelSpecError> {
        text.parse()
    }
}

impl From<KernelSpec> for String {
    fn from(spec: KernelSpec) -> Self {
        spec.text
    }
}

impl fmt::Display for KernelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_kernels_are_meant() {
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
            let parsed: KernelSpec = spec.parse().unwrap();
            assert_eq!(parsed.matches(version), meant, "{spec} {version}");
            let json = serde_json::to_string(&parsed).unwrap();
            assert_eq!(serde_json::from_str::<KernelSpec>(&json).unwrap(), parsed);
        }
        for wrong in ["", "*", ">=", "6.6 6.7", "6.*, 6.6", ">=6.6,", "a b"] {
            assert!(wrong.parse::<KernelSpec>().is_err(), "{wrong}");
        }
    }
}
