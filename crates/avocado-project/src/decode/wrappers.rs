//! What the decoder offers beyond plain serde types. Each is a newtype with a name that the
//! decoder knows.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::value::U64Deserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

use super::DecodeError;
use crate::yaml::Span;

pub(super) const SPANNED: &str = "avocado::Spanned";
pub(super) const ACCEPTED: &str = "avocado::Accepted";
pub(super) const TEXT_OR: &str = "avocado::TextOr";

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Spanned<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let missing = || A::Error::custom("a place has four numbers");
                let mut number =
                    || -> Result<u64, A::Error> { seq.next_element()?.ok_or_else(missing) };
                let span = Span {
                    line: u32::try_from(number()?).unwrap_or(u32::MAX),
                    column: u32::try_from(number()?).unwrap_or(u32::MAX),
                    start: usize::try_from(number()?).unwrap_or(usize::MAX),
                    end: usize::try_from(number()?).unwrap_or(usize::MAX),
                };
                let value = seq.next_element()?.ok_or_else(missing)?;
                Ok(Spanned { value, span })
            }
        }

        deserializer.deserialize_newtype_struct(SPANNED, Parts(PhantomData))
    }
}

/// The four numbers of a span, then the value.
pub(super) struct SpanThen<D> {
    numbers: std::array::IntoIter<u64, 4>,
    value: Option<D>,
}

impl<D> SpanThen<D> {
    pub(super) fn new(span: Span, value: D) -> Self {
        let numbers = [
            u64::from(span.line),
            u64::from(span.column),
            span.start as u64,
            span.end as u64,
        ];
        SpanThen {
            numbers: numbers.into_iter(),
            value: Some(value),
        }
    }
}

impl<'de, D: Deserializer<'de, Error = DecodeError>> SeqAccess<'de> for SpanThen<D> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if let Some(number) = self.numbers.next() {
            let number: U64Deserializer<DecodeError> = number.into_deserializer();
            return seed.deserialize(number).map(Some);
        }
        match self.value.take() {
            Some(value) => seed.deserialize(value).map(Some),
            None => Ok(None),
        }
    }
}

/// A value of the published format that has no meaning here (yet). It is not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Accepted;

impl<'de> Deserialize<'de> for Accepted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;

        impl Visitor<'_> for Anything {
            type Value = Accepted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_unit<E: Error>(self) -> Result<Accepted, E> {
                Ok(Accepted)
            }
        }

        deserializer.deserialize_newtype_struct(ACCEPTED, Anything)
    }
}

/// Either text or something of its own shape, for example a name or the thing itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TextOr<T> {
    Text(String),
    Other(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a value of its own shape")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Self::Value, D::Error> {
                T::deserialize(deserializer).map(TextOr::Other)
            }
        }

        deserializer.deserialize_newtype_struct(TEXT_OR, Either(PhantomData))
    }
}

/// A map of names, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entries<T>(pub(crate) Vec<(Spanned<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Entries(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Map(PhantomData))
    }
}

/// A map of names, or a list of maps that hold their `name`. In the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Named<T> {
    Map(Entries<Option<T>>),
    List(Vec<Spanned<T>>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map or a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Named::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named::Map(Entries(entries)))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}
