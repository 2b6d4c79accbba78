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
/// joined to a URL. Backslashes and control characters never are part of one.
pub(crate) fn is_target_path(path: &str) -> bool {
    path.len() <= LONGEST_PATH
        && !path.contains(|c: char| c.is_control() || c == '\\')
        && path
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
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
        for good in ["a", "a/b.raw", "manifest.json", "ä/ö", "..a", "a..b/...c"] {
            assert!(is_target_path(good), "{good}");
        }
        let long = "a".repeat(1025);
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b", "a\\b", "a\0b",
            "a\nb", &long,
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
