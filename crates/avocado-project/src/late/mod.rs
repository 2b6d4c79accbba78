//! Values that are known only while a build runs.
//!
//! avocado.yaml may refer to them, or say what holds for some of them only. What does so stays a
//! template until a task that knows them binds it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::place::SourcePlace;
use crate::version_spec::VersionSpec;

/// A value that a task of the build finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LateValue {
    /// `avocado.kernel.version`: known once the packages of the root file system, and with them
    /// the kernel, are chosen.
    KernelVersion,
}

impl LateValue {
    /// Its expression in avocado.yaml, without the braces.
    pub fn expression(self) -> &'static str {
        match self {
            LateValue::KernelVersion => "avocado.kernel.version",
        }
    }
}

/// Whether an expression, without its braces, is that of a late value.
pub(crate) fn late_value(expr: &str) -> Option<LateValue> {
    let known = LateValue::KernelVersion;
    (expr.trim() == known.expression()).then_some(known)
}

impl fmt::Display for LateValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expression())
    }
}

/// The late values that a task knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct LateValues<'a> {
    /// The version of the kernel, for example `6.6.52`.
    pub kernel_version: Option<&'a str>,
}

impl<'a> LateValues<'a> {
    fn get(&self, value: LateValue) -> Result<&'a str, UnboundLateValue> {
        match value {
            LateValue::KernelVersion => self.kernel_version,
        }
        .ok_or(UnboundLateValue { value })
    }
}

/// A late value is needed by a task that does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not known here: no root file system that this is made for brings a kernel")]
pub struct UnboundLateValue {
    /// The value.
    pub value: LateValue,
}

/// A part of the project that may hang on late values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Late<T> {
    /// Its texts may hold the expressions of late values.
    template: T,
    /// `kernel-<spec>:`, what differs for some kernels; of those that match, the last wins.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<(VersionSpec, T)>,
    /// Where the entries of the template are written. What is consumed does not hang on it.
    #[serde(skip)]
    places: BTreeMap<String, SourcePlace>,
}

impl<T: Bind> Late<T> {
    /// A part as it was written.
    pub(crate) fn new(template: T) -> Self {
        Late {
            template,
            kernels: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    /// The same, with where its entries are written.
    pub(crate) fn written_at(mut self, places: BTreeMap<String, SourcePlace>) -> Self {
        self.places = places;
        self
    }

    /// Where the template has the value of an entry.
    pub fn place(&self, entry: &str) -> Option<&SourcePlace> {
        self.places.get(entry)
    }

    /// Adds what differs for some kernels.
    pub(crate) fn for_kernels(&mut self, kernels: VersionSpec, template: T) {
        self.kernels.push((kernels, template));
    }

    /// The part as it was written, without what differs for some kernels.
    pub fn template(&self) -> &T {
        &self.template
    }

    /// Whether it hangs on a late value at all.
    pub fn is_late(&self) -> bool {
        self.bind(&LateValues::default()).is_err()
    }

    /// The part with the values filled in.
    ///
    /// # Errors
    /// Where it hangs on a value that `values` does not have.
    pub fn bind(&self, values: &LateValues<'_>) -> Result<T, UnboundLateValue> {
        let mut bound = self.template.bind(values)?;
        for (kernels, template) in &self.kernels {
            if kernels.matches(values.get(LateValue::KernelVersion)?) {
                bound.override_with(template.bind(values)?);
            }
        }
        Ok(bound)
    }
}

/// What hangs on nothing.
impl<T: Bind> From<T> for Late<T> {
    fn from(part: T) -> Self {
        Late::new(part)
    }
}

impl Late<BTreeMap<String, String>> {
    /// Adds what it does not have yet.
    pub fn fill(&mut self, other: &Self) {
        for (name, value) in &other.template {
            // Which one of all is as good as the one that another asks for.
            if self.template.get(name).is_none_or(|own| own == "*") {
                self.template.insert(name.clone(), value.clone());
                let place = other.places.get(name).cloned();
                self.places.extend(place.map(|place| (name.clone(), place)));
            }
        }
        self.kernels.extend(other.kernels.iter().cloned());
    }

    /// Adds a package, unless it is there.
    pub fn add(&mut self, name: &str, version: &str) {
        let entry = self.template.entry(name.to_owned());
        entry.or_insert_with(|| version.to_owned());
    }

    /// Whether there is nothing in it, whatever the late values are.
    pub fn is_empty(&self) -> bool {
        self.template.is_empty() && self.kernels.iter().all(|(_, own)| own.is_empty())
    }
}

/// What a [`Late`] can hold.
pub trait Bind: Sized {
    /// A copy with the expressions of late values replaced.
    ///
    /// # Errors
    /// Where it refers to a value that `values` does not have.
    fn bind(&self, values: &LateValues<'_>) -> Result<Self, UnboundLateValue>;

    /// Merges what comes before it: maps key by key, everything else is replaced.
    fn override_with(&mut self, other: Self);
}

impl Bind for String {
    fn bind(&self, values: &LateValues<'_>) -> Result<Self, UnboundLateValue> {
        let mut bound = String::new();
        let mut rest = self.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            bound.push_str(before);
            let late = after.split_once("}}");
            let late = late.and_then(|(expr, tail)| Some((late_value(expr)?, tail)));
            rest = match late {
                Some((value, tail)) => {
                    bound.push_str(values.get(value)?);
                    tail
                }
                // Braces of another meaning stay.
                None => {
                    bound.push_str("{{");
                    after
                }
            };
        }
        bound.push_str(rest);
        Ok(bound)
    }

    fn override_with(&mut self, other: Self) {
        *self = other;
    }
}

impl Bind for BTreeMap<String, String> {
    fn bind(&self, values: &LateValues<'_>) -> Result<Self, UnboundLateValue> {
        self.iter()
            .map(|(key, value)| Ok((key.bind(values)?, value.bind(values)?)))
            .collect()
    }

    fn override_with(&mut self, other: Self) {
        self.extend(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_value_is_filled_in_where_it_is_known() {
        let kernel = LateValues {
            kernel_version: Some("6.6.52"),
        };
        for (template, bound) in [
            ("plain", Some("plain")),
            ("k-{{avocado.kernel.version }}-k", Some("k-6.6.52-k")),
            (
                "{{ x }}{{{ avocado.kernel.version }}}",
                Some("{{ x }}{{{ avocado.kernel.version }}}"),
            ),
            ("{{ open", Some("{{ open")),
        ] {
            let late = Late::new(template.to_owned());
            assert_eq!(late.bind(&kernel).ok().as_deref(), bound, "{template}");
        }
        let late = Late::new("{{ avocado.kernel.version }}".to_owned());
        let error = late.bind(&LateValues::default()).unwrap_err();
        assert_eq!(error.value, LateValue::KernelVersion);
    }
}
