use super::scalar;
use crate::source::Span;
use crate::text::quoted;

/// A value with its place. An alias has the place of what it stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One key of a mapping with its value. No two entries of a mapping have the same key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// A key with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// A scalar keeps its text; what the text means depends on who asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// May be a number, a boolean or null (YAML 1.2 core schema).
    Plain,
    /// Is text.
    Quoted,
    /// Came out of `{{ … }}`: text, or a number or boolean where one is asked for; never null.
    Template,
}

impl Scalar {
    /// `~`, `null`, or nothing at all.
    pub(crate) fn is_null(&self) -> bool {
        self.style == Style::Plain && scalar::is_null(&self.text)
    }

    /// The boolean, where it is one.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        (self.style != Style::Quoted).then(|| scalar::boolean(&self.text))?
    }

    /// The whole number, where it is one that is not negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        (self.style != Style::Quoted).then(|| scalar::unsigned(&self.text))?
    }
}

impl Node {
    /// The text of a scalar that is not null.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// The entries of a mapping; null has none. `None` for everything else.
    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Mapping(entries) => Some(entries),
            Value::Scalar(scalar) if scalar.is_null() => Some(&[]),
            _ => None,
        }
    }

    /// The value of a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries()?.iter().find(|e| e.key.text == key)?;
        Some(&entry.value)
    }

    /// What it is, for a message: "a map", "a list", "`text`", "nothing".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_null() => "nothing".to_owned(),
            Value::Scalar(scalar) if scalar.style == Style::Quoted => {
                format!("the text {}", quoted(&scalar.text))
            }
            Value::Scalar(scalar) => quoted(&scalar.text),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a map".to_owned(),
        }
    }
}
