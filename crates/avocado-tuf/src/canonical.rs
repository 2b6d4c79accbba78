//! The bytes that a signature covers, made from JSON as it was received.
//!
//! What a server sends is signed by nobody until its signature was checked, and a tree of it can take
//! a hundred times its size. So it is read where it lies: beyond the text and the result, four bytes
//! are needed for each member of an object.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::de::Error as _;
use serde::de::IgnoredAny;

use crate::metadata_error::MetadataError;

/// How many values may lie in each other.
const DEPTH: usize = 126;

/// JSON that is well-formed, as text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JsonText<'a>(&'a str);

impl<'a> JsonText<'a> {
    /// Checks that it is well-formed, without making anything of it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, MetadataError> {
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        serde_json::from_slice::<IgnoredAny>(bytes)?;
        // Places in it are kept as 32 bits.
        u32::try_from(text.len()).map_err(|_| malformed("it is too long"))?;
        Ok(JsonText(text))
    }

    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }

    /// The value of the one member `name`, if it is an object that has it.
    pub(crate) fn member(self, name: &str) -> Result<JsonText<'a>, MetadataError> {
        let mut reader = Reader::new(self.0);
        let mut found = None;
        for start in reader.members()? {
            reader.at = start as usize;
            let is_it = reader.key()? == name;
            let value = reader.value();
            if is_it && found.replace(value).is_some() {
                return Err(malformed(&format!("`{name}` is there twice")));
            }
        }
        let found = found.ok_or_else(|| malformed(&format!("`{name}` is missing")))?;
        Ok(JsonText(found))
    }

    /// Its canonical form: see [`avocado_manifest::canonical_json`]. Of two members of one name the
    /// last counts.
    pub(crate) fn canonical(self) -> Result<Vec<u8>, MetadataError> {
        let mut out = Vec::with_capacity(self.0.len());
        Reader::new(self.0).write(0, &mut out)?;
        Ok(out)
    }
}

