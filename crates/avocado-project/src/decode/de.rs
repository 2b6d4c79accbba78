use std::cell::RefCell;

use serde::de::{Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

use super::access::{Items, Members};
use super::{DecodeError, UnknownKey, wrappers};
use crate::yaml::{Node, Scalar, Style, Value};

/// Unknown keys, as they are met.
pub(super) type Unknown = RefCell<Vec<UnknownKey>>;

/// Decodes one node. A scalar is text unless a number or a boolean is asked for, so that
/// `release: 2024` and `release: "2024"` are the same release.
#[derive(Clone, Copy)]
pub(super) struct De<'a> {
    pub(super) node: &'a Node,
    pub(super) unknown: &'a Unknown,
}

impl<'a> De<'a> {
    pub(super) fn new(node: &'a Node, unknown: &'a Unknown) -> Self {
        De { node, unknown }
    }

    fn expected(self, what: &str) -> DecodeError {
        let found = self.node.describe();
        DecodeError::custom(format_args!("expected {what}, found {found}")).at(self.node.span)
    }

    fn scalar(self, what: &str) -> Result<&'a Scalar, DecodeError> {
        match &self.node.value {
            Value::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
            _ => Err(self.expected(what)),
        }
    }

    fn number(self, max: u64) -> Result<u64, DecodeError> {
        let what = "a whole number";
        let scalar = self.scalar(what)?;
        match scalar.as_u64() {
            Some(number) if number <= max => Ok(number),
            Some(_) => Err(self.expected(&format!("a whole number up to {max}"))),
            None => {
                let mut error = self.expected(what);
                if scalar.style == Style::Quoted {
                    error.hint = Some("write it without quotes".to_owned());
                }
                Err(error)
            }
        }
    }

    fn visit_members<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Some(entries) = self.node.entries() else {
            return Err(self.expected("a map"));
        };
        let mut members = Members::new(entries, fields, self.unknown);
        let value = visitor.visit_map(&mut members);
        // The visitor itself finds keys that mean the same.
        value.map_err(|e| members.blame(e).at(self.node.span))
    }
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let value: Result<V::Value, DecodeError> = match &self.node.value {
            Value::Scalar(scalar) if scalar.is_null() => visitor.visit_unit(),
            Value::Scalar(scalar) => visitor.visit_str(&scalar.text),
            Value::Sequence(_) => self.deserialize_seq(visitor),
            Value::Mapping(_) => self.deserialize_map(visitor),
        };
        value.map_err(|e| e.at(self.node.span))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let value: Result<V::Value, DecodeError> = visitor.visit_str(&self.scalar("text")?.text);
        value.map_err(|e| e.at(self.node.span))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let what = "`true` or `false`";
        match self.scalar(what)?.as_bool() {
            Some(value) => visitor.visit_bool(value),
            None => {
                let mut error = self.expected(what);
                // What YAML 1.1 took for booleans.
                error.hint = match self.node.as_text() {
                    Some("yes" | "Yes" | "on" | "On") => Some("write `true`".to_owned()),
                    Some("no" | "No" | "off" | "Off") => Some("write `false`".to_owned()),
                    _ => None,
                };
                Err(error)
            }
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u64(self.number(u64::from(u32::MAX))?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u64(self.number(u64::MAX)?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let items: &[Node] = match &self.node.value {
            Value::Sequence(items) => items,
            Value::Scalar(scalar) if scalar.is_null() => &[],
            _ => return Err(self.expected("a list")),
        };
        visitor
            .visit_seq(Items::new(items, self.unknown))
            .map_err(|e| e.at(self.node.span))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_members(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.visit_members(Some(fields), visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match (name, &self.node.value) {
            (wrappers::SPANNED, _) => {
                visitor.visit_seq(wrappers::SpanThen::new(self.node.span, self))
            }
            (wrappers::ACCEPTED, _) => visitor.visit_unit(),
            (wrappers::TEXT_OR, Value::Scalar(scalar)) if !scalar.is_null() => {
                visitor.visit_str(&scalar.text)
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier
    }
}
