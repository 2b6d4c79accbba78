//! What packages say of their licences, as SPDX has it.

use spdx::{ParseMode, exception_id, imprecise_license_id, license_id};

/// Names of Yocto's that mean what SPDX calls by another name.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("GPLv2+", "GPL-2.0-or-later"),
    ("GPLv3+", "GPL-3.0-or-later"),
    ("LGPLv2+", "LGPL-2.0-or-later"),
    ("LGPLv2.1+", "LGPL-2.1-or-later"),
    ("LGPLv3+", "LGPL-3.0-or-later"),
];

/// An SPDX expression for what a package says: `&` and `|` are Yocto's words for `AND` and `OR`, and
/// what SPDX has no name for is a `LicenseRef-`. `None` where it says nothing.
pub(crate) fn expression(stated: &str) -> Option<String> {
    let mut words = Vec::new();
    for word in words_of(stated) {
        words.push(match word.to_ascii_uppercase().as_str() {
            "&" | "&&" | "AND" => "AND".to_owned(),
            "|" | "||" | "OR" => "OR".to_owned(),
            "WITH" => "WITH".to_owned(),
            "(" | ")" => word,
            _ => name(&word),
        });
    }
    if words.is_empty() {
        return None;
    }
    let text = words.join(" ").replace("( ", "(").replace(" )", ")");
    match spdx::Expression::parse_mode(&text, ParseMode::STRICT) {
        Ok(_) => Some(text),
        // Words without an operator between them are one name.
        Err(_) => Some(reference(stated)),
    }
}

fn words_of(stated: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in stated.chars() {
        match c {
            '(' | ')' | '&' | '|' => words.extend([c.to_string(), String::new()]),
            c if c.is_whitespace() => words.push(String::new()),
            c => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn name(word: &str) -> String {
    if license_id(word).is_some() || exception_id(word).is_some() || word.starts_with("LicenseRef-")
    {
        return word.to_owned();
    }
    let other = OTHER_NAMES.iter().find(|(name, _)| *name == word);
    if let Some((_, name)) = other {
        return (*name).to_owned();
    }
    match imprecise_license_id(word) {
        Some((id, length)) if length == word.len() => id.name.to_owned(),
        _ => reference(word),
    }
}

fn reference(text: &str) -> String {
    let mut name = String::from("LicenseRef-");
    for c in text.trim().chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    match name.trim_end_matches('-') {
        "LicenseRef" => "LicenseRef-unnamed".to_owned(),
        name => name.to_owned(),
    }
}

/// Every `LicenseRef-` of an expression.
pub(crate) fn references(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split([' ', '(', ')']);
    words.filter(|word| word.starts_with("LicenseRef-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packages_say_becomes_an_expression() {
        for (stated, expected) in [
            ("MIT", "MIT"),
            ("GPL-2.0-only & MIT", "GPL-2.0-only AND MIT"),
            ("(MIT|Apache-2.0)&Zlib", "(MIT OR Apache-2.0) AND Zlib"),
            ("GPLv2+", "GPL-2.0-or-later"),
            (
                "GPL-2.0-only WITH Classpath-exception-2.0",
                "GPL-2.0-only WITH Classpath-exception-2.0",
            ),
            ("CLOSED", "LicenseRef-CLOSED"),
            ("MIT & bzip2-1.0.4", "MIT AND LicenseRef-bzip2-1.0.4"),
            ("Our own terms, 2024", "LicenseRef-Our-own-terms-2024"),
            ("MIT &", "LicenseRef-MIT"),
            ("§", "LicenseRef-unnamed"),
        ] {
            assert_eq!(expression(stated).as_deref(), Some(expected), "{stated}");
        }
        assert_eq!(expression("  "), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_expression(text in ".{1,40}") {
            if let Some(expression) = expression(&text) {
                spdx::Expression::parse_mode(&expression, ParseMode::STRICT).unwrap();
            }
        }
    }
}
