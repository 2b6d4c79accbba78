//! Text from tools, devices, packages and repositories, which may hold anything. On a terminal
//! such text must not move the cursor, colour the screen, reorder what stands around it, or look
//! like another text.

/// Whether a terminal would act on the character, or show nothing in its place.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Formatting without width: two texts that differ in nothing else look the same.
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
            // Marks that reorder the text around them.
            | '\u{61c}' | '\u{200e}' | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            // Other ends of a line.
            | '\u{2028}' | '\u{2029}'
        )
}

/// A line that a tool printed for a person: its colours and cursor movements, and every other
/// unsafe character, are left out; a tab becomes four spaces.
pub fn strip(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // Parameters and intermediates, up to the final byte. A sequence that is broken
                // off ends before the next unsafe character, which is looked at on its own.
                while chars.peek().is_some_and(|c| (' '..='?').contains(c)) {
                    chars.next();
                }
                chars.next_if(|c| !is_unsafe(*c));
            }
            '\t' => out.push_str("    "),
            c if is_unsafe(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// A value in one line: unsafe characters are written as escapes (`\n`, `\u{202e}`), so that two
/// values that differ also look different.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// As [`escape`], for a text of several lines, which stay lines.
pub fn escape_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(escape).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_tool_cannot_move_the_cursor() {
        for (line, text) in [
            ("plain ä", "plain ä"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("50%\rdone", "50%done"),
            ("a\tb", "a    b"),
            ("\u{1b}]0;title\u{7}x", "]0;titlex"),
            ("\u{1b}[", ""),
            ("\u{1b}[1;\u{1b}[2Jx", "x"),
            ("\u{9b}2J", "2J"),
            ("a\u{202e}b", "ab"),
            ("a\u{2066}\u{200f}\u{61c}b", "ab"),
            ("a\u{200b}\u{feff}\u{ad}b", "ab"),
            ("a\u{2028}b", "ab"),
        ] {
            assert_eq!(strip(line), text, "{line:?}");
        }
    }

    #[test]
    fn a_value_shows_what_it_hides() {
        for (value, text) in [
            ("plain ä", "plain ä"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("cod\u{202e}gpj", "cod\\u{202e}gpj"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("a\u{2067}b\u{9b}", "a\\u{2067}b\\u{9b}"),
        ] {
            assert_eq!(escape(value), text, "{value:?}");
        }
        assert_eq!(
            escape_lines("one\r\ntwo\u{7}\n\nend\n"),
            "one\ntwo\\u{7}\n\nend"
        );
    }
}
