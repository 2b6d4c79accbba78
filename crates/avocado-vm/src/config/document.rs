//! A YAML document that keeps its look when a value changes.

use std::str::FromStr;

use serde_json::{Map, Number, Value};
use yaml_edit::path::YamlPath;
use yaml_edit::{Document as Edited, ScalarType, ScalarValue, YamlFile, YamlValue};

use super::problem::ConfigProblem;

/// The text, and what it says.
#[derive(Debug, Clone)]
pub(super) struct ConfigDocument {
    text: String,
    tree: Value,
}

impl ConfigDocument {
    pub(super) fn parse(text: String) -> Result<Self, ConfigProblem> {
        let file = YamlFile::from_str(&text).map_err(syntax)?;
        let mut documents = file.documents();
        let tree = match (documents.next(), documents.next()) {
            (None, _) => empty_tree(),
            (Some(document), None) => {
                let value = YamlValue::from_document(&document).map_err(syntax)?;
                match json(value) {
                    Value::Null => empty_tree(),
                    tree => tree,
                }
            }
            (_, Some(_)) => return Err(ConfigProblem::Syntax("there is a second document".into())),
        };
        Ok(ConfigDocument { text, tree })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn tree(&self) -> &Value {
        &self.tree
    }

    /// The document with another value at `path`.
    pub(super) fn set(&self, path: &[&str], value: &Value) -> Result<Self, ConfigProblem> {
        let mut expected = self.tree.clone();
        set_in(&mut expected, path, value)?;
        self.edit(expected, |document| {
            let set = document.try_set_path(&path.join("."), yaml(value));
            set.map_err(|e| ConfigProblem::Unchangeable(e.to_string()))
        })
    }

    /// The document without the value at `path`.
    pub(super) fn remove(&self, path: &[&str]) -> Result<Self, ConfigProblem> {
        let mut expected = self.tree.clone();
        remove_in(&mut expected, path);
        self.edit(expected, |document| {
            let removed = document.try_remove_path(&path.join("."));
            removed
                .map(drop)
                .map_err(|e| ConfigProblem::Unchangeable(e.to_string()))
        })
    }

    /// Changes the text, and believes it only if it then says what is expected.
    fn edit(
        &self,
        expected: Value,
        change: impl FnOnce(&Edited) -> Result<(), ConfigProblem>,
    ) -> Result<Self, ConfigProblem> {
        let file = YamlFile::from_str(&self.text).map_err(syntax)?;
        let text = match file.document() {
            Some(document) => {
                change(&document)?;
                file.to_string()
            }
            // Nothing but comments: they stay, and a document follows.
            None => {
                let document = Edited::new_mapping();
                change(&document)?;
                let mut text = self.text.clone();
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text + &document.to_string()
            }
        };
        let changed = ConfigDocument::parse(text)
            .map_err(|_| ConfigProblem::Unchangeable("the result would be no YAML".into()))?;
        if changed.tree != expected {
            return Err(ConfigProblem::Unchangeable(
                "something else would change".into(),
            ));
        }
        Ok(changed)
    }
}

/// What a word on the command line means, read as YAML would: a number, a boolean, a list of
/// those, or the text as it is.
pub(super) fn coerce(word: &str) -> Value {
    let text = || Value::String(word.to_owned());
    match YamlValue::parse_raw(word).map(json) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_))) => value,
        _ => text(),
    }
}

/// Puts a value into a tree, with maps above it where they are missing.
pub(super) fn set_in(tree: &mut Value, path: &[&str], value: &Value) -> Result<(), ConfigProblem> {
    let mut at = tree;
    for (depth, segment) in path.iter().enumerate() {
        if at.is_null() {
            *at = empty_tree();
        }
        let Value::Object(map) = at else {
            return Err(ConfigProblem::Value {
                key: path.get(..depth).unwrap_or_default().join("."),
                found: "set to a value".into(),
                expected: "a map".into(),
            });
        };
        at = map.entry(*segment).or_insert(Value::Null);
    }
    *at = value.clone();
    Ok(())
}

/// Takes a value out of a tree. Says whether it was there.
pub(super) fn remove_in(tree: &mut Value, path: &[&str]) -> bool {
    let Some((last, above)) = path.split_last() else {
        return false;
    };
    let mut at = tree;
    for segment in above {
        match at.get_mut(*segment) {
            Some(below) => at = below,
            None => return false,
        }
    }
    at.as_object_mut()
        .is_some_and(|map| map.shift_remove(*last).is_some())
}

/// The path of what goes with the value at `path`: of the outermost map below the document that holds
/// nothing else, or of the value alone.
pub(super) fn alone<'p>(tree: &Value, path: &'p [&'p str]) -> &'p [&'p str] {
    let mut length = 1;
    let mut at = tree;
    for (depth, segment) in path.iter().enumerate() {
        if at.as_object().is_some_and(|map| map.len() > 1) {
            length = depth + 1;
        }
        match at.get(*segment) {
            Some(below) => at = below,
            None => break,
        }
    }
    path.get(..length).unwrap_or(path)
}

fn syntax(error: impl std::fmt::Display) -> ConfigProblem {
    ConfigProblem::Syntax(error.to_string())
}

fn json(value: YamlValue) -> Value {
    match value {
        YamlValue::Scalar(scalar) => scalar_json(&scalar),
        YamlValue::Sequence(items) => items.into_iter().map(json).collect(),
        YamlValue::Mapping(entries) => object(entries),
        YamlValue::OrderedMapping(entries) | YamlValue::Pairs(entries) => object(entries),
        YamlValue::Set(items) => items.into_iter().map(Value::String).collect(),
        YamlValue::Tagged(_, value) => json(*value),
    }
}

fn object(entries: impl IntoIterator<Item = (String, YamlValue)>) -> Value {
    let entries = entries.into_iter().map(|(key, value)| (key, json(value)));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn scalar_json(scalar: &ScalarValue) -> Value {
    let text = || Value::String(scalar.value().to_owned());
    match scalar.scalar_type() {
        ScalarType::Null => Value::Null,
        ScalarType::Boolean => scalar.to_bool().map_or_else(text, Value::Bool),
        ScalarType::Integer => match (scalar.to_i64(), scalar.value().parse::<u64>()) {
            (Some(number), _) => Value::from(number),
            (None, Ok(number)) => Value::from(number),
            _ => text(),
        },
        ScalarType::Float => {
            let number = scalar.to_f64().and_then(Number::from_f64);
            number.map_or_else(text, Value::Number)
        }
        _ => text(),
    }
}

fn yaml(value: &Value) -> YamlValue {
    match value {
        Value::Null => YamlValue::Scalar(ScalarValue::null()),
        Value::Bool(flag) => YamlValue::scalar(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => YamlValue::scalar(number),
            (None, Some(number)) => YamlValue::scalar(number),
            (None, None) => YamlValue::scalar(number.to_string()),
        },
        Value::String(text) => YamlValue::scalar(text.as_str()),
        Value::Array(items) => YamlValue::from_sequence(items.iter().map(yaml).collect()),
        Value::Object(map) => YamlValue::Mapping(
            map.iter()
                .map(|(key, value)| (key.clone(), yaml(value)))
                .collect(),
        ),
    }
}

/// An empty tree.
fn empty_tree() -> Value {
    Value::Object(Map::new())
}
