use ureq::http::Uri;

use super::redirect::origin;

/// Why a text is not the URL of a repository. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Something else than HTTP, or no URL at all.
    #[error("a URL has to begin with http:// or https://")]
    Scheme,
    /// There is no host in it, or a port that is none, or something that no URL has.
    #[error("it is not a URL")]
    Syntax,
    /// What comes after the path would be lost: names of files are appended.
    #[error("a URL below which files are cannot have a query or a fragment")]
    Query,
}

/// Whether files of a repository can be asked for below `url`.
///
/// # Errors
/// When they cannot, whatever the network is like.
pub fn check_url(url: &str) -> Result<(), BadUrl> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let known = |scheme: &str| {
        ["http", "https"]
            .iter()
            .any(|s| s.eq_ignore_ascii_case(scheme))
    };
    if !scheme.is_some_and(known) {
        return Err(BadUrl::Scheme);
    }
    if url.contains(['?', '#']) {
        return Err(BadUrl::Query);
    }
    let uri: Uri = url.parse().map_err(|_| BadUrl::Syntax)?;
    match origin(&uri) {
        Some((_, host, _)) if !host.is_empty() => Ok(()),
        _ => Err(BadUrl::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_url_and_what_is_not() {
        for good in [
            "http://a",
            "https://a.example/",
            "http://a:8080/x/y",
            "http://127.0.0.1:1",
            "http://[::1]:80/x",
            "HTTPS://A",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", BadUrl::Scheme),
            (" ", BadUrl::Scheme),
            ("a", BadUrl::Scheme),
            ("a.example/x", BadUrl::Scheme),
            ("/srv/repository", BadUrl::Scheme),
            ("//a/x", BadUrl::Scheme),
            ("http:/a", BadUrl::Scheme),
            ("http:a", BadUrl::Scheme),
            ("ftp://a", BadUrl::Scheme),
            ("file:///x", BadUrl::Scheme),
            ("://a", BadUrl::Scheme),
            (" http://a", BadUrl::Scheme),
            ("http://", BadUrl::Syntax),
            ("http:///x", BadUrl::Syntax),
            ("http://:80", BadUrl::Syntax),
            ("http://a:99999", BadUrl::Syntax),
            ("http://a:x", BadUrl::Syntax),
            ("http://a b", BadUrl::Syntax),
            ("http://a/\n", BadUrl::Syntax),
            ("http://[::1", BadUrl::Syntax),
            ("http://a/?x", BadUrl::Query),
            ("http://a/#x", BadUrl::Query),
        ] {
            assert_eq!(check_url(bad), Err(why), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "(https?://)?\\PC*") {
            let _ = check_url(&text);
        }
    }
}
