//! The bytes that stand for a JSON value: a TUF signature covers them, and a runtime's id is their
//! digest.

use serde_json::Value;

/// The value holds a number that canonical JSON cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a number that is not an integer of 64 bits has no canonical form")]
pub struct CanonicalJsonError;

/// The canonical bytes of `value`: keys sorted by code point, only `"` and `\` escaped, no white
/// space, as every signer of TUF metadata in the field (python-securesystemslib, go-tuf) makes them.
///
/// Strings stay as they are. Without Unicode normalisation, two values have the same bytes only if
/// they are the same, whereas `e` + U+0301 and `é` would become one.
///
/// # Errors
/// When a number in it is no integer of 64 bits.
pub fn canonical_json(value: &Value) -> Result<Vec<u8>, CanonicalJsonError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

// The recursion is bounded: the JSON parser refuses more than 128 levels.
fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalJsonError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) if n.is_i64() || n.is_u64() => {
            out.extend_from_slice(n.to_string().as_bytes());
        }
        Value::Number(_) => return Err(CanonicalJsonError),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            // UTF-8 sorts as its code points do.
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string(key, out);
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_the_reference_implementation_writes_it() {
        let cases = [
            (
                json!({"b": 1, "a": [true, false, null]}),
                r#"{"a":[true,false,null],"b":1}"#,
            ),
            (json!({"é": 1, "z": 2, "Z": -3}), r#"{"Z":-3,"z":2,"é":1}"#),
            (json!("a\"b\\c\n\u{1}/"), "\"a\\\"b\\\\c\n\u{1}/\""),
            // Decomposed stays decomposed.
            (json!("e\u{301}"), "\"e\u{301}\""),
            (json!(u64::MAX), "18446744073709551615"),
            (json!({}), "{}"),
        ];
        for (value, expected) in cases {
            assert_eq!(
                String::from_utf8(canonical_json(&value).unwrap()).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn a_fraction_has_no_canonical_form() {
        assert_eq!(
            canonical_json(&json!({"a": [1.5]})),
            Err(CanonicalJsonError)
        );
        let huge: Value = serde_json::from_str("123456789012345678901234567890").unwrap();
        assert_eq!(canonical_json(&huge), Err(CanonicalJsonError));
    }
}
