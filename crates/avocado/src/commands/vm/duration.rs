//! Times as people type them.

use std::time::Duration;

/// Reads `90s`, `30m`, `2h`, `1h30m`, `1d`, or seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no time; write it like 90s, 30m, 2h or 1h30m");
    let mut rest = text.trim();
    if let Ok(secs) = rest.parse::<u32>() {
        return positive(secs.into()).ok_or_else(bad);
    }
    let mut secs: u64 = 0;
    let mut longest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let number: u32 = number.parse().map_err(|_| bad())?;
        let unit: u64 = match after.bytes().next() {
            Some(b'd') => 86_400,
            Some(b'h') => 3600,
            Some(b'm') => 60,
            Some(b's') => 1,
            _ => return Err(bad()),
        };
        // The larger ones come first, each once.
        if unit >= longest {
            return Err(bad());
        }
        longest = unit;
        secs += u64::from(number) * unit;
        rest = after.get(1..).unwrap_or_default();
    }
    positive(secs).ok_or_else(bad)
}

fn positive(secs: u64) -> Option<Duration> {
    (secs > 0).then(|| Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("30m", Some(1800)),
            ("2h", Some(7200)),
            ("1h30m", Some(5400)),
            ("1d1s", Some(86_401)),
            (" 5m ", Some(300)),
            ("", None),
            ("0", None),
            ("0s", None),
            ("h", None),
            ("-1s", None),
            ("1.5h", None),
            ("1m1h", None),
            ("1m1m", None),
            ("1w", None),
            ("1h30", None),
            ("5 m", None),
            ("1\u{fc}", None),
            ("99999999999999999999s", None),
        ] {
            let secs = parse_duration(text).ok().map(|time| time.as_secs());
            assert_eq!(secs, expected, "{text}");
        }
    }
}
