//! Text from a file, made fit for a message.

/// Text from a file for use in a message: between backquotes, on one line, at most 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(60)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The arguments that a text stands for: it is split at spaces, except between quotation marks.
#[must_use]
pub fn split_arguments(text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut current: Option<String> = None;
    let mut is_quoted = false;
    for c in text.chars() {
        if c == '"' {
            is_quoted = !is_quoted;
            current.get_or_insert_default();
        } else if c.is_whitespace() && !is_quoted {
            arguments.extend(current.take());
        } else {
            current.get_or_insert_default().push(c);
        }
    }
    arguments.extend(current);
    arguments
}

#[cfg(test)]
mod tests {
    use super::split_arguments;

    #[test]
    fn arguments_end_at_spaces_that_are_not_quoted() {
        for (text, expected) in [
            ("-v /dev:/dev", &["-v", "/dev:/dev"][..]),
            ("-e A=\"b  c\" x", &["-e", "A=b  c", "x"]),
            ("\"\" \"a", &["", "a"]),
            ("  ", &[]),
        ] {
            assert_eq!(split_arguments(text), expected, "{text}");
        }
    }
}
