//! How numbers, durations and foreign text are written for people.

use std::time::Duration;

/// `812 B`, `4.0 KiB`, `12.3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"KiB");
    // 1023.95 would be written as 1024.0.
    while value >= 1023.95 {
        match units.next() {
            Some(next) => unit = next,
            None => break,
        }
        value /= 1024.0;
    }
    format!("{value:.1} {unit}")
}

/// `0.3 s`, `42 s`, `3 min 05 s`, `1 h 02 min`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{}.{} s", seconds, time.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `1 step`, `2 steps`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// A line from a tool or a device without what would move the cursor or colour the screen: escape
/// sequences and control characters go, tabs become spaces.
pub(crate) fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // Parameters and intermediates, up to the final byte.
                while chars.peek().is_some_and(|c| (' '..='?').contains(c)) {
                    chars.next();
                }
                chars.next();
            }
            '\t' => out.push_str("    "),
            c if c.is_control() => {}
            // Marks that reorder the text around them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.push(c),
        }
    }
    out
}

/// A table with a line of headings; the last column is not padded.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let cells = cells.map(|cell| cell.chars().count());
        let heading = headings.get(column).map_or(0, |h| h.chars().count());
        cells.chain([heading]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_decimal_and_the_right_unit() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (1024 * 1024, "1.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations_keep_what_matters() {
        for (millis, text) in [
            (0, "0.0 s"),
            (1_290, "1.2 s"),
            (9_999, "9.9 s"),
            (10_000, "10 s"),
            (65_000, "1 min 05 s"),
            (3_720_000, "1 h 02 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        for (line, text) in [
            ("plain ä", "plain ä"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("50%\rdone", "50%done"),
            ("a\tb", "a    b"),
            ("\u{1b}]0;title\u{7}x", "]0;titlex"),
            ("\u{1b}[", ""),
            ("\u{9b}2J", "2J"),
            ("a\u{202e}b", "ab"),
        ] {
            assert_eq!(plain(line), text, "{line:?}");
        }
    }

    #[test]
    fn tables_line_up() {
        let rows = [
            vec!["a".into(), "1".into()],
            vec!["longer".into(), "".into()],
        ];
        assert_eq!(
            table(&["NAME", "N"], &rows),
            "NAME    N\na       1\nlonger\n"
        );
    }
}
