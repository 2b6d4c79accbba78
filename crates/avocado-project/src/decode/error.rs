use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::source::Span;

/// A key that the struct it was decoded into does not have.
pub(super) struct UnknownKey {
    pub(super) key: String,
    pub(super) span: Span,
    pub(super) known: &'static [&'static str],
}

/// A value is not what it should be.
#[derive(Debug)]
pub(crate) struct DecodeError {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Of the innermost value.
    pub(super) span: Option<Span>,
    /// Index of the entry at fault in the outermost map.
    pub(super) entry: Option<usize>,
}

impl DecodeError {
    /// Where it was met, unless something inside has said so already.
    pub(super) fn at(mut self, span: Span) -> Self {
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
