//! Reads JSON that says each thing once. Of two members of the same name engines take one, the other, or
//! parts of both; which of them they took is not known here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value without two members of exactly the same name in one object.
pub(super) struct UnambiguousValue(pub(super) Value);

impl<'de> Deserialize<'de> for UnambiguousValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ValueVisitor)
            .map(UnambiguousValue)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).map(Value::Number);
        number.ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(UnambiguousValue(value)) = input.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = input.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("it has {name:?} twice")));
            }
            let UnambiguousValue(value) = input.next_value()?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Whether engines take `key` for the member `name`, which is ASCII: by Go's rules, in whatever case, and
/// the two other letters that are those of ASCII in another case.
pub(super) fn is_member(key: &str, name: &str) -> bool {
    let mut letters = name.chars();
    key.chars().all(|letter| {
        let letter = match letter {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other,
        };
        letters
            .next()
            .is_some_and(|of_name| of_name.eq_ignore_ascii_case(&letter))
    }) && letters.next().is_none()
}
