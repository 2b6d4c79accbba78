//! Where something is in the text of a lock file, which is known to be JSON.

use std::collections::HashSet;

/// Deeper nothing is looked at; a reader of JSON refuses it.
const DEEPEST: u32 = 128;

/// A line and a column, in characters; both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JsonPlace {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl JsonPlace {
    fn of(bytes: &[u8], at: usize) -> Self {
        let before = bytes.get(..at).unwrap_or(bytes);
        let line = before.split(|byte| *byte == b'\n').next_back();
        let line = line.unwrap_or_default();
        JsonPlace {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(line).chars().count() + 1,
        }
    }
}

/// Behind all that is there.
pub(super) fn end_of(bytes: &[u8]) -> JsonPlace {
    JsonPlace::of(bytes, bytes.trim_ascii_end().len())
}

/// The first key that an object has twice: readers take one of both without a word.
pub(super) fn duplicate(bytes: &[u8]) -> Option<(JsonPlace, String)> {
    let mut scan = Scan::new(bytes);
    scan.value(&[]);
    let (at, key) = scan.duplicate?;
    Some((JsonPlace::of(bytes, at), key))
}

/// The value that this path leads to, or as far as it leads. Locks of older versions have other paths:
/// `extensions/app` for `extensions`, `app`, and no `packages`.
pub(super) fn place_of(bytes: &[u8], path: &[String]) -> JsonPlace {
    let mut scan = Scan::new(bytes);
    scan.value(path);
    JsonPlace::of(bytes, scan.found)
}

struct Scan<'b> {
    bytes: &'b [u8],
    at: usize,
    duplicate: Option<(usize, String)>,
    /// Where the path led so far.
    found: usize,
    /// How much of the path was left there.
    left: usize,
    depth: u32,
}

impl<'b> Scan<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        Scan {
            bytes,
            at: 0,
            duplicate: None,
            found: 0,
            left: usize::MAX,
            depth: 0,
        }
    }

    fn peek(&mut self) -> u8 {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied().unwrap_or_default()
    }

    /// Goes over a value, to which this much of the path leads on.
    fn value(&mut self, path: &[String]) {
        match self.peek() {
            b'{' | b'[' if self.depth == DEEPEST => self.at = self.bytes.len(),
            kind @ (b'{' | b'[') => {
                self.depth += 1;
                if kind == b'{' {
                    self.object(path);
                } else {
                    self.array(path);
                }
                self.depth -= 1;
            }
            b'"' => {
                self.reached(self.at, path);
                self.string();
            }
            _ => {
                self.reached(self.at, path);
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let end = rest.iter().position(|byte| b",]} \t\n\r".contains(byte));
                // What is no JSON is looked through to its end all the same.
                self.at += end.unwrap_or(rest.len()).max(1);
            }
        }
    }

    fn reached(&mut self, at: usize, left: &[String]) {
        if left.len() < self.left {
            self.left = left.len();
            self.found = at;
        }
    }

    fn object(&mut self, path: &[String]) {
        self.reached(self.at, path);
        self.at += 1;
        let mut keys = HashSet::new();
        while self.peek() == b'"' {
            let start = self.at;
            let key = self.string();
            self.peek();
            self.at += 1;
            match rest_behind(path, &key) {
                Some(rest) => self.value(rest),
                // It leads nowhere from here.
                None => self.value_beside(),
            }
            if !keys.insert(key.clone()) && self.duplicate.is_none() {
                self.duplicate = Some((start, key));
            }
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn array(&mut self, path: &[String]) {
        self.reached(self.at, path);
        self.at += 1;
        let mut nth = 0_usize;
        while !matches!(self.peek(), b']' | 0) {
            match path.split_first() {
                Some((first, rest)) if *first == nth.to_string() => self.value(rest),
                _ => self.value_beside(),
            }
            nth += 1;
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    /// Goes over a value that the path does not lead to.
    fn value_beside(&mut self) {
        let (left, found) = (self.left, self.found);
        self.left = 0;
        self.value(&[]);
        (self.left, self.found) = (left, found);
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        serde_json::from_slice(text).unwrap_or_default()
    }
}

/// What is left of a path behind a key of an object.
fn rest_behind<'p>(path: &'p [String], key: &str) -> Option<&'p [String]> {
    let (first, rest) = path.split_first()?;
    if first == key {
        return Some(rest);
    }
    match (key.split_once('/'), rest.split_first()) {
        (Some((section, name)), Some((second, rest))) if section == first && name == second => {
            Some(rest)
        }
        _ if first == "packages" => rest_behind(rest, key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_leads_to_its_value() {
        let text =
            "{\n \"a\": {\"é\": [1, {\"b\": \"x\\\"y\"}]},\n \"extensions/app\": {\"c\": 5}\n}";
        for (path, token) in [
            (&["a", "é", "1", "b"][..], "\"x\\\"y\""),
            (&["a", "é", "0"], "1,"),
            (&["a", "é", "9"], "[1"),
            (&["a", "nothing"], "{\"é\""),
            (&["extensions", "app", "packages", "c"], "5"),
            (&["nothing"], "{\n"),
            (&[], "{\n"),
        ] {
            let at = text.find(token).unwrap();
            let expected = JsonPlace::of(text.as_bytes(), at);
            let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(place_of(text.as_bytes(), &path), expected, "{path:?}");
        }
    }

    #[test]
    fn the_first_key_that_is_there_twice_is_found() {
        for (text, expected) in [
            (
                "{\"a\": 1, \"b\": {\"c\": 1,\n\"c\": 2}, \"a\": 3}",
                Some((2, 1, "c")),
            ),
            ("{\"a\": {\"a\": 1}, \"b\": [{\"a\": 1}, {\"a\": 1}]}", None),
            ("{\"a\": 1, \"\\u0061\": 2}", Some((1, 10, "a"))),
            ("[]", None),
        ] {
            let found = duplicate(text.as_bytes());
            let found = found
                .as_ref()
                .map(|(at, key)| (at.line, at.column, key.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_looked_through(bytes in proptest::collection::vec(
            prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b'"'), Just(b','), any::<u8>()], 0..60,
        )) {
            duplicate(&bytes);
            place_of(&bytes, &["a".to_owned()]);
        }
    }
}