/// Goes through JSON that is known to be well-formed. What is not only ends early.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader { text, at: 0 }
    }

    fn write(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), MetadataError> {
        if depth > DEPTH {
            return Err(malformed("it is nested too deeply"));
        }
        match self.peek() {
            Some(b'{') => self.write_object(depth, out),
            Some(b'[') => {
                out.push(b'[');
                self.at += 1;
                while let Some(next) = self.peek().filter(|next| *next != b']') {
                    if next == b',' {
                        self.at += 1;
                        out.push(b',');
                    }
                    self.write(depth + 1, out)?;
                }
                self.at += 1;
                out.push(b']');
                Ok(())
            }
            Some(b'"') => {
                let text = decoded(self.value())?;
                write_string(&text, out);
                Ok(())
            }
            _ => write_scalar(self.value(), out),
        }
    }

    fn write_object(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), MetadataError> {
        let mut members = self.members()?;
        let end = self.at;
        // UTF-8 sorts as its code points do. Equal names stay in their order, and no memory is needed.
        members.sort_unstable_by(|a, b| self.compare(*a, *b).then(a.cmp(b)));
        out.push(b'{');
        let mut first = true;
        for (at, start) in members.iter().enumerate() {
            let next = members.get(at + 1);
            if next.is_some_and(|next| self.compare(*start, *next) == Ordering::Equal) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            self.at = *start as usize;
            write_string(&self.key()?, out);
            out.push(b':');
            self.write(depth + 1, out)?;
        }
        out.push(b'}');
        self.at = end;
        Ok(())
    }

    /// Where the members of the object begin that is next, and goes behind it.
    fn members(&mut self) -> Result<Vec<u32>, MetadataError> {
        let mut members = Vec::new();
        if self.peek() != Some(b'{') {
            return Err(malformed("it is no object"));
        }
        self.at += 1;
        while let Some(next) = self.peek().filter(|next| *next != b'}') {
            if next == b',' {
                self.at += 1;
            }
            self.peek();
            members.push(u32::try_from(self.at).unwrap_or(u32::MAX));
            self.key()?;
            self.value();
        }
        self.at += 1;
        Ok(members)
    }

    fn compare(&self, a: u32, b: u32) -> Ordering {
        let name = |start: u32| {
            let mut reader = Reader::new(self.text);
            reader.at = start as usize;
            // Each was read before.
            reader.key().unwrap_or_default()
        };
        name(a).cmp(&name(b))
    }

    /// The name of the member that is next, and goes before its value.
    fn key(&mut self) -> Result<Cow<'a, str>, MetadataError> {
        let key = decoded(self.value())?;
        if self.peek() == Some(b':') {
            self.at += 1;
        }
        Ok(key)
    }

    /// The value that is next as it is written, and goes behind it.
    fn value(&mut self) -> &'a str {
        self.peek();
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.byte() {
                Some(b'"') => self.skip_string(),
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                Some(_) if depth > 0 => self.at += 1,
                Some(_) => self.skip_scalar(),
                None => break,
            }
            if depth == 0 {
                break;
            }
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.byte() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
    }

    fn skip_scalar(&mut self) {
        // One at least, so that there is an end.
        self.at += 1;
        while self
            .byte()
            .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        {
            self.at += 1;
        }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// A string without its quotes and escapes.
fn decoded(written: &str) -> Result<Cow<'_, str>, MetadataError> {
    let inner = written.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    match inner {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => Ok(Cow::Owned(serde_json::from_slice::<String>(
            written.as_bytes(),
        )?)),
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn write_scalar(written: &str, out: &mut Vec<u8>) -> Result<(), MetadataError> {
    let integer = written.parse::<i64>().is_ok() || written.parse::<u64>().is_ok();
    match written {
        "null" | "true" | "false" => {}
        // Minus nought is a fraction to a parser of JSON.
        _ if integer && written != "-0" => {}
        _ => return Err(MetadataError::Number),
    }
    out.extend_from_slice(written.as_bytes());
    Ok(())
}

fn malformed(why: &str) -> MetadataError {
    MetadataError::Json(serde_json::Error::custom(why))
}

#[cfg(test)]
mod tests {
    use avocado_manifest::canonical_json;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn canonical(text: &str) -> Result<String, MetadataError> {
        let bytes = JsonText::parse(text.as_bytes())?.canonical()?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn sorted_unescaped_and_without_white_space() {
        for (text, expected) in [
            (
                " { \"b\" : [ 1 , -2 ,\n{ } , [ ] ] , \"a\" : null } ",
                r#"{"a":null,"b":[1,-2,{},[]]}"#,
            ),
            (
                r#"{"é": 1, "z": 2, "Z": 3, "\u005a1": 4}"#,
                r#"{"Z":3,"Z1":4,"z":2,"é":1}"#,
            ),
            (r#""\u0061\n\"\\\/\ud83d\ude00""#, "\"a\n\\\"\\\\/😀\""),
            // Of two members the last counts, however they are written.
            (
                r#"{"a": 1, "b": 2, "\u0061": {"x": 3}}"#,
                r#"{"a":{"x":3},"b":2}"#,
            ),
            (
                r#"{"a": "}", "b": "\\", "c": "]\""}"#,
                r#"{"a":"}","b":"\\","c":"]\""}"#,
            ),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("true", "true"),
            ("[]", "[]"),
        ] {
            assert_eq!(canonical(text).unwrap(), expected, "{text}");
        }
        for bad in ["1.5", "-0", "1e3", "18446744073709551616", "[0.0]"] {
            assert!(
                matches!(canonical(bad), Err(MetadataError::Number)),
                "{bad}"
            );
        }
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(canonical(&deep(DEPTH + 1)).is_ok());
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "nul",
            "01",
            "\"\n\"",
            "\"\\ud800\"",
            "[1] 2",
            "{,}",
            "{\"\\ud800\": 1}",
            &deep(DEPTH + 2),
            &"[".repeat(1 << 20),
        ] {
            assert!(
                matches!(canonical(bad), Err(MetadataError::Json(_))),
                "{bad:.20}"
            );
        }
        assert!(JsonText::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn members_by_name() {
        let text = JsonText::parse(br#" {"a": [1, {"b": 2}], "\u0063": "x" } "#).unwrap();
        assert_eq!(text.member("a").unwrap().as_str(), r#"[1, {"b": 2}]"#);
        assert_eq!(text.member("c").unwrap().as_str(), r#""x""#);
        assert!(text.member("b").is_err());
        assert!(text.member("a").unwrap().member("a").is_err());
        let twice = JsonText::parse(br#"{"a": 1, "a": 2}"#).unwrap();
        assert!(twice.member("a").is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,4}|[\\\\\"/\n\u{1}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("\\PC{0,3}", inner), 0..5)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_same_as_from_a_tree(value in any_json(), pretty: bool) {
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                serde_json::to_string(&value).unwrap()
            };
            let expected = canonical_json(&value).unwrap();
            prop_assert_eq!(canonical(&text).unwrap().into_bytes(), expected);
            let whole = json!({"signed": value}).to_string();
            let signed = JsonText::parse(whole.as_bytes()).unwrap().member("signed").unwrap();
            prop_assert_eq!(signed.as_str(), serde_json::to_string(&value).unwrap());
        }

        #[test]
        fn no_text_is_a_panic(text in "[\\[\\]{}:,\"\\\\ a1-]*|\\PC*") {
            let _ = canonical(&text);
            let mut reader = Reader::new(&text);
            let _ = reader.write(0, &mut Vec::new());
            let _ = reader.members();
        }
    }
}
