//! Names from the network, before they become parts of URLs and paths.

/// The longest target path that is looked up.
const LONGEST_PATH: usize = 1024;
/// The longest file name that common file systems take.
const LONGEST_FILE_NAME: usize = 255;

/// `text` with everything but unreserved characters percent-encoded: safe as one segment of a URL
/// and as a file name stem.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                out.push(byte as char);
            }
            _ => {
                use std::fmt::Write;
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The name of the file of `role`, without a version, and whether a file can have it.
pub(crate) fn role_file(role: &str) -> Option<String> {
    let name = format!("{}.json", quote(role));
    (name.len() <= LONGEST_FILE_NAME).then_some(name)
}

/// Whether `path` is a relative path of plain segments: what a target path has to be before it is
/// joined to a URL. Nothing in it is invisible, or looks like a separator or a dot and is none:
/// what a log shows of it is what it is.
pub(crate) fn is_target_path(path: &str) -> bool {
    path.len() <= LONGEST_PATH
        && !path.contains(|c: char| c.is_control() || c == '\\' || is_disguise(c))
        && path.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..") && segment.len() <= LONGEST_FILE_NAME
        })
}

/// Whether a character is shown as nothing, turns the text around it, or is shown as a separator
/// or dots.
fn is_disguise(c: char) -> bool {
    matches!(c,
        // Soft hyphen, fillers, joiners, direction marks, line separators, tags, selectors.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}'
        // One, two and three dot leaders, small and full-width full stop.
        | '\u{2024}'..='\u{2026}' | '\u{fe52}' | '\u{ff0e}'
        // Slashes and backslashes.
        | '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}'
        | '\u{fe68}' | '\u{ff0f}' | '\u{ff3c}'
    )
}

/// The URL path of the target file `path`, below the base URL of targets; with `prefix`, the name
/// that consistent snapshots give it.
pub(crate) fn target_url_path(path: &str, prefix: Option<&str>) -> String {
    let (directory, file) = match path.rsplit_once('/') {
        Some((directory, file)) => (Some(directory), file),
        None => (None, path),
    };
    let mut out = String::new();
    for segment in directory.into_iter().flat_map(|d| d.split('/')) {
        out.push_str(&quote(segment));
        out.push('/');
    }
    if let Some(prefix) = prefix {
        out.push_str(prefix);
        out.push('.');
    }
    out.push_str(&quote(file));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_become_one_segment() {
        let cases = [
            ("targets", "targets.json"),
            ("../x", "..%2Fx.json"),
            ("/", "%2F.json"),
            ("?#%", "%3F%23%25.json"),
            ("ä", "%C3%A4.json"),
            ("..", "...json"),
        ];
        for (role, file) in cases {
            assert_eq!(role_file(role).as_deref(), Some(file));
        }
        assert_eq!(role_file(&"x".repeat(251)), None);
    }

    #[test]
    fn target_paths() {
        let longest = "a".repeat(255);
        for good in [
            "a",
            "a/b.raw",
            "manifest.json",
            "ä/ö",
            // Decomposed is another name, and as good.
            "a\u{308}",
            "..a",
            "a..b/...c",
            "a b?#%&+",
            "%2e%2e%2f",
            "日本語/🥑.raw",
            &longest,
        ] {
            assert!(is_target_path(good), "{good}");
        }
        let long = "a/".repeat(512) + "a";
        let long_segment = "a".repeat(256);
        let long_letters = "ä".repeat(128);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/./b",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\u{85}",
            "a\u{7f}",
            "\u{feff}a",
            "a\u{200b}b",
            "a\u{202e}war.b",
            "a\u{2066}b",
            "\u{ff0e}\u{ff0e}/a",
            "\u{2025}/a",
            "..\u{ff0f}a",
            "..\u{2215}a",
            "a\u{e0041}",
            &long,
            &long_segment,
            &long_letters,
        ] {
            assert!(!is_target_path(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_hash_goes_before_the_file_name() {
        assert_eq!(
            target_url_path("a/b c.raw", Some("00ff")),
            "a/00ff.b%20c.raw"
        );
        assert_eq!(target_url_path("b", Some("00ff")), "00ff.b");
        assert_eq!(target_url_path("a/b", None), "a/b");
    }
}
