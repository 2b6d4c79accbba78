//! Which parts of a line of a project nobody else may read: an excerpt goes into terminals and logs.

use std::ops::Range;

use crate::secrets;

/// A line without its secrets, and where the part `shown` of it is then. It is as wide as it was:
/// columns stay true.
pub(crate) fn hidden(line: &str, shown: Range<usize>) -> (String, Range<usize>) {
    let mut out = String::new();
    let (mut start, mut end) = (shown.start, shown.end);
    let mut from = 0;
    for secret in secrets(line) {
        out.push_str(&line[from..secret.start]);
        let mask = "*".repeat(line[secret.clone()].chars().count());
        let (first, last) = (out.len(), out.len() + mask.len());
        out.push_str(&mask);
        let moved = |at: usize, within: usize| {
            if at >= secret.end {
                at - secret.end + last
            } else if at > secret.start {
                within
            } else {
                at - secret.start + first
            }
        };
        // Both are still places in the line as it was, but for what is behind this secret.
        if shown.start >= secret.start {
            start = moved(shown.start, first);
        }
        if shown.end >= secret.start {
            end = moved(shown.end, last);
        }
        from = secret.end;
    }
    out.push_str(&line[from..]);
    (out, start..end.max(start))
}

/// The secrets of a line: what stands behind the key `password`, and in URLs. A reference is none.
fn secrets(line: &str) -> Vec<Range<usize>> {
    let mut found = secrets::of_urls(line);
    found.retain(|range| secrets::is_literal(&line[range.clone()]));
    for (at, key) in line.match_indices("password") {
        let value = at + key.len();
        let rest = &line[value..];
        let behind = rest.trim_start_matches(['"', '\'']).trim_start();
        let Some(text) = behind.strip_prefix(':') else {
            continue;
        };
        let text = text.trim_start();
        let start = line.len() - text.len();
        let length = match text.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let close = text[1..].find(quote);
                close.map_or(text.len(), |close| close + 2)
            }
            _ => text.find([',', '}']).unwrap_or(text.len()),
        };
        let written = &text[..length];
        let is_literal = secrets::is_literal(written.trim_matches(['"', '\'']));
        if is_literal && !written.starts_with(['#', '{', '&', '*', '|', '>']) {
            found.push(start..start + written.trim_end().len());
        }
    }
    found.sort_by_key(|range| range.start);
    let mut end = 0;
    found.retain(|range| {
        let is_new = range.start >= end;
        end = end.max(range.end);
        is_new
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_has_no_password() {
        for (line, expected) in [
            ("  password: s3cret", "  password: ******"),
            (
                "  password: \"s3 , c\" # mine",
                "  password: ******** # mine",
            ),
            (
                "repo: {url: x, password: s3crét, usrname: me}",
                "repo: {url: x, password: ******, usrname: me}",
            ),
            ("{\"password\" : 's3c'}", "{\"password\" : *****}"),
            (
                "url: https://me:s3cret@host/x",
                "url: https://me:******@host/x",
            ),
            (
                "url: https://me:s3c@ret@host",
                "url: https://me:*******@host",
            ),
            ("password: \"{{ env.P }}\"", "password: \"{{ env.P }}\""),
            ("url: https://t0ken@host/x", "url: https://*****@host/x"),
            ("url: ssh://git@host/x", "url: ssh://git@host/x"),
            ("url: git@host:x", "url: git@host:x"),
            (
                "url: 'https://{{ env.ME }}:s3cret@host/x'",
                "url: 'https://{{ env.ME }}:******@host/x'",
            ),
            (
                "url: https://me:{{ env.P }}@host",
                "url: https://me:{{ env.P }}@host",
            ),
            ("url: https://t0ken:@host", "url: https://*****:@host"),
            (
                "password: '{{ env.P }}s3cret'",
                "password: *******************",
            ),
            ("password: ''", "password: ''"),
            ("password:", "password:"),
            ("passwords: {a: 1}", "passwords: {a: 1}"),
            ("url: https://host/a@b", "url: https://host/a@b"),
        ] {
            assert_eq!(hidden(line, 0..0).0, expected, "{line}");
        }
    }

    #[test]
    fn what_is_pointed_at_stays_pointed_at() {
        let line = "repo: {password: s3cret, usrname: mé, url: https://a:bcdefg@h, x: 1}";
        for part in [
            "repo",
            "s3cret",
            "usrname",
            "me",
            "x: 1",
            "https://a:bcdefg@h",
        ] {
            let at = line.find(part).unwrap();
            let (text, shown) = hidden(line, at..at + part.len());
            let expected = part.replace("s3cret", "******").replace("bcdefg", "******");
            assert_eq!(&text[shown], expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_can_be_shown(line in "[paswodr:'\"{},@/ é]{0,40}", a in 0usize..40, b in 0usize..40) {
            let (a, b) = (line.floor_char_boundary(a), line.floor_char_boundary(b));
            let (text, shown) = hidden(&line, a.min(b)..a.max(b));
            proptest::prop_assert!(text.get(shown).is_some());
        }
    }
}
