use ureq::http::Uri;

/// Why a redirect is not followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RedirectError {
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

/// The URL that `location` means in an answer to a request for `url`.
pub(super) fn follow(url: &str, location: &str) -> Result<String, RedirectError> {
    let bad = || RedirectError::Location(location.chars().take(200).collect());
    let base: Uri = url.parse().map_err(|_| bad())?;
    let (scheme, host, _) = origin(&base).ok_or_else(bad)?;
    let authority = base.authority().ok_or_else(bad)?;

    let (location, _) = location.split_once('#').unwrap_or((location, ""));
    let next = if location.is_empty() {
        return Err(bad());
    } else if is_absolute(location) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(d, _)| d);
        let path = without_dots(&format!("{directory}/{location}"));
        format!("{scheme}://{authority}{path}")
    };
    let target: Uri = next.parse().map_err(|_| bad())?;
    let (to, to_host, _) = origin(&target).ok_or_else(bad)?;
    if host.is_empty() || to_host.is_empty() {
        return Err(bad());
    }
    if scheme == "https" && to == "http" {
        return Err(RedirectError::Downgrade);
    }
    Ok(next)
}

/// Whether both URLs have the same scheme, host and port.
pub(super) fn same_origin(a: &str, b: &str) -> bool {
    let of = |url: &str| origin(&url.parse().ok()?);
    matches!((of(a), of(b)), (Some(a), Some(b)) if a == b)
}

/// Scheme, host and port of an http or https URL.
pub(super) fn origin(uri: &Uri) -> Option<(&'static str, String, u16)> {
    let (scheme, port) = match uri.scheme_str()? {
        "http" => ("http", 80),
        "https" => ("https", 443),
        _ => return None,
    };
    let host = uri.host()?;
    let authority = uri.authority()?.as_str();
    let port = match uri.port_u16() {
        Some(port) => port,
        None if authority.ends_with(host) => port,
        // What is there is out of range.
        None => return None,
    };
    Some((scheme, host.to_ascii_lowercase(), port))
}

/// Whether it begins with a scheme.
fn is_absolute(location: &str) -> bool {
    location
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.contains(['/', '?']))
}

/// Takes `.` and `..` out of an absolute path, its query left alone.
fn without_dots(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (path, String::new()),
    };
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}{query}", kept.join("/"))
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
                let uri: Uri = next.parse().unwrap();
                prop_assert_eq!(uri.scheme_str(), Some("https"));
            }
        }
    }
}
