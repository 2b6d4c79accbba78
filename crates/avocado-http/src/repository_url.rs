use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;
use std::str::FromStr;

use crate::redirect::{Origin, origin};
use crate::secrets::without_secrets;

/// An http or https URL below which the files of a repository are, in one spelling: scheme and host
/// in lower case, no port where it is the scheme's own, no `.` and `..` in the path and no slash at
/// its end, no user, no query and no fragment. So what is kept under it is kept once, however it
/// was written. (Two names of one host, `localhost` and `127.0.0.1`, are two hosts.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryUrl(String);

/// Why a text is not the URL of a repository. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryUrlError {
    /// Something else than HTTP, or no URL at all.
    #[error("a URL has to begin with http:// or https://")]
    Scheme,
    /// There is no host in it, or a port that is none, or something that no URL has.
    #[error("it is not a URL")]
    Syntax,
    /// What comes after the path would be lost: names of files are appended.
    #[error("a URL below which files are cannot have a query or a fragment")]
    Query,
    /// A user or a password stands before the host. URLs are written down and shown.
    #[error(
        "a user and a password do not belong into a URL, which is written down and shown: give \
         the server's token apart from it"
    )]
    Credentials,
}

impl RepositoryUrl {
    /// The URL of a directory of this machine, for a [`DirectoryTransport`](crate::DirectoryTransport)
    /// alone: no text is read as one, so that what is configured leads to a server.
    pub fn of_directory(directory: &Path) -> Self {
        let mut url = String::from("file://");
        for byte in directory.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                    url.push(char::from(*byte));
                }
                byte => url += &format!("%{byte:02X}"),
            }
        }
        RepositoryUrl(url.trim_end_matches('/').to_owned())
    }

    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL of the file `path` below it. Slashes at the beginning of `path` count for nothing;
    /// everything in it that is not to be a part of the URL has to be encoded already.
    pub fn join(&self, path: &str) -> String {
        format!("{}/{}", self.0, path.trim_start_matches('/'))
    }

    /// The repository in the directory `name` below it.
    ///
    /// # Errors
    /// When `name` has something in it that a URL cannot have.
    pub fn below(&self, name: &str) -> Result<Self, RepositoryUrlError> {
        self.join(name).parse()
    }

    /// The repository that a text of an older version of this program means: there a URL could have
    /// a user and a password in it.
    pub fn without_credentials(url: &str) -> Result<Self, RepositoryUrlError> {
        without_secrets(url).parse()
    }

    /// Whether `url` is of a file below it.
    pub fn is_above(&self, url: &str) -> bool {
        url.strip_prefix(&self.0)
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for RepositoryUrl {
    type Err = RepositoryUrlError;

    fn from_str(url: &str) -> Result<Self, RepositoryUrlError> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        let known = |scheme: &str| {
            ["http", "https"]
                .iter()
                .any(|s| s.eq_ignore_ascii_case(scheme))
        };
        if !scheme.is_some_and(known) {
            return Err(RepositoryUrlError::Scheme);
        }
        if url.contains(['?', '#']) {
            return Err(RepositoryUrlError::Query);
        }
        let origin = origin(url).ok_or(RepositoryUrlError::Syntax)?;
        let (_, rest) = url.split_once("://").ok_or(RepositoryUrlError::Scheme)?;
        let path = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path);
        if authority.contains('@') {
            return Err(RepositoryUrlError::Credentials);
        }
        let url = format!("{}{}", one_spelling(&origin), plain_path(path));
        Ok(RepositoryUrl(url.trim_end_matches('/').to_owned()))
    }
}

/// The scheme, the host, and the port where it is another than the scheme's own.
fn one_spelling(Origin { scheme, host, port }: &Origin) -> String {
    // An IPv6 address has many spellings.
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let address = address.and_then(|address| address.parse::<Ipv6Addr>().ok());
    let host = address.map_or_else(|| host.clone(), |address| format!("[{address}]"));
    match (*scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{port}"),
    }
}

