//! What is merged, and whom the device trusts, for people.

use super::runtimes::minute;
use super::table;
use crate::failure::printable;
use crate::model::{DeviceStatus, Extension, ExtensionStatus, RootAuthority};

/// What is active and merged.
pub(crate) fn status(status: &DeviceStatus) -> String {
    let mut text = match &status.runtime {
        Some(r) => {
            let (name, version) = (printable(&r.runtime.name), printable(&r.runtime.version));
            format!("Runtime:  {name} {version} ({})\n", r.short_id())
        }
        None => "Runtime:  none is active\n".to_owned(),
    };
    if let Some(id) = &status.os_build_id {
        text.push_str(&format!("OS build: {}\n", printable(id)));
    }
    text.push('\n');
    text.push_str(&statuses(&status.extensions));
    text
}

/// The extensions that are there, as a table.
pub(crate) fn extensions(extensions: &[Extension]) -> String {
    if extensions.is_empty() {
        return "There are no extensions.\n".to_owned();
    }
    let rows = extensions.iter().map(|e| {
        let file = e.path.rsplit('/').next().unwrap_or(&e.path);
        let slash = if e.is_directory { "/" } else { "" };
        [
            printable(&e.name),
            version(e.version.as_deref()),
            kind(e.is_sysext, e.is_confext).to_owned(),
            format!("{}{slash}", printable(file)),
        ]
    });
    table(["EXTENSION", "VERSION", "TYPE", "FILE"], rows.collect())
}

/// What is merged and what should be, as a table.
pub(crate) fn statuses(statuses: &[ExtensionStatus]) -> String {
    if statuses.is_empty() {
        return "There are no extensions.\n".to_owned();
    }
    let rows = statuses.iter().map(|e| {
        let merged = if e.is_merged { "yes" } else { "no" };
        let image = e
            .image_id
            .as_deref()
            .map_or("-", |id| id.get(..8).unwrap_or(id));
        [
            printable(&e.name),
            version(e.version.as_deref()),
            kind(e.is_sysext, e.is_confext).to_owned(),
            merged.to_owned(),
            printable(image),
        ]
    });
    table(
        ["EXTENSION", "VERSION", "TYPE", "MERGED", "IMAGE"],
        rows.collect(),
    )
}

fn version(version: Option<&str>) -> String {
    version.map_or_else(|| "-".to_owned(), printable)
}

fn kind(sysext: bool, confext: bool) -> &'static str {
    match (sysext, confext) {
        (true, true) => "sys+conf",
        (true, false) => "sys",
        (false, true) => "conf",
        (false, false) => "-",
    }
}

/// Whom the device trusts.
pub(crate) fn authority(authority: Option<&RootAuthority>) -> String {
    let Some(authority) = authority else {
        return "This device has no trust anchor: it can verify no repository.\n".to_owned();
    };
    let rows = authority.keys.iter().map(|key| {
        let roles: Vec<_> = key.roles.iter().map(|role| plain_role(role)).collect();
        [
            printable(key.key_id.get(..16).unwrap_or(&key.key_id)),
            printable(&key.key_type),
            roles.join(", "),
        ]
    });
    let mut text = format!(
        "Version:  {}\nExpires:  {}\n\n{}",
        authority.version,
        printable(&authority.expires),
        table(["KEY ID", "TYPE", "ROLES"], rows.collect())
    );
    let repositories = authority.repositories.iter().flatten().map(|repository| {
        let version = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        [
            repository.url.as_deref().map_or("-".to_owned(), printable),
            version(repository.root_version),
            version(repository.timestamp_version),
            repository
                .newest_time
                .as_deref()
                .map_or("-".to_owned(), minute),
        ]
    });
    let repositories: Vec<_> = repositories.collect();
    if !repositories.is_empty() {
        let head = ["REPOSITORY", "ROOT", "TIMESTAMP", "NOT BEFORE"];
        text.push_str(&format!("\n{}", table(head, repositories)));
    }
    text
}

/// What a role is for, in a word.
fn plain_role(role: &str) -> String {
    match role {
        "root" => "authority".to_owned(),
        "targets" => "signing".to_owned(),
        "snapshot" => "metadata".to_owned(),
        "timestamp" => "freshness".to_owned(),
        other => printable(other),
    }
}
