//! What an operating system, or an extension, says about itself: os-release and extension-release
//! files, `KEY=value` by lines. Where a key is there more than once, the last one counts, as
//! os-release(5) has it.

/// The keys of a text with their values, without the quotes around them, in order.
pub fn assignments(text: &str) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key, unquoted(value.trim())))
}

/// The value of a key in a text; none where it is empty.
pub fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, value) = assignments(text).rfind(|(k, _)| *k == key)?;
    (!value.is_empty()).then_some(value)
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_an_empty_one_is_none() {
        let text = "ID=\"avocado\"\nEMPTY=\n# TWICE=no\nTWICE=a\n  TWICE='b'  \nGONE=x\nGONE=\n\
                    XID=other\n";
        for (key, expected) in [
            ("ID", Some("avocado")),
            ("TWICE", Some("b")),
            ("# TWICE", None),
            ("EMPTY", None),
            ("GONE", None),
            ("NONE", None),
        ] {
            assert_eq!(value(text, key), expected, "{key}");
        }
    }

    #[test]
    fn quotes_come_in_pairs() {
        for (value, inner) in [
            ("\"a b\"", "a b"),
            ("'a'", "a"),
            ("\"a'", "\"a'"),
            ("\"", "\""),
            ("\"\"", ""),
            ("a", "a"),
        ] {
            assert_eq!(unquoted(value), inner, "{value}");
        }
    }
}
