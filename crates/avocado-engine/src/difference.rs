//! In what two forms of the inputs of a task differ, for people.

use std::fmt;

use serde_json::Value;

/// How much of a value is shown.
const SHOWN: usize = 60;
/// How much of a digest tells it from others.
const DIGEST: usize = 12;

/// The first field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputDifference {
    /// Its name, with those of the fields that it is in.
    field: String,
    old: String,
    new: String,
    /// How many more differ.
    more: usize,
}

impl InputDifference {
    /// `None` where nothing differs but the form.
    pub(crate) fn between(old: &Value, new: &Value) -> Option<Self> {
        let mut first = None;
        let mut found = 0;
        walk("", Some(old), Some(new), &mut |field, old, new| {
            found += 1;
            if first.is_none() {
                first = Some(InputDifference {
                    field: field.to_owned(),
                    old: shown(old),
                    new: shown(new),
                    more: 0,
                });
            }
        });
        first.map(|first| InputDifference {
            more: found - 1,
            ..first
        })
    }
}

impl fmt::Display for InputDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.field, self.old, self.new)?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

/// Takes a field that differs, and its values; a missing one is `None`.
type Found<'f> = dyn FnMut(&str, Option<&Value>, Option<&Value>) + 'f;

/// Tells `found` of every field that differs.
fn walk(field: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Found<'_>) {
    match (old, new) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(added) {
                let field = match field {
                    "" => key.clone(),
                    outer => format!("{outer}.{key}"),
                };
                walk(&field, a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                let field = format!("{field}[{index}]");
                walk(&field, a.get(index), b.get(index), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found(field, a, b),
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "(none)".to_owned(),
        Some(Value::String(text)) if is_digest(text) => {
            text.chars().take(DIGEST).chain(['…']).collect()
        }
        Some(Value::String(text)) => cut(&Value::from(without_password(text)).to_string()),
        Some(other) => cut(&other.to_string()),
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A URL without who asks.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (authority, path) = match rest.find('/') {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(old: Value, new: Value) -> String {
        InputDifference::between(&old, &new).map_or_else(String::new, |d| d.to_string())
    }

    #[test]
    fn the_first_field_is_named_with_both_values() {
        let digest = |c: &str| c.repeat(64);
        for (old, new, expected) in [
            (
                json!({"a": 1, "b": {"c": "x"}}),
                json!({"b": {"c": "x"}, "a": 1}),
                "",
            ),
            (
                json!({"a": {"b": "x"}}),
                json!({"a": {"b": "y"}}),
                r#"a.b: "x" → "y""#,
            ),
            (json!({"a": null}), json!({"a": 1}), "a: (none) → 1"),
            (json!({}), json!({"a": true}), "a: (none) → true"),
            (
                json!({"a": {"b": 1}}),
                json!({"a": null}),
                r#"a: {"b":1} → (none)"#,
            ),
            (json!([1, 2]), json!([1, 3, 4]), "[1]: 2 → 3 (and 1 more)"),
            (
                json!({"a": digest("a")}),
                json!({"a": digest("b")}),
                "a: aaaaaaaaaaaa… → bbbbbbbbbbbb…",
            ),
            (
                json!(["http://me:secret@host/a", "\n"]),
                json!(["http://me:other@host/b", "\n"]),
                r#"[0]: "http://host/a" → "http://host/b""#,
            ),
        ] {
            assert_eq!(told(old, new), expected);
        }
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let told = told(json!("ä".repeat(1000)), json!("x"));
        assert_eq!(told, format!(": \"{}… → \"x\"", "ä".repeat(SHOWN - 1)));
    }
}
