//! The JSON Schema of avocado.yaml, for editors.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value as Json, json};

use crate::raw::RawTop;

/// The keyword for a name that a field had once.
pub(crate) const OLD_NAME: &str = "x-old-name";

/// The JSON Schema (draft 2020-12) of avocado.yaml: every key of the format, with what it takes.
///
/// It takes what [`crate::load`] takes: any scalar where text is asked for, a template in place of
/// a number or a boolean, null in place of a list, a map or a value that may be left out,
/// overrides (`target-<name>:`, `kernel-<spec>:`) in every map. Keys that it does not have are allowed,
/// as they are when a project is loaded.
pub fn json_schema() -> Json {
    let mut settings = SchemaSettings::draft2020_12();
    settings
        .transforms
        .push(Box::new(RecursiveTransform(as_yaml)));
    let schema = settings.into_generator().into_root_schema_for::<RawTop>();
    schema.to_value()
}

/// The schema as the types have it. Each type is described once and referred to: every start of the
/// program makes this.
pub(crate) fn of_types() -> Schema {
    let settings = SchemaSettings::draft2020_12();
    settings.into_generator().into_root_schema_for::<RawTop>()
}

/// From what the types say to what may be written in YAML.
fn as_yaml(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Json::Object(properties)) = object.get_mut("properties") {
        let old: Vec<(String, Json)> = properties
            .values_mut()
            .filter_map(|property| {
                let property = property.as_object_mut()?;
                let Some(Json::String(name)) = property.shift_remove(OLD_NAME) else {
                    return None;
                };
                let mut property = property.clone();
                property.insert("deprecated".to_owned(), json!(true));
                Some((name, Json::Object(property)))
            })
            .collect();
        properties.extend(old);
        object.insert(
            "patternProperties".to_owned(),
            json!({"^(target|kernel)-": {"type": ["object", "null"]}}),
        );
    }
    // In a map of names an override is beside them, and a name may begin as one does.
    if let Some(named) = object.get("additionalProperties").cloned() {
        let over = json!({"type": "object"});
        object.insert(
            "patternProperties".to_owned(),
            json!({"^(target|kernel)-": {"anyOf": [named, over]}}),
        );
    }
    let types = match object.get("type").cloned() {
        Some(Json::Array(types)) => types,
        Some(one) => vec![one],
        None => return,
    };
    let mut written: Vec<&str> = types.iter().filter_map(Json::as_str).collect();
    if written.contains(&"string") {
        written.extend(["number", "boolean"]);
    } else if written.contains(&"integer") || written.contains(&"boolean") {
        // A template: what it becomes is a number or a boolean, which quoted text never is.
        written.push("string");
        object.insert("pattern".to_owned(), json!("\\{\\{"));
    }
    if written.contains(&"array") || written.contains(&"object") {
        // Nothing at all is an empty one.
        written.push("null");
    }
    if object
        .get("format")
        .is_some_and(|format| format == "uint32")
    {
        object.insert("maximum".to_owned(), json!(u32::MAX));
    }
    written.sort_unstable();
    written.dedup();
    object.insert("type".to_owned(), json!(written));
}

#[cfg(test)]
mod tests;
