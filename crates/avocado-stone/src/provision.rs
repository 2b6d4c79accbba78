//! How a device is provisioned.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::StoneError;
use crate::manifest::{StoneManifest, StoneRuntime};

/// How a device comes to have what the manifest describes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(expecting = "a map")]
pub struct ProvisionSection {
    /// Variables of every profile's script.
    #[serde(default)]
    pub envs: BTreeMap<String, String>,
    /// The ways to provision, by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, ProvisionProfile>,
    /// What is asked for when a device is provisioned; not read any further.
    #[serde(default)]
    fields: Option<IgnoredAny>,
    /// Files for the scripts; not read any further.
    #[serde(default)]
    files: Option<IgnoredAny>,
}

/// A way to provision.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(expecting = "a map")]
pub struct ProvisionProfile {
    /// The script that does it.
    #[serde(default)]
    pub script: Option<String>,
    /// More variables of it.
    #[serde(default)]
    pub envs: BTreeMap<String, String>,
    /// Programs that it needs.
    #[serde(default)]
    pub requires: Vec<String>,
}

/// How a device is provisioned, where it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayToProvision {
    /// The profile. None: the manifest has none.
    pub profile: Option<String>,
    /// The script that does it, as files of the board are looked for.
    pub script: Option<String>,
    /// Variables of it: those of every profile, and those of this one before them.
    pub envs: BTreeMap<String, String>,
    /// Programs that it needs.
    pub requires: Vec<String>,
}

impl StoneManifest {
    /// The way that the profile of this name is, or the one that is meant where none is asked for:
    /// `provision_default`, or the only one.
    ///
    /// # Errors
    /// Where there is no such profile, or more than one could be meant.
    pub fn way_to_provision(&self, wanted: Option<&str>) -> Result<WayToProvision, StoneError> {
        let profiles = &self.provision.profiles;
        let known = || {
            profiles
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let only = || match profiles.len() {
            1 => profiles.keys().next().map(String::as_str),
            _ => None,
        };
        let chosen = wanted
            .or(self.runtime.provision_default.as_deref())
            .or_else(only);
        let found = match chosen {
            Some(name) if wanted.is_none() && profiles.is_empty() => Some(name),
            Some(name) => match profiles.get_key_value(name) {
                Some((name, _)) => Some(name.as_str()),
                None if profiles.is_empty() => {
                    let why = format!(
                        "there is no profile `{}`, and no other",
                        name.escape_debug()
                    );
                    return Err(StoneError::invalid("provision.profiles", why));
                }
                None => {
                    let why = format!(
                        "there is no profile `{}`; there are {}",
                        name.escape_debug(),
                        known()
                    );
                    return Err(StoneError::invalid("provision.profiles", why));
                }
            },
            None if profiles.is_empty() => None,
            None => {
                let why = format!(
                    "none is the default: choose one of {} with --profile",
                    known()
                );
                return Err(StoneError::invalid("runtime.provision_default", why));
            }
        };
        Ok(self.way(found))
    }

    /// The same for a program of the target, which may know profiles of its own, and what it does where
    /// none is named.
    pub fn way_of_program(&self, wanted: Option<&str>) -> WayToProvision {
        let default = || self.way_to_provision(None).ok()?.profile;
        let chosen = wanted.map(str::to_owned).or_else(default);
        self.way(chosen.as_deref())
    }

    fn way(&self, name: Option<&str>) -> WayToProvision {
        let profile = name.and_then(|name| self.provision.profiles.get(name));
        let mut envs = self.provision.envs.clone();
        envs.extend(profile.into_iter().flat_map(|profile| profile.envs.clone()));
        let script = profile.and_then(|profile| profile.script.clone());
        WayToProvision {
            profile: name.map(str::to_owned),
            script: script.or_else(|| self.runtime.provision.clone()),
            envs,
            requires: profile.map_or_else(Vec::new, |profile| profile.requires.clone()),
        }
    }
}

impl WayToProvision {
    /// That of a program where there is no manifest.
    pub fn without_manifest(wanted: Option<&str>) -> Self {
        WayToProvision {
            profile: wanted.map(str::to_owned),
            script: None,
            envs: BTreeMap::new(),
            requires: Vec::new(),
        }
    }
}

impl ProvisionSection {
    /// The keys that are stated and have no effect, as the manifest has them.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let fields = self.fields.map(|_| "provision.fields");
        let files = self.files.map(|_| "provision.files");
        let requires = self.profiles.values().any(|p| !p.requires.is_empty());
        let requires = requires.then_some("requires of a profile");
        [fields, files, requires].into_iter().flatten().collect()
    }