/// The path without segments that mean this directory or the one above.
fn plain_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    segments.iter().flat_map(|s| ["/", s]).collect()
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
            "http://[::1]:81/x",
            "HTTPS://A",
        ] {
            let url: RepositoryUrl = good.parse().unwrap();
            assert_eq!(url.as_str(), good.trim_end_matches('/').to_lowercase());
        }
        for (bad, why) in [
            ("", RepositoryUrlError::Scheme),
            (" ", RepositoryUrlError::Scheme),
            ("a", RepositoryUrlError::Scheme),
            ("a.example/x", RepositoryUrlError::Scheme),
            ("/srv/repository", RepositoryUrlError::Scheme),
            ("//a/x", RepositoryUrlError::Scheme),
            ("http:/a", RepositoryUrlError::Scheme),
            ("http:a", RepositoryUrlError::Scheme),
            ("ftp://a", RepositoryUrlError::Scheme),
            ("file:///x", RepositoryUrlError::Scheme),
            ("://a", RepositoryUrlError::Scheme),
            (" http://a", RepositoryUrlError::Scheme),
            ("http://", RepositoryUrlError::Syntax),
            ("http:///x", RepositoryUrlError::Syntax),
            ("http://:80", RepositoryUrlError::Syntax),
            ("http://a:99999", RepositoryUrlError::Syntax),
            ("http://a:x", RepositoryUrlError::Syntax),
            ("http://a b", RepositoryUrlError::Syntax),
            ("http://a/\n", RepositoryUrlError::Syntax),
            ("http://[::1", RepositoryUrlError::Syntax),
            ("http://a/?x", RepositoryUrlError::Query),
            ("http://a/#x", RepositoryUrlError::Query),
            ("http://me@a/", RepositoryUrlError::Credentials),
            ("http://me:pass@a", RepositoryUrlError::Credentials),
            ("https://:pass@a:8/x", RepositoryUrlError::Credentials),
            ("http://@a/x", RepositoryUrlError::Credentials),
        ] {
            assert_eq!(bad.parse::<RepositoryUrl>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn however_it_was_written_it_is_one_url() {
        let plain: RepositoryUrl = "http://a/x".parse().unwrap();
        for written in [
            "http://a/x/",
            "http://a/x//",
            "HTTP://a/x",
            "http://A/x",
            "http://a:80/x",
            "Http://A:80/x/",
            "http://a/./x/.",
            "http://a/y/../x",
            "http://a/../x",
            "http://a/%2E/y/%2e%2E/x",
        ] {
            assert_eq!(written.parse(), Ok(plain.clone()), "{written}");
        }
        for (written, one) in [
            ("https://a:443", "https://a"),
            ("https://a:80/X", "https://a:80/X"),
            ("http://[0:0::1]:80/", "http://[::1]"),
            ("http://[::FFFF]:81", "http://[::ffff]:81"),
            ("http://a/x%2fy", "http://a/x%2fy"),
            ("http://a/x@y", "http://a/x@y"),
            ("http://a/x//y", "http://a/x//y"),
        ] {
            let url: RepositoryUrl = written.parse().unwrap();
            assert_eq!(url.as_str(), one);
        }
        for (written, one) in [
            ("http://me:pass@A/x", "http://a/x"),
            ("http://A/x", "http://a/x"),
        ] {
            let url = RepositoryUrl::without_credentials(written).unwrap();
            assert_eq!(url.as_str(), one);
        }
        assert_eq!(plain.join("y/z.raw"), "http://a/x/y/z.raw");
        assert_eq!(plain.join("/y"), "http://a/x/y");
        assert_eq!(
            plain.below("metadata").unwrap().as_str(),
            "http://a/x/metadata"
        );
        assert_eq!(plain.below("a b"), Err(RepositoryUrlError::Syntax));
        assert!(plain.is_above("http://a/x/y"));
        for other in ["http://a/x", "http://a/xy/z", "http://a/", "http://b/x/y"] {
            assert!(!plain.is_above(other), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "(https?://)?\\PC*") {
            if let Ok(url) = text.parse::<RepositoryUrl>() {
                proptest::prop_assert_eq!(url.as_str().parse(), Ok(url.clone()));
            }
        }
    }
}
