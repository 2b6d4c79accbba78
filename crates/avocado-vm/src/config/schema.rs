//! The keys that mean something here, and what they take.

use std::net::IpAddr;

use serde_json::Value;

use super::problem::ConfigProblem;
use crate::launch::{DEFAULT_CPUS, DEFAULT_MEMORY_MIB, IdleSettings};

/// What the VM takes from its configuration file. What is not set there is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmConfig {
    /// `runtime.cpus`
    pub cpus: Option<u32>,
    /// `runtime.memory_mib`
    pub memory_mib: Option<u32>,
    /// `network.dns`
    pub dns: Vec<IpAddr>,
    /// `network.dns_search`
    pub dns_search: Vec<String>,
    /// `idle.hibernate_after_secs`
    pub hibernate_after_secs: Option<u64>,
    /// `idle.release_memory_after_secs`
    pub release_memory_after_secs: Option<u64>,
    /// `idle.silent_connection_secs`
    pub silent_connection_secs: Option<u64>,
    /// `idle.containers_keep_awake`
    pub containers_keep_awake: Option<bool>,
}

/// The dotted keys that are known here.
pub const KEYS: [&str; 8] = [
    "runtime.cpus",
    "runtime.memory_mib",
    "network.dns",
    "network.dns_search",
    "idle.hibernate_after_secs",
    "idle.release_memory_after_secs",
    "idle.silent_connection_secs",
    "idle.containers_keep_awake",
];

/// What counts where a key of [`KEYS`] is not set. None: what the guest has from its network.
pub fn default_of(key: &str) -> Option<Value> {
    let idle = IdleSettings::default();
    Some(match key {
        "runtime.cpus" => DEFAULT_CPUS.into(),
        "runtime.memory_mib" => DEFAULT_MEMORY_MIB.into(),
        "idle.hibernate_after_secs" => idle.hibernate_after_secs.into(),
        "idle.release_memory_after_secs" => idle.release_memory_after_secs.into(),
        "idle.silent_connection_secs" => idle.silent_connection_secs.into(),
        "idle.containers_keep_awake" => idle.containers_keep_awake.into(),
        _ => return None,
    })
}

/// A year: a longer time is a mistake, or means never.
const LONGEST: u64 = 366 * 24 * 3600;

pub(super) fn decode(tree: &Value) -> Result<VmConfig, ConfigProblem> {
    let tree = ConfigTree(tree);
    tree.check_sections()?;
    let number = |key, least, most| tree.number(key, least, most);
    let narrow = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok());
    let seconds = |key| number(key, 0, LONGEST);
    Ok(VmConfig {
        cpus: narrow(number("runtime.cpus", 1, 1024)?),
        memory_mib: narrow(number("runtime.memory_mib", 128, 16 << 20)?),
        dns: tree.list("network.dns", "a list of IP addresses", |text| {
            text.parse().ok()
        })?,
        dns_search: tree.list("network.dns_search", "a list of domains", domain)?,
        hibernate_after_secs: seconds("idle.hibernate_after_secs")?,
        release_memory_after_secs: seconds("idle.release_memory_after_secs")?,
        silent_connection_secs: seconds("idle.silent_connection_secs")?,
        containers_keep_awake: tree.flag("idle.containers_keep_awake")?,
    })
}

/// A domain as a resolver takes it; `~` before it makes it a routing domain, `~.` is everything.
fn domain(text: &str) -> Option<String> {
    let name = text.strip_prefix('~').unwrap_or(text);
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        label.len() <= 63 && label.chars().all(plain) && !label.starts_with('-')
    };
    let labels = name.strip_suffix('.').unwrap_or(name);
    let good = match labels {
        "" => text == "~.",
        _ => name.len() <= 253 && labels.split('.').all(|l| !l.is_empty() && label(l)),
    };
    good.then(|| text.to_owned())
}

struct ConfigTree<'v>(&'v Value);

impl<'v> ConfigTree<'v> {
    fn get(&self, key: &str) -> Option<&'v Value> {
        let mut value = self.0;
        for segment in key.split('.') {
            value = value.get(segment)?;
        }
        (!value.is_null()).then_some(value)
    }

    /// What holds known keys must be a map (or nothing).
    fn check_sections(&self) -> Result<(), ConfigProblem> {
        if !self.0.is_object() && !self.0.is_null() {
            return Err(ConfigProblem::Syntax(
                "the whole file has to be a map".into(),
            ));
        }
        for key in KEYS {
            let Some((section, _)) = key.split_once('.') else {
                continue;
            };
            if let Some(value) = self.get(section).filter(|value| !value.is_object()) {
                return Err(wrong(section, value, "a map".into()));
            }
        }
        Ok(())
    }

    fn number(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>, ConfigProblem> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(
                key,
                value,
                format!("a whole number from {least} to {most}"),
            )),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ConfigProblem> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => Err(wrong(key, value, "true or false".into())),
        }
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigProblem> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let items = value.as_array();
        let parsed = items.and_then(|items| {
            let parsed = items.iter().map(|item| parse(item.as_str()?));
            parsed.collect()
        });
        parsed.ok_or_else(|| wrong(key, value, expected.to_owned()))
    }
}

fn wrong(key: &str, value: &Value, expected: String) -> ConfigProblem {
    let found = match value {
        Value::Object(_) => "a map".to_owned(),
        Value::String(text) => format!("`{}`", short(text)),
        other => format!("`{}`", short(&other.to_string())),
    };
    ConfigProblem::Value {
        key: key.to_owned(),
        found,
        expected,
    }
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.escape_debug().to_string()
}
