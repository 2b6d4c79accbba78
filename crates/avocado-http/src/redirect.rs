//! Redirects, followed by hand: what may go along with a request depends on where it goes.

use fluent_uri::{Uri, UriRef};

use crate::secrets::without_secrets;

/// Why a redirect is not followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedirectError {
    /// The location is no URL that could be meant.
    #[error("the server redirects to `{}`, which is no http or https URL", .0.escape_debug())]
    Location(String),
    /// What was encrypted would no longer be.
    #[error("the server redirects from https to http")]
    Downgrade,
    /// There is no end to them.
    #[error("the server redirects more than {0} times")]
    TooMany(usize),
}

/// The URL that `location` means in an answer to a request for `url`, without its fragment.
pub(crate) fn follow(url: &str, location: &str) -> Result<String, RedirectError> {
    // Its query may be signed.
    let told = || without_secrets(location).chars().take(200).collect();
    let bad = || RedirectError::Location(told());
    // It means the same page again, and no file.
    if location.is_empty() || location.starts_with('#') {
        return Err(bad());
    }
    let (base, reference) = (encoded(url), encoded(location));
    let base = Uri::parse(base.as_str()).map_err(|_| bad())?;
    let reference = UriRef::parse(reference.as_str()).map_err(|_| bad())?;
    let mut next = reference
        .resolve_against(&base.strip_fragment())
        .map_err(|_| bad())?;
    next.set_fragment(None);
    let next = next.into_string();

    let from = origin(url).ok_or_else(bad)?;
    let to = origin(&next).ok_or_else(bad)?;
    if from.scheme == "https" && to.scheme == "http" {
        return Err(RedirectError::Downgrade);
    }
    Ok(next)
}

/// Encodes what RFC 3986 does not allow and servers send all the same: brackets and other marks in
/// a path or a query.
fn encoded(url: &str) -> String {
    let authority = url.find("//").map_or(0, |at| at + 2);
    let path = url
        .get(authority..)
        .and_then(|rest| rest.find(['/', '?']))
        .map_or(url.len(), |at| authority + at);
    let mut out = String::with_capacity(url.len());
    for (at, c) in url.char_indices() {
        match c {
            '"' | '\\' | '^' | '{' | '|' | '}' => out.push_str(&format!("%{:02X}", c as u32)),
            // Around an IPv6 address they are in their place.
            '[' | ']' if at >= path => out.push_str(&format!("%{:02X}", c as u32)),
            _ => out.push(c),
        }
    }
    out
}

/// Whether both URLs have the same scheme, host and port.
pub(crate) fn same_origin(a: &str, b: &str) -> bool {
    matches!((origin(a), origin(b)), (Some(a), Some(b)) if a == b)
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) scheme: &'static str,
    /// In lower case; never empty.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    pub(crate) fn is_http(&self) -> bool {
        self.scheme == "http"
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

/// The origin of an http or https URL; none where there is anything wrong with it.
pub(crate) fn origin(url: &str) -> Option<Origin> {
    // The parser of the client that makes the request: what it takes for the host is the host.
    let uri: ureq::http::Uri = url.parse().ok()?;
    let (scheme, port) = match uri.scheme_str()? {
        "http" => ("http", 80),
        "https" => ("https", 443),
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    let port = match uri.port_u16() {
        Some(port) => port,
        None if uri.authority()?.as_str().ends_with(host) => port,
        // What is there is out of range.
        None => return None,
    };
    Some(Origin {
        scheme,
        host: host.to_ascii_lowercase(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn locations() {
        for (location, expected) in [
            ("http://b/x", "http://b/x"),
            ("HTTPS://b/x", "HTTPS://b/x"),
            ("https://b:8/x?y#z", "https://b:8/x?y"),
            ("//b/x", "http://b/x"),
            ("/x", "http://a:1/x"),
            ("x", "http://a:1/d/e/x"),
            ("./x?q=../..", "http://a:1/d/e/x?q=../.."),
            ("../x", "http://a:1/d/x"),
            ("../../../x", "http://a:1/x"),
            ("..", "http://a:1/d/"),
            ("?x", "http://a:1/d/e/f?x"),
            // Not as the RFC wants it, but as servers do.
            ("/x?a[]=1&b={2|3}", "http://a:1/x?a%5B%5D=1&b=%7B2%7C3%7D"),
            ("http://[::1]:8/[x]", "http://[::1]:8/%5Bx%5D"),
        ] {
            let followed = follow("http://a:1/d/e/f?q", location);
            assert_eq!(followed.as_deref(), Ok(expected), "{location}");
        }
        for location in [
            "",
            "#x",
            "file:///etc/passwd",
            "javascript:1",
            "http:",
            "http://",
            "http:///x",
            "//",
            "http://a b",
            "ftp://b/",
            "http://b:99999/",
            "http://b:/",
        ] {
            assert!(
                matches!(
                    follow("http://a:1/d/e/f", location),
                    Err(RedirectError::Location(_))
                ),
                "{location}"
            );
        }
        for location in ["http://a/x", "HTTP://b/"] {
            assert_eq!(
                follow("https://a/", location),
                Err(RedirectError::Downgrade)
            );
        }
        assert_eq!(follow("https://a/y", "/x").as_deref(), Ok("https://a/x"));
    }

    #[test]
    fn origins() {
        for (a, b, same) in [
            ("http://a/x", "http://a/y", true),
            ("http://a/", "http://A:80/", true),
            ("https://a:443/", "https://a/", true),
            ("http://a/", "https://a/", false),
            ("http://a/", "http://a:81/", false),
            ("http://a/", "http://b/", false),
            ("http://a/", "http://sub.a/", false),
            ("http://a/", "http://b@a/", true),
            ("http://a/", "http://a@b/", false),
            ("http://a/", "no url", false),
            ("no url", "no url", false),
        ] {
            assert_eq!(same_origin(a, b), same, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_stays_http(location in "\\PC{0,40}") {
            if let Ok(next) = follow("https://a/b/c", &location) {
                let uri: ureq::http::Uri = next.parse().unwrap();
                prop_assert_eq!(uri.scheme_str(), Some("https"));
            }
        }
    }
}
