//! What plain scalars mean in the YAML 1.2 core schema.

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Decimal, `0o` octal or `0x` hexadecimal.
pub(super) fn unsigned(text: &str) -> Option<u64> {
    let digits = |text: &str, radix| {
        // from_str_radix would take a sign.
        let plain = text.chars().all(|c| c.is_digit(radix));
        plain.then(|| u64::from_str_radix(text, radix).ok())?
    };
    if let Some(octal) = text.strip_prefix("0o") {
        digits(octal, 8)
    } else if let Some(hex) = text.strip_prefix("0x") {
        digits(hex, 16)
    } else {
        digits(text.strip_prefix('+').unwrap_or(text), 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_core_schema() {
        for (text, number) in [
            ("0", Some(0)),
            ("+12", Some(12)),
            ("0644", Some(644)),
            ("0o17", Some(15)),
            ("0xfF", Some(255)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("++1", None),
            ("0x+1", None),
            ("0x", None),
            ("+", None),
            ("", None),
            ("1_000", None),
            ("1.0", None),
            ("1e3", None),
        ] {
            assert_eq!(unsigned(text), number, "{text}");
        }
    }
}
