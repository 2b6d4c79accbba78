//! URLs for people and logs.

/// A URL without what may be secret in it: user and password, query and fragment.
pub fn without_secrets(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = url.get(..end).unwrap_or(url);
    let Some(at) = url.find("://") else {
        // It may have been meant as a URL.
        return url.rsplit('@').next().unwrap_or(url).to_owned();
    };
    let (scheme, rest) = url.split_at(at + 3);
    let path = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_without_their_secrets() {
        for (url, told) in [
            ("https://a.example/x", "https://a.example/x"),
            (
                "https://me:pass@a.example/x?token=1#y",
                "https://a.example/x",
            ),
            ("http://token@[::1]:80", "http://[::1]:80"),
            ("http://a/b@c", "http://a/b@c"),
            ("no url?token", "no url"),
            ("me:pass@a.example/x", "a.example/x"),
            ("http:/me:pass@a.example/x", "a.example/x"),
        ] {
            assert_eq!(without_secrets(url), told);
        }
    }
}
