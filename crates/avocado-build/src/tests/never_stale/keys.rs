//! The keys of the format, by the section that has them, and those of them that a project has.

use std::collections::BTreeSet;

use serde_json::Value;

/// Those that the schema has, without old names: `Extension.version`, say.
pub(super) fn of_format(schema: &Value) -> BTreeSet<String> {
    let sections = schema["$defs"].as_object().unwrap().iter();
    let sections = sections.map(|(name, section)| (name.as_str(), section));
    let mut keys = BTreeSet::new();
    for (name, section) in sections.chain([("avocado.yaml", schema)]) {
        let properties = section["properties"].as_object().into_iter().flatten();
        let present = properties.filter(|(_, property)| property["deprecated"] != true);
        keys.extend(present.map(|(key, _)| format!("{name}.{key}")));
    }
    keys
}

/// Those that a project has.
pub(super) fn of_project(project: &Value, schema: &Value) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    collect(project, schema, "avocado.yaml", schema, &mut keys);
    keys
}

fn collect(
    value: &Value,
    schema: &Value,
    section: &str,
    root: &Value,
    keys: &mut BTreeSet<String>,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        let definition = root.pointer(&reference[1..]).unwrap();
        let section = reference.rsplit('/').next().unwrap();
        return collect(value, definition, section, root, keys);
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        collect(value, one, section, root, keys);
    }
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let is_override = key.starts_with("target-") || key.starts_with("kernel-");
                let property = &schema["properties"][key];
                if !property.is_null() {
                    keys.insert(format!("{section}.{key}"));
                    collect(value, property, section, root, keys);
                } else if is_override {
                    // It is a part of what it overrides.
                    collect(value, schema, section, root, keys);
                } else {
                    collect(value, &schema["additionalProperties"], section, root, keys);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(item, &schema["items"], section, root, keys);
            }
        }
        _ => {}
    }
}
