//! Sizes as people type them.

/// Reads `50G`, `512M`, `1T`, or bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no size; write it like 50G, 512M or 1T");
    let upper = text.trim().to_ascii_uppercase();
    let upper = upper
        .strip_suffix("IB")
        .or(upper.strip_suffix('B'))
        .unwrap_or(&upper);
    let digits = upper.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match upper.get(digits.len()..) {
        Some("") => 0,
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        Some("T") => 40,
        _ => return Err(bad()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| bad())?;
    let size = number.checked_mul(1 << shift).ok_or_else(bad)?;
    // No file of a usual file system is larger.
    if size <= 8 << 40 {
        Ok(size)
    } else {
        Err(format!("`{text}` is more than 8T"))
    }
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("50G", Some(50 << 30)),
            ("50g", Some(50 << 30)),
            ("50GiB", Some(50 << 30)),
            ("512MB", Some(512 << 20)),
            ("4096", Some(4096)),
            ("0", Some(0)),
            ("8T", Some(8 << 40)),
            ("9T", None),
            ("", None),
            ("G", None),
            ("-1", None),
            ("1.5G", None),
            ("1GG", None),
            ("99999999999999999999G", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }
}
