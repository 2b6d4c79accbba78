//! Lines as YAML has them: a line feed ends one, a carriage return does, and so do both in a row.

/// The first byte of the line that holds the byte `at`.
pub(crate) fn start(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    // In the middle of an end of a line that has two bytes.
    let inside = before.ends_with('\r') && text.get(at..).is_some_and(|t| t.starts_with('\n'));
    let before = if inside {
        before.strip_suffix('\r').unwrap_or(before)
    } else {
        before
    };
    before.rfind(['\n', '\r']).map_or(0, |end| end + 1)
}

/// The line that begins with the byte `from`, without its end.
pub(crate) fn content(text: &str, from: usize) -> &str {
    let rest = text.get(from..).unwrap_or_default();
    rest.split(['\n', '\r']).next().unwrap_or_default()
}

/// The line and the column (in characters) of the byte `at`; both from 1.
pub(crate) fn place(text: &str, at: usize) -> (u32, u32) {
    let from = start(text, at);
    let lines = text.get(..from).unwrap_or_default();
    let ends = lines.matches(['\n', '\r']).count() - lines.matches("\r\n").count();
    let column = text.get(from..at).unwrap_or_default().chars().count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (number(1 + ends), number(1 + column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_line_counts_once() {
        let text = "ä\rb\r\nc\n\nd";
        for (at, expected, shown) in [
            (0, (1, 1), "ä"),
            (2, (1, 2), "ä"),
            (3, (2, 1), "b"),
            (4, (2, 2), "b"),
            (5, (2, 3), "b"),
            (6, (3, 1), "c"),
            (8, (4, 1), ""),
            (9, (5, 1), "d"),
            (10, (5, 2), "d"),
            (99, (5, 1), "d"),
        ] {
            assert_eq!(place(text, at), expected, "{at}");
            assert_eq!(content(text, start(text, at)), shown, "{at}");
        }
    }
}
