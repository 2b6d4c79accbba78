//! Arguments in the way of `getopt_long`.

use std::collections::BTreeMap;

/// An option: its letter, its name, and whether a value follows.
pub(super) type OptionRule = (char, &'static str, bool);

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    options: BTreeMap<&'static str, String>,
    pub(super) rest: Vec<String>,
}

impl Arguments {
    /// Understands `arguments`; the error says what cannot be.
    pub(super) fn read(rules: &[OptionRule], arguments: &[String]) -> Result<Self, String> {
        let mut found = Arguments::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                let value = words.next().cloned();
                value.ok_or_else(|| format!("`{word}` wants a value"))
            };
            if word == "--" {
                found.rest.extend(words.cloned());
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, given) = match long.split_once('=') {
                    Some((name, given)) => (name, Some(given.to_owned())),
                    None => (long, None),
                };
                let rule = rules.iter().find(|(_, known, _)| *known == name);
                let (_, name, has_value) = rule.ok_or_else(|| unknown(word))?;
                let given = match (has_value, given) {
                    (true, Some(given)) => given,
                    (true, None) => value()?,
                    (false, None) => String::new(),
                    (false, Some(_)) => return Err(format!("`{word}` wants no value")),
                };
                found.options.insert(name, given);
                continue;
            }
            let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                found.rest.push(word.clone());
                continue;
            };
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                let rule = rules.iter().find(|(known, ..)| *known == letter);
                let (_, name, has_value) = rule.ok_or_else(|| unknown(word))?;
                let given = match (has_value, letters.as_str()) {
                    (false, _) => String::new(),
                    (true, "") => value()?,
                    (true, rest) => rest.to_owned(),
                };
                found.options.insert(name, given);
                if *has_value {
                    break;
                }
            }
        }
        Ok(found)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

fn unknown(word: &str) -> String {
    format!("the option `{word}` is not known")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[OptionRule] = &[('r', "system", false), ('u', "uid", true)];

    fn read(line: &str) -> Result<Arguments, String> {
        let words: Vec<String> = line.split_whitespace().map(ToOwned::to_owned).collect();
        Arguments::read(RULES, &words)
    }

    #[test]
    fn options_are_read_in_every_form() {
        for line in [
            "-r -u 7 a",
            "-ru7 a",
            "a --uid=7 --system",
            "--uid 7 -r -- a",
        ] {
            let found = read(line).unwrap();
            assert!(found.has("system"), "{line}");
            assert_eq!(found.value("uid"), Some("7"), "{line}");
            assert_eq!(found.rest, ["a"], "{line}");
        }
        for line in ["-x", "--uid", "-u", "--system=1", "--what"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
