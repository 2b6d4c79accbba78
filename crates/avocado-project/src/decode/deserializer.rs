use std::cell::RefCell;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::{DecodeError, UnknownKey};
use super::wrappers;
use crate::yaml::{Entry, Key, Node, Scalar, Style, Value};

/// Unknown keys, as they are met.
type UnknownKeys = RefCell<Vec<UnknownKey>>;

/// Decodes one node. A scalar is text unless a number or a boolean is asked for, so that
/// `release: 2024` and `release: "2024"` are the same release.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a> {
    node: &'a Node,
    unknown: &'a UnknownKeys,
}

impl<'a> NodeDeserializer<'a> {
    pub(super) fn new(node: &'a Node, unknown: &'a UnknownKeys) -> Self {
        NodeDeserializer { node, unknown }
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
            // Eight in YAML 1.1, as most programs still read it, and ten in YAML 1.2.
            Some(_) if has_leading_zero(&scalar.text) => {
                let mut error = self.expected("a number without a leading zero");
                error.hint = Some("programs disagree on whether that is octal".to_owned());
                Err(error)
            }
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
        let mut members = EntryAccess::new(entries, fields, self.unknown);
        let value = visitor.visit_map(&mut members);
        // The visitor itself finds keys that mean the same.
        value.map_err(|e| members.blame(e).at(self.node.span))
    }
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.chars().all(|c| c.is_ascii_digit())
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
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
            .visit_seq(ListAccess::new(items, self.unknown))
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
            (wrappers::NOT_DECODED, _) => visitor.visit_unit(),
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

struct ListAccess<'a> {
    rest: std::slice::Iter<'a, Node>,
    unknown: &'a UnknownKeys,
}

impl<'a> ListAccess<'a> {
    pub(super) fn new(items: &'a [Node], unknown: &'a UnknownKeys) -> Self {
        ListAccess {
            rest: items.iter(),
            unknown,
        }
    }
}

impl<'de> SeqAccess<'de> for ListAccess<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.rest.next() else {
            return Ok(None);
        };
        match seed.deserialize(NodeDeserializer::new(node, self.unknown)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(error.at(node.span)),
        }
    }
}

struct EntryAccess<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Entry>>,
    current: Option<(usize, &'a Entry)>,
    /// The keys that the struct has; `None` in a map of names.
    fields: Option<&'static [&'static str]>,
    unknown: &'a UnknownKeys,
}

impl<'a> EntryAccess<'a> {
    pub(super) fn new(
        entries: &'a [Entry],
        fields: Option<&'static [&'static str]>,
        unknown: &'a UnknownKeys,
    ) -> Self {
        EntryAccess {
            rest: entries.iter().enumerate(),
            current: None,
            fields,
            unknown,
        }
    }

    /// Points at the current entry, if there is one. The outermost map is the last to say which of
    /// its entries is at fault.
    pub(super) fn blame(&self, mut error: DecodeError) -> DecodeError {
        if let Some((at, entry)) = self.current {
            error = error.at(entry.key.span);
            error.entry = Some(at);
        }
        error
    }
}

impl<'de> MapAccess<'de> for EntryAccess<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        self.current = self.rest.next();
        let Some((_, entry)) = self.current else {
            return Ok(None);
        };
        let key = &entry.key;
        if let Some(fields) = self.fields
            && !fields.contains(&key.text.as_str())
        {
            self.unknown.borrow_mut().push(UnknownKey {
                key: key.text.clone(),
                span: key.span,
                known: fields,
            });
        }
        match seed.deserialize(KeyDeserializer(key)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.blame(error)),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        let Some((_, entry)) = self.current else {
            return Err(DecodeError::custom("a value was asked for without its key"));
        };
        seed.deserialize(NodeDeserializer::new(&entry.value, self.unknown))
            .map_err(|error| self.blame(error))
    }
}

/// A key: text, with or without its place.
struct KeyDeserializer<'a>(&'a Key);

impl<'de> Deserializer<'de> for KeyDeserializer<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_str(&self.0.text)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match name {
            wrappers::SPANNED => visitor.visit_seq(wrappers::SpanThen::new(self.0.span, self)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
