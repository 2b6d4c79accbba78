//! The reference of avocado.yaml, from its JSON Schema.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde_json::Value as Json;

const INTRODUCTION: &str = "\
# avocado.yaml

Every key of a project's file, with the section that it stands in. The same is in
[avocado.schema.json](../avocado.schema.json), which editors understand (`avocado schema` prints it).

- In every section `target-<name>:` has what differs for one target, and `kernel-<versions>:` what
  differs with one kernel; both are merged into the section that they stand in.
- A text may refer to other values: `{{ env.NAME }}`, `{{ config.key }}`, `{{ avocado.target }}`.
- Paths are relative to the source directory, which is that of the file where `src_dir` names no
  other one.
- A key that is not listed is warned about and has no effect.
";

/// The whole page.
pub(super) fn markdown(schema: &Json) -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut found = vec![String::new()];
    let mut open = VecDeque::from([("The project".to_owned(), schema)]);
    while let Some((name, section)) = open.pop_front() {
        let description = text(section, "description");
        let _ = write!(page, "\n## {name}\n\n{description}\n");
        let properties = section.get("properties").and_then(Json::as_object);
        let _ = write!(page, "\n| key | value | what it is |\n|---|---|---|\n");
        for (key, property) in properties.into_iter().flatten() {
            let mut references = Vec::new();
            let kind = kind(property, &mut references);
            let description = text(property, "description").replace('\n', " ");
            let old = property.get("deprecated").is_some();
            let old = if old { "An old name. " } else { "" };
            let _ = writeln!(page, "| `{key}` | {kind} | {old}{description} |");
            for name in references {
                let definition = schema.get("$defs").and_then(|all| all.get(&name));
                if let Some(definition) = definition
                    && !found.contains(&name)
                {
                    found.push(name.clone());
                    open.push_back((name, definition));
                }
            }
        }
    }
    page
}

fn text<'s>(schema: &'s Json, key: &str) -> &'s str {
    schema.get(key).and_then(Json::as_str).unwrap_or_default()
}

/// What may be written as a value. The sections that it refers to are added to `references`.
fn kind(schema: &Json, references: &mut Vec<String>) -> String {
    if let Some(name) = text(schema, "$ref").strip_prefix("#/$defs/") {
        references.push(name.to_owned());
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(alternatives) = schema.get("anyOf").and_then(Json::as_array) {
        let mut kinds: Vec<String> = Vec::new();
        for alternative in alternatives {
            let kind = kind(alternative, references);
            if !kind.is_empty() && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        return kinds.join(" or ");
    }
    let types = match schema.get("type") {
        Some(Json::Array(types)) => types.iter().filter_map(Json::as_str).collect(),
        Some(Json::String(one)) => vec![one.as_str()],
        _ => return "any".to_owned(),
    };
    let is = |name: &str| types.contains(&name);
    if is("array") {
        let items = schema.get("items").map(|items| kind(items, references));
        return format!("list of {}", items.as_deref().unwrap_or("any"));
    }
    if is("object") {
        let values = schema.get("additionalProperties");
        let values = values.map(|values| kind(values, references));
        return match values.filter(|values| !values.is_empty()) {
            Some(values) => format!("names, each with {values}"),
            None => "map".to_owned(),
        };
    }
    if is("integer") {
        return "number".to_owned();
    }
    // Text may be any scalar, and a boolean a reference to another value.
    match (is("boolean"), is("number"), is("string")) {
        (_, true, true) | (false, false, true) => "text".to_owned(),
        (true, ..) => "true or false".to_owned(),
        _ => String::new(),
    }
}
