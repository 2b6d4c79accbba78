//! The SDK, and what else runs in its container.

use std::collections::BTreeMap;

use crate::decode::decode;
use crate::model::{Connect, Extension, ProvisionProfile, Sdk};
use crate::raw::{OneOrMore, RawConnect, RawProvisionProfile, RawSdk, listed};
use crate::text::{quoted, split_arguments};

use super::context::ResolveContext;
use super::values::plain;
use super::{compile, packages};

pub(super) fn sdk(cx: &mut ResolveContext<'_>) -> Sdk {
    let raw: RawSdk = cx.decoded("sdk");
    let packages = packages::packages(cx, raw.packages, &["sdk"]);
    Sdk {
        image: raw.image,
        container_args: arguments(raw.container_args),
        packages: packages.feed,
        project_packages: packages.project,
        compile: compile::sections(cx),
        disable_weak_dependencies: raw.disable_weak_dependencies.unwrap_or(false),
    }
}

/// Says where an extension wants another version of a package of the SDK, of which there is one.
pub(super) fn tell_versions(cx: &mut ResolveContext<'_>, sdk: &Sdk, extensions: &[Extension]) {
    let mut wanted: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    for (package, version) in sdk.packages.template() {
        wanted.insert(package, (version, "`sdk.packages`".to_owned()));
    }
    for extension in extensions {
        let name = extension.name.as_str();
        for (package, version) in extension.sdk_packages.template() {
            let own = (version.as_str(), format!("the extension {}", quoted(name)));
            let first = wanted.entry(package).or_insert_with(|| own.clone());
            if first.0 == "*" {
                *first = own;
            } else if first.0 != version && version != "*" {
                let message = format!(
                    "{} wants {} in the version {version}, and {} wants {}",
                    own.1,
                    quoted(package),
                    first.1,
                    first.0
                );
                let at = ["extensions", name, "sdk", "packages", package];
                let node = at.iter().try_fold(cx.root, |node, key| node.get(key));
                let warning = cx.report.warning(node.map(|node| node.span), message);
                warning.hint("the SDK has one of them: the one that is stated first");
            }
        }
    }
}

pub(super) fn provision_profiles(cx: &mut ResolveContext<'_>) -> Vec<ProvisionProfile> {
    let mut profiles = Vec::new();
    for entry in cx.section("provision_profiles") {
        let Some(raw) = decode::<Option<RawProvisionProfile>>(&entry.value, cx.report) else {
            continue;
        };
        let raw = raw.value.unwrap_or_default();
        let name = &entry.key.text;
        let state_file = plain(raw.state_file);
        profiles.push(ProvisionProfile {
            container_args: arguments(raw.container_args),
            state_file: state_file.unwrap_or_else(|| format!(".avocado/provision-{name}.state")),
            name: name.clone(),
        });
    }
    profiles
}

pub(super) fn connect(cx: &mut ResolveContext<'_>) -> Option<Connect> {
    cx.root.get("connect")?;
    let raw: RawConnect = cx.decoded("connect");
    Some(Connect {
        org: plain(raw.org),
        project: plain(raw.project),
        server_key: plain(raw.server_key),
    })
}

fn arguments(texts: Option<OneOrMore>) -> Vec<String> {
    let texts = texts.map(listed).unwrap_or_default();
    let split = texts.iter().flat_map(|text| split_arguments(text));
    split.collect()
}
