//! Where a repository of packages is, and who may read it: stated apart from its URL, or in it.

use crate::model::{Needed, RepositoryCredentials};

use super::context::ResolveContext;
use super::stated_value::StatedValue;

/// Whether dnf can get packages from there.
pub(super) fn is_url(url: &str) -> bool {
    let rest = ["https://", "http://", "file://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let space = |c: char| c.is_whitespace() || c.is_control();
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(space))
}

/// A user with a password. What a file of dnf's cannot hold is refused, without being shown; where it
/// comes from the environment, for those to complain of who ask the repository.
pub(super) fn credentials(
    cx: &mut ResolveContext<'_>,
    username: Option<StatedValue>,
    password: Option<StatedValue>,
) -> Option<Needed<RepositoryCredentials>> {
    let (username, password) = match (username, password) {
        (None, None) => return None,
        (Some(username), Some(password)) => (username, password),
        (Some(one), None) | (None, Some(one)) => {
            one.complain_of_secret(cx, "`username` and `password` go together");
            return None;
        }
    };
    for stated in [&username, &password] {
        let (why, hint) = match stated.text() {
            "" => (
                "this is empty",
                "is the variable set that it is taken from?",
            ),
            text if !is_usable(text) => (
                "this has control characters in it, or space around it",
                "write it in one line, without space around it",
            ),
            _ => continue,
        };
        if stated.is_of_environment(cx) {
            let why = stated.complaint_of_secret(cx, why).with_hint(hint);
            return Some(Needed::Missing(Box::new(why)));
        }
        stated.complain_of_secret(cx, why).hint(hint);
        return None;
    }
    Some(Needed::Known(RepositoryCredentials {
        username: username.text().to_owned(),
        password: password.text().to_owned(),
    }))
}

fn is_usable(text: &str) -> bool {
    text.trim() == text && !text.contains(|c: char| c.is_control())
}

/// What to do about a URL that [`split_credentials`] refuses.
pub(super) const URL_HINT: &str = "give user and password apart from the URL, or write what is special in them as in `%2F` for `/`";

/// A URL without the user and the password that may be in it, and these. An error, which does not
/// repeat the URL, where a part of them could be left in it.
pub(super) fn split_credentials(
    url: &str,
) -> Result<(String, Option<RepositoryCredentials>), &'static str> {
    let is_scheme = |scheme: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        scheme.chars().all(known)
    };
    let split = url.split_once("://");
    let Some((scheme, rest)) = split.filter(|(scheme, _)| is_scheme(scheme)) else {
        if url.contains('@') {
            return Err("does not begin with https:// or http://");
        }
        return Ok((url.to_owned(), None));
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if path.contains('@') {
        return Err("has a `@` behind its host");
    }
    let (who, host) = match authority.rsplit_once('@') {
        Some((who, host)) => (Some(who), host),
        None => (None, authority),
    };
    let behind_address = host.rsplit(']').next().unwrap_or(host);
    if let Some((_, port)) = behind_address.split_once(':')
        && !port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err("has a port that is no number");
    }
    let Some(who) = who else {
        return Ok((url.to_owned(), None));
    };
    let (username, password) = who.split_once(':').unwrap_or((who, ""));
    let credentials = RepositoryCredentials {
        username: percent_decoded(username),
        password: percent_decoded(password),
    };
    if !is_usable(&credentials.username) || !is_usable(&credentials.password) {
        return Err("has control characters in its user or password, or space around them");
    }
    Ok((format!("{scheme}://{host}{path}"), Some(credentials)))
}

/// Of what is no escape, it stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_url_is_taken_out_of_it() {
        let split = |url: &str| {
            let (url, who) = split_credentials(url).unwrap();
            (url, who.map(|who| (who.username, who.password)))
        };
        let who = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        for (url, clean, expected) in [
            ("https://a.example/x", "https://a.example/x", None),
            (
                "https://u:p@a.example/x%40y",
                "https://a.example/x%40y",
                who("u", "p"),
            ),
            (
                "https://u%40b:p%3a%2f%zz@[::1]:80",
                "https://[::1]:80",
                who("u@b", "p:/%zz"),
            ),
            ("https://token@a/", "https://a/", who("token", "")),
            ("no url", "no url", None),
        ] {
            assert_eq!(split(url), (clean.to_owned(), expected), "{url}");
        }
        let shown = format!("{:?}", split_credentials("https://me:secret@a"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn no_part_of_a_password_is_left_in_a_url() {
        for url in [
            "https://me:s3/cret@host/x",
            "https://me:12/cret@host/x",
            "https://me/s3cret@host/x",
            "https://host/x@y",
            "https://me:s3cret",
            "https://me@host:s3cret",
            "https://[::1]:s3cret",
            "me:s3cret@host/x",
            "https:/me:s3cret@host",
            "https:/me:s3://cret@host",
            "https://me:s3%0acret@host",
        ] {
            let why = split_credentials(url).unwrap_err();
            assert!(!why.contains("cret"), "{url}: {why}");
        }
        let (url, who) = split_credentials("https://me:s3?#cr@et@host:/x").unwrap();
        assert_eq!(
            (url.as_str(), who.unwrap().password.as_str()),
            ("https://host:/x", "s3?#cr@et")
        );
    }
}
