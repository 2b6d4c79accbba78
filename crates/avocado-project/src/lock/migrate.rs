//! From the versions 1 to 6 to the current one.
//!
//! 1: a target maps a key for each tree (`rootfs`, `extensions/app`, `runtimes/dev`) to its
//!    packages; those of the SDK are dropped, because they do not say for which host they are.
//! 2: an extension is its packages; fetched ones are below `fetched-extensions`.
//! 3 to 5: a runtime is its packages.
//! 6: has no snapshot.

use serde_json::{Map as JsonMap, Value};

/// A JSON object.
type Map = JsonMap<String, Value>;

/// Brings the targets of a document of an older version into the current shape. What does not
/// have the shape of its version is left for the reader to refuse.
pub(super) fn migrate(version: u64, root: &mut Map) {
    let Some(Value::Object(targets)) = root.get_mut("targets") else {
        return;
    };
    for target in targets.values_mut() {
        let Value::Object(target) = target else {
            continue;
        };
        if version == 1 {
            nest(target);
        }
        if version <= 2 {
            wrap_all(target, "extensions");
            fetched(target);
        }
        if version <= 5 {
            wrap_all(target, "runtimes");
        }
    }
}

/// `extensions/app: {…}` → `extensions: {app: {…}}`, and no SDK.
fn nest(target: &mut Map) {
    let flat = std::mem::take(target);
    for (key, packages) in flat {
        match key.split_once('/') {
            _ if key == "sdk" || key.starts_with("sdk/") => {}
            Some((section @ ("extensions" | "runtimes"), name)) => {
                let section = target
                    .entry(section.to_owned())
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(section) = section {
                    section.insert(name.to_owned(), packages);
                }
            }
            _ => {
                target.insert(key, packages);
            }
        }
    }
}

/// `app: {pkg: version}` → `app: {packages: {pkg: version}}` for each entry of a section.
fn wrap_all(target: &mut Map, section: &str) {
    if let Some(Value::Object(section)) = target.get_mut(section) {
        for entry in section.values_mut() {
            if is_flat(entry) {
                let packages = std::mem::replace(entry, Value::Null);
                *entry = Value::from_iter([("packages".to_owned(), packages)]);
            }
        }
    }
}

/// Versions are text, and an entry of the later shape holds more than that. A number among packages is
/// told as what it is.
fn is_flat(entry: &Value) -> bool {
    match entry {
        Value::Object(map) => !map.values().any(|v| v.is_object() || v.is_array()),
        _ => false,
    }
}

/// `fetched-extensions: {app: {pkg: version}}` → `extensions: {app: {source: {…}}}`.
fn fetched(target: &mut Map) {
    let Some(Value::Object(fetched)) = target.remove("fetched-extensions") else {
        return;
    };
    let extensions = target
        .entry("extensions".to_owned())
        .or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(extensions) = extensions else {
        return;
    };
    for (name, packages) in fetched {
        let mut source = Map::from_iter([("type".to_owned(), Value::from("package"))]);
        // There was one package for each.
        if let Value::Object(packages) = packages
            && let Some((package, version)) = packages.into_iter().next()
        {
            source.insert("package".to_owned(), Value::String(package));
            source.insert("version".to_owned(), version);
        }
        let entry = extensions
            .entry(name)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(entry) = entry {
            entry.insert("source".to_owned(), Value::Object(source));
        }
    }
}
