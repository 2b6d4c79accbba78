//! Where lines begin and end, and how this file ends them.

/// The first byte of the line that holds `at`.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.rfind('\n').map_or(0, |newline| newline + 1)
}

/// The first byte behind the line that holds `at`, its line end included.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    let newline = text.get(at..).and_then(|rest| rest.find('\n'));
    newline.map_or(text.len(), |newline| at + newline + 1)
}

/// What is before `at` in its line, where that is nothing but space.
pub(super) fn indent(text: &str, at: usize) -> Option<&str> {
    let before = text.get(line_start(text, at)..at)?;
    let before = before.strip_prefix('\u{feff}').unwrap_or(before);
    before.chars().all(|c| c == ' ').then_some(before)
}

/// How the lines of a file end.
pub(super) fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text.get(..at).is_some_and(|line| line.ends_with('\r')) => "\r\n",
        _ => "\n",
    }
}

/// The text with `lines` as lines of their own at `at`, where a line begins or the text ends. What
/// had no line end at its end has none afterwards.
pub(super) fn with_lines(text: &str, at: usize, lines: &[String]) -> String {
    let newline = newline(text);
    let (before, after) = text.split_at(at);
    let lines = lines.join(newline);
    if before.is_empty() || before.ends_with('\n') {
        format!("{before}{lines}{newline}{after}")
    } else {
        format!("{before}{newline}{lines}{after}")
    }
}

/// The text without the lines that hold the bytes from `start` to `end`.
pub(super) fn without_lines(text: &str, start: usize, end: usize) -> String {
    let (from, to) = (line_start(text, start), line_end(text, end));
    let (mut before, after) = (text.get(..from).unwrap_or(""), text.get(to..).unwrap_or(""));
    if after.is_empty() && !text.ends_with('\n') {
        before = before.strip_suffix('\n').unwrap_or(before);
        before = before.strip_suffix('\r').unwrap_or(before);
    }
    format!("{before}{after}")
}

/// A key of a map as it is written: in quotes where it would be something else without.
pub(super) fn key(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    if is_plain {
        text.to_owned()
    } else {
        // JSON text is YAML text.
        serde_json::Value::from(text).to_string()
    }
}
