//! How a visitor walks over lists and maps.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::de::{De, Unknown};
use super::{DecodeError, UnknownKey, wrappers};
use crate::yaml::{Entry, Key, Node};

pub(super) struct Items<'a> {
    rest: std::slice::Iter<'a, Node>,
    unknown: &'a Unknown,
}

impl<'a> Items<'a> {
    pub(super) fn new(items: &'a [Node], unknown: &'a Unknown) -> Self {
        Items {
            rest: items.iter(),
            unknown,
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.rest.next() else {
            return Ok(None);
        };
        match seed.deserialize(De::new(node, self.unknown)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(error.at(node.span)),
        }
    }
}

pub(super) struct Members<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Entry>>,
    current: Option<(usize, &'a Entry)>,
    /// The keys that the struct has; `None` in a map of names.
    fields: Option<&'static [&'static str]>,
    unknown: &'a Unknown,
}

impl<'a> Members<'a> {
    pub(super) fn new(
        entries: &'a [Entry],
        fields: Option<&'static [&'static str]>,
        unknown: &'a Unknown,
    ) -> Self {
        Members {
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

impl<'de> MapAccess<'de> for Members<'_> {
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
        match seed.deserialize(KeyDe(key)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.blame(error)),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        let Some((_, entry)) = self.current else {
            return Err(serde::de::Error::custom(
                "a value was asked for without its key",
            ));
        };
        seed.deserialize(De::new(&entry.value, self.unknown))
            .map_err(|error| self.blame(error))
    }
}

/// A key: text, with or without its place.
pub(super) struct KeyDe<'a>(&'a Key);

impl<'de> Deserializer<'de> for KeyDe<'_> {
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
