//! JSON whose numbers are the text that was read: a lock file carries numbers only under keys of
//! later versions, and those come out as they went in, however large or precise they are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

use super::document::Misfit;

/// The deepest nesting that is read and written.
const MAX_DEPTH: usize = 100;
const TOO_DEEP: &str = "nested less than 100 levels deep";

/// How the outermost value is called.
const DOCUMENT: &str = "the document";

/// An object. Its keys are sorted, as they are written.
pub(super) type Map = BTreeMap<String, Json>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Map(Map),
}

impl Json {
    /// Reads a value that has the shape of JSON. What that says nothing about may still be wrong:
    /// text that stands for no character, nesting without end.
    pub(super) fn read(raw: &RawValue) -> Result<Self, Misfit> {
        read(raw, "", 0)
    }

    /// How many levels there are below it.
    fn height(&self) -> usize {
        match self {
            Json::List(items) => items.iter().map(|item| 1 + item.height()).max(),
            Json::Map(map) => map.values().map(|value| 1 + value.height()).max(),
            _ => None,
        }
        .unwrap_or(0)
    }

    pub(super) fn is_null(&self) -> bool {
        *self == Json::Null
    }

    pub(super) fn as_u64(&self) -> Option<u64> {
        match self {
            Json::Number(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::Text(text.to_owned())
    }
}

impl FromIterator<(String, Json)> for Json {
    fn from_iter<I: IntoIterator<Item = (String, Json)>>(entries: I) -> Self {
        Json::Map(entries.into_iter().collect())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => to.serialize_unit(),
            Json::Bool(value) => to.serialize_bool(*value),
            Json::Number(text) => RawValue::from_string(text.clone())
                .map_err(S::Error::custom)?
                .serialize(to),
            Json::Text(text) => to.serialize_str(text),
            Json::List(items) => to.collect_seq(items),
            Json::Map(map) => to.collect_map(map),
        }
    }
}

/// Makes sure that a document can be read again after a migration, which nests.
pub(super) fn check_depth(document: &Map) -> Result<(), Misfit> {
    match document.values().any(|value| value.height() >= MAX_DEPTH) {
        false => Ok(()),
        true => Err(Misfit {
            at: DOCUMENT.to_owned(),
            expected: TOO_DEEP,
        }),
    }
}

fn read(raw: &RawValue, at: &str, depth: usize) -> Result<Json, Misfit> {
    let wrong = |expected| Misfit {
        at: match at {
            "" => DOCUMENT.to_owned(),
            at => at.to_owned(),
        },
        expected,
    };
    if depth > MAX_DEPTH {
        return Err(wrong(TOO_DEEP));
    }
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let entries: BTreeMap<String, &RawValue> =
                parse(text).ok_or_else(|| wrong("an object with keys of valid text"))?;
            let mut map = Map::new();
            for (key, raw) in entries {
                let at = match at {
                    "" => Cow::Borrowed(key.as_str()),
                    at => Cow::Owned(format!("{at}.{key}")),
                };
                let value = read(raw, &at, depth + 1)?;
                map.insert(key, value);
            }
            Json::Map(map)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = parse(text).ok_or_else(|| wrong("a list"))?;
            let items = items.into_iter().map(|raw| read(raw, at, depth + 1));
            Json::List(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Json::Text(parse(text).ok_or_else(|| wrong("valid text"))?),
        Some(b't') => Json::Bool(true),
        Some(b'f') => Json::Bool(false),
        Some(b'n') => Json::Null,
        _ => Json::Number(text.to_owned()),
    })
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Json, Misfit> {
        Json::read(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_is_read_is_written() {
        for text in [
            r#"{"a":[1,-0,1.50,1E+400,123456789012345678901234567890,0.1e-999],"b":{},"c":[]}"#,
            r#"[null,true,false,"\"\\\n",{"":{"a":[[]]}}]"#,
            "0",
        ] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
        // In one way only.
        let value = read(" { \"b\" : 1 , \"a\" : \"\\u00e4\", \"b\": 2 } ").unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"a":"ä","b":2}"#);
    }

    #[test]
    fn what_cannot_be_read_has_a_place() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
        for (text, at) in [
            (r#"{"a":{"b":["\ud800"]}}"#, "a.b"),
            (r#"{"a":{"\ud800":1}}"#, "a"),
            ("\"\\ud800\"", "the document"),
            (&deep, "a"),
        ] {
            assert_eq!(read(text).unwrap_err().at, at, "{text}");
        }
    }
}
