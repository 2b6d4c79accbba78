//! From the tree to structs that derive `Deserialize`.

mod deserializer;
mod error;
mod schemas;
mod wrappers;

use std::borrow::Cow;
use std::cell::RefCell;

use serde::de::DeserializeOwned;

use crate::report::Report;
use crate::suggest;
use crate::text::quoted;
use crate::yaml::{Node, Value};

use deserializer::NodeDeserializer;
use error::UnknownKey;
pub(crate) use wrappers::{MapOrList, NameMap, NotDecoded, OneOrNamed, Spanned, TextOr};

/// A decoded section.
pub(crate) struct Decoded<T> {
    pub(crate) value: T,
    /// The keys whose values were wrong and are reported; `value` is without them.
    pub(crate) dropped: Vec<String>,
}

/// Decodes a section. What is wrong is added to the report, and the rest is decoded without it;
/// unknown keys become warnings. `None` where nothing of it can be used.
pub(crate) fn decode<T: DeserializeOwned>(node: &Node, report: &mut Report) -> Option<Decoded<T>> {
    let mut dropped = Vec::new();
    let mut node = Cow::Borrowed(node);
    loop {
        let unknown = RefCell::new(Vec::new());
        let error = match T::deserialize(NodeDeserializer::new(&node, &unknown)) {
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

fn warn(unknown: Vec<UnknownKey>, report: &mut Report) {
    for UnknownKey { key, span, known } in unknown {
        let message = format!("unknown key {}; it is ignored", quoted(&key));
        let near = suggest::nearest(&key, known.iter().copied());
        let diagnostic = report.warning(span, message);
        if let Some(near) = near {
            diagnostic.hint(format!("did you mean `{near}`?"));
        }
    }
}

#[cfg(test)]
mod tests;
