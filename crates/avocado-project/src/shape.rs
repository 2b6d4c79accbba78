//! What has to be known of avocado.yaml without decoding it: which maps have keys of the format,
//! and which have keys of the project.

use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::report::Report;
use crate::schema;
use crate::yaml::{Entry, Node, Value};

/// What an override for some kernels begins with.
pub(crate) const KERNEL: &str = "kernel-";

/// Whether a key is an override for some kernels and cannot be a name: there are packages, and may
/// be kernels, that are called `kernel-6.6.52`.
pub(crate) fn is_for_kernels(key: &str) -> bool {
    let spec = key.strip_prefix(KERNEL);
    spec.is_some_and(|spec| spec.starts_with(['=', '!', '<', '>']) || spec.ends_with(".*"))
}

/// A kind of value of avocado.yaml. Where it is neither a section nor a map of names, nothing in
/// it is looked at.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Shape {
    /// The keys of a section.
    fields: Vec<Field>,
    /// What a map holds whose keys the project chooses.
    names: Option<Box<Shape>>,
}

#[derive(Debug, PartialEq)]
struct Field {
    name: String,
    old_name: Option<String>,
    shape: Shape,
}

/// What a value is, of those that its shape allows.
#[derive(Clone, Copy)]
pub(crate) enum Reading<'s> {
    /// The format defines the keys.
    Section(&'s Shape),
    /// The project chooses the keys; each value has the shape.
    Names(&'s Shape),
    /// Nothing in it is looked at.
    Opaque,
}

static OPAQUE: Shape = Shape {
    fields: Vec::new(),
    names: None,
};

impl Shape {
    /// Of avocado.yaml.
    pub(crate) fn of_project() -> &'static Shape {
        static PROJECT: LazyLock<Shape> =
            LazyLock::new(|| Shape::from_schema(schema::of_types().as_value()));
        &PROJECT
    }

    /// Of a JSON Schema whose references lead to its own `$defs`, and never back.
    pub(crate) fn from_schema(schema: &Json) -> Shape {
        Shape::of(schema, schema.get("$defs").unwrap_or(&Json::Null))
    }

    fn of(schema: &Json, definitions: &Json) -> Shape {
        let mut shape = Shape::default();
        shape.add(schema, definitions);
        shape
    }

    fn add(&mut self, schema: &Json, definitions: &Json) {
        let reference = schema.get("$ref").and_then(Json::as_str);
        let name = reference.and_then(|reference| reference.strip_prefix("#/$defs/"));
        if let Some(definition) = name.and_then(|name| definitions.get(name)) {
            self.add(definition, definitions);
        }
        let alternatives = schema.get("anyOf").and_then(Json::as_array);
        for alternative in alternatives.into_iter().flatten() {
            self.add(alternative, definitions);
        }
        let properties = schema.get("properties").and_then(Json::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let old_name = property.get(schema::OLD_NAME).and_then(Json::as_str);
            self.fields.push(Field {
                name: name.clone(),
                old_name: old_name.map(str::to_owned),
                shape: Shape::of(property, definitions),
            });
        }
        if let Some(named) = schema.get("additionalProperties") {
            self.names = Some(Box::new(Shape::of(named, definitions)));
        }
    }

    /// Of the value of a key of a section; [`Reading::Opaque`] for a key that does not exist.
    pub(crate) fn field(&self, key: &str) -> &Shape {
        let field = self.fields.iter().find(|field| field.name == key);
        field.map_or(&OPAQUE, |field| &field.shape)
    }

    /// The keys of a section.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// Whether a section has this key, under its name or an old one.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.fields
            .iter()
            .any(|field| field.name == key || field.old_name.as_deref() == Some(key))
    }

    /// What a value is. One that may be either is a section if it has a key of one, or no value
    /// that could be a named section (then its keys are typos).
    pub(crate) fn read(&self, node: &Node) -> Reading<'_> {
        match (&self.names, &self.fields[..]) {
            (None, []) => Reading::Opaque,
            (Some(names), []) => Reading::Names(names),
            (None, _) => Reading::Section(self),
            (Some(names), _) => {
                let entries = node.entries().unwrap_or_default().iter();
                let mut entries = entries.filter(|entry| {
                    let key = &entry.key.text;
                    !key.starts_with("target-") && !is_for_kernels(key)
                });
                let section = entries.clone().any(|e| self.has_key(&e.key.text))
                    || !entries
                        .any(|e| matches!(e.value.value, Value::Mapping(_)) || e.value.is_null());
                if section {
                    Reading::Section(self)
                } else {
                    Reading::Names(names)
                }
            }
        }
    }

    /// What a map that nothing is known of is, preferring the section.
    pub(crate) fn reading_of_maps(&self) -> Reading<'_> {
        match (&self.names, &self.fields[..]) {
            (None, []) => Reading::Opaque,
            (Some(names), []) => Reading::Names(names),
            (_, [_, ..]) => Reading::Section(self),
        }
    }

    /// Gives the keys of a section that are written with an old name their present one. A key that
    /// is there under both names is reported, and stays once.
    pub(crate) fn rename_old_keys(&self, entries: &mut Vec<Entry>, report: &mut Report) {
        for field in &self.fields {
            let Some(old_name) = &field.old_name else {
                continue;
            };
            let at = |name: &str| entries.iter().position(|e| e.key.text == name);
            match (at(&field.name), at(old_name)) {
                (Some(now), Some(old)) => {
                    let second = entries.remove(now.max(old));
                    let message = format!("`{}` is given twice, under two names", field.name);
                    report.error(second.key.span, message);
                    entries[now.min(old)].key.text.clone_from(&field.name);
                }
                (None, Some(old)) => entries[old].key.text.clone_from(&field.name),
                (_, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use schemars::generate::SchemaSettings;

    use super::*;
    use crate::raw::RawTop;

    #[test]
    fn references_are_followed_to_what_they_stand_for() {
        let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
        let inlined = settings.into_generator().into_root_schema_for::<RawTop>();
        assert_eq!(inlined.get("$defs"), None);
        assert!(schema::of_types().get("$defs").is_some());
        assert_eq!(*Shape::of_project(), Shape::from_schema(inlined.as_value()));
    }
}
