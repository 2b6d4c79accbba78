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

use super::error::DecodeError;
use crate::source::{FileId, Span};

pub(super) const SPANNED: &str = "avocado::Spanned";
pub(super) const NOT_DECODED: &str = "avocado::NotDecoded";
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
                let missing = || A::Error::custom("a place has five numbers");
                let mut number =
                    || -> Result<u64, A::Error> { seq.next_element()?.ok_or_else(missing) };
                let span = Span {
                    file: FileId::from_number(u32::try_from(number()?).unwrap_or(u32::MAX)),
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

/// The five numbers of a span, then the value.
pub(super) struct SpanThen<D> {
    numbers: std::array::IntoIter<u64, 5>,
    value: Option<D>,
}

impl<D> SpanThen<D> {
    pub(super) fn new(span: Span, value: D) -> Self {
        let numbers = [
            u64::from(span.file.number()),
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

/// A value that is known and not looked at where its map is decoded; `T` describes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NotDecoded<T = Anything>(PhantomData<T>);

impl<T> Default for NotDecoded<T> {
    fn default() -> Self {
        NotDecoded(PhantomData)
    }
}

impl<'de, T> Deserialize<'de> for NotDecoded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unseen<T>(PhantomData<T>);

        impl<T> Visitor<'_> for Unseen<T> {
            type Value = NotDecoded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_unit<E: Error>(self) -> Result<NotDecoded<T>, E> {
                Ok(NotDecoded::default())
            }
        }

        deserializer.deserialize_newtype_struct(NOT_DECODED, Unseen(PhantomData))
    }
}

/// What the format says nothing more about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Anything {}

/// The description of a section that is one `T`, or a map of named ones. It is not decoded as a
/// whole.
pub(crate) struct OneOrNamed<T>(PhantomData<T>);

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
pub(crate) struct NameMap<T>(pub(crate) Vec<(Spanned<String>, T)>);

impl<T> Default for NameMap<T> {
    fn default() -> Self {
        NameMap(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = NameMap<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(NameMap(entries))
            }
        }

        deserializer.deserialize_map(Map(PhantomData))
    }
}

/// A map of names, or a list of maps that hold their `name` or of what else has one. In the order
/// of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MapOrList<T, I = T> {
    Map(NameMap<Option<T>>),
    List(Vec<Spanned<I>>),
}

impl<'de, T: Deserialize<'de>, I: Deserialize<'de>> Deserialize<'de> for MapOrList<T, I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T, I>(PhantomData<(T, I)>);

        impl<'de, T: Deserialize<'de>, I: Deserialize<'de>> Visitor<'de> for Either<T, I> {
            type Value = MapOrList<T, I>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map or a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(MapOrList::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(MapOrList::Map(NameMap(entries)))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}