    pub(crate) fn check(&self, runtime: &StoneRuntime) -> Result<(), StoneError> {
        match &runtime.provision_default {
            Some(name) if !self.profiles.is_empty() && !self.profiles.contains_key(name) => {
                let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
                Err(StoneError::invalid(
                    "runtime.provision_default",
                    format!(
                        "there is no profile `{}`; there are {}",
                        name.escape_debug(),
                        known.join(", ")
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest(default: Value, provision: Value) -> StoneManifest {
        let text = json!({
            "runtime": {"platform": "p", "architecture": "x86_64", "provision_default": default},
            "provision": provision,
        });
        StoneManifest::parse(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_way_is_the_one_that_is_asked_for_or_the_default_or_the_only_one() {
        let profiles = json!({"envs": {"A": "1", "B": "1"}, "profiles": {
            "sd": {"script": "sd.sh", "envs": {"B": "2"}}, "usb": {"requires": ["dd"]},
        }});
        let way = manifest(json!("sd"), profiles.clone())
            .way_to_provision(None)
            .unwrap();
        assert_eq!(
            (way.profile.as_deref(), way.script.as_deref()),
            (Some("sd"), Some("sd.sh"))
        );
        assert_eq!(
            way.envs,
            BTreeMap::from([("A", "1"), ("B", "2")].map(|(n, v)| (n.into(), v.into())))
        );
        let way = manifest(json!("sd"), profiles.clone())
            .way_to_provision(Some("usb"))
            .unwrap();
        assert_eq!((way.profile.as_deref(), way.script), (Some("usb"), None));
        assert_eq!(way.requires, ["dd"]);
        let none = manifest(Value::Null, json!({}))
            .way_to_provision(None)
            .unwrap();
        assert_eq!((none.profile, none.script), (None, None));
        let only = manifest(Value::Null, json!({"profiles": {"sd": {}}})).way_to_provision(None);
        assert_eq!(only.unwrap().profile.as_deref(), Some("sd"));
        for (default, provision, wanted, word) in [
            (Value::Null, profiles.clone(), None, "sd, usb"),
            (json!("sd"), profiles, Some("net"), "sd, usb"),
            (Value::Null, json!({}), Some("net"), "no other"),
        ] {
            let error = manifest(default, provision)
                .way_to_provision(wanted)
                .unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn what_has_no_effect_is_known() {
        for (provision, expected) in [
            (json!({}), &[][..]),
            (json!({"fields": null, "profiles": {"sd": {}}}), &[]),
            (
                json!({"fields": {"serial": {"required": true}}, "files": ["a"]}),
                &["provision.fields", "provision.files"],
            ),
            (
                json!({"profiles": {"sd": {"requires": ["dd"]}}}),
                &["requires of a profile"],
            ),
        ] {
            let found = manifest(Value::Null, provision).provision.without_effect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_program_is_told_profiles_that_the_manifest_does_not_know() {
        let two = json!({"envs": {"A": "1"}, "profiles": {"sd": {"envs": {"B": "2"}}, "usb": {}}});
        for (default, wanted, profile, envs) in [
            (Value::Null, None, None, 1),
            (Value::Null, Some("net"), Some("net"), 1),
            (json!("sd"), None, Some("sd"), 2),
            (json!("usb"), Some("sd"), Some("sd"), 2),
        ] {
            let way = manifest(default, two.clone()).way_of_program(wanted);
            assert_eq!(way.profile.as_deref(), profile, "{wanted:?}");
            assert_eq!(way.envs.len(), envs, "{wanted:?}");
        }
        let way = WayToProvision::without_manifest(Some("net"));
        assert_eq!(way.profile.as_deref(), Some("net"));
    }
}
