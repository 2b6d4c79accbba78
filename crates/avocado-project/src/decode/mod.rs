//! From the tree to structs that derive `Deserialize`.

mod access;
mod de;
mod wrappers;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeOwned, Expected, Unexpected};

use crate::diagnostic::{Report, quoted};
use crate::suggest;
use crate::yaml::{Node, Span, Value};

use de::De;
pub(crate) use wrappers::{Accepted, Entries, Named, Spanned, TextOr};

/// A decoded section.
pub(crate) struct Decoded<T> {
    pub(crate) value: T,
    /// The keys whose values were wrong and are reported; `value` is without them.
    pub(crate) dropped: Vec<String>,
}

/// Decodes a section. What is wrong is added to the report, and the rest is decoded without it;
/// unknown keys become warnings. `None` where nothing of it can be used.
pub(crate) fn decode<T: DeserializeOwned>(
    node: &Node,
    report: &mut Report<'_>,
) -> Option<Decoded<T>> {
    let mut dropped = Vec::new();
    let mut node = Cow::Borrowed(node);
    loop {
        let unknown = RefCell::new(Vec::new());
        let error = match T::deserialize(De::new(&node, &unknown)) {
            Ok(value) => {
                warn(unknown.into_inner(), report);
                return Some(Decoded { value, dropped });
            }
            Err(error) => error,
        };
        let diagnostic = report.error(error.span.unwrap_or(node.span), error.message);
        if let Some(hint) = error.hint {
            diagnostic.hint(hint);
        }
        // Without the entry at fault: its siblings may be wrong as well.
        match (&mut node.to_mut().value, error.entry) {
            (Value::Mapping(entries), Some(at)) if at < entries.len() => {
                dropped.push(entries.remove(at).key.text);
            }
            _ => return None,
        }
    }
}

fn warn(unknown: Vec<UnknownKey>, report: &mut Report<'_>) {
    for UnknownKey { key, span, known } in unknown {
        let message = format!("unknown key {}; it is ignored", quoted(&key));
        let near = suggest::nearest(&key, known.iter().copied());
        let diagnostic = report.warning(span, message);
        if let Some(near) = near {
            diagnostic.hint(format!("did you mean `{near}`?"));
        }
    }
}

/// A key that the struct it was decoded into does not have.
struct UnknownKey {
    key: String,
    span: Span,
    known: &'static [&'static str],
}

/// A value is not what it should be.
#[derive(Debug)]
pub(crate) struct DecodeError {
    message: String,
    hint: Option<String>,
    /// Of the innermost value.
    span: Option<Span>,
    /// Index of the entry at fault in the outermost map.
    entry: Option<usize>,
}

impl DecodeError {
    fn at(mut self, span: Span) -> Self {
        self.span.get_or_insert(span);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<M: fmt::Display>(message: M) -> Self {
        DecodeError {
            message: message.to_string(),
            hint: None,
            span: None,
            entry: None,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("`{field}` is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format_args!("`{field}` is given twice, under two names"))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }
}

#[cfg(test)]
mod tests;
