//! Repositories of packages: their URLs, who may read them, and those beside the feed.

use std::path::PathBuf;

use crate::decode::NameMap;
use crate::diagnostic::Diagnostic;
use crate::model::{Needed, PackageRepository, RepositoryCredentials};
use crate::raw::{RawRepository, Text, listed};
use crate::text::quoted;

use super::context::ResolveContext;
use super::feed;
use super::stated_value::StatedValue;

/// The entries of `repos`. What of them cannot be used is for what is to be installed from them.
pub(super) fn repositories(
    cx: &mut ResolveContext<'_>,
    unusable: &mut Vec<Diagnostic>,
) -> Vec<PackageRepository> {
    let raw: NameMap<Option<RawRepository>> = cx.decoded("repos");
    let entries = raw.0.into_iter();
    entries
        .filter_map(|(name, raw)| repository(cx, &name, raw.unwrap_or_default(), unusable))
        .collect()
}

fn repository(
    cx: &mut ResolveContext<'_>,
    text: &Text,
    raw: RawRepository,
    unusable: &mut Vec<Diagnostic>,
) -> Option<PackageRepository> {
    let name = cx.name(text)?;
    if name.as_str() == "avocado-sdk" || name.as_str() == "main" {
        let message = format!("{} is the name of another repository", quoted(text));
        cx.report.error(text.span, message);
        return None;
    }
    let Some(url) = raw.url else {
        let message = format!("the repository {} has no `url`", quoted(text));
        cx.report.error(text.span, message);
        return None;
    };
    let url = StatedValue::File(url);
    let (clean, from_url) = match split_credentials(url.text()) {
        Ok(split) => split,
        Err(why) => {
            let why = format!("the URL of the repository {} {why}", quoted(text));
            url.complain_of_secret(cx, &why).hint(URL_HINT);
            return None;
        }
    };
    if !feed::is_url(&clean) {
        let message = format!("{} is not the URL of a repository", quoted(&clean));
        url.complain_of_url(cx, &message)
            .hint("write for example https://feed.example.org/$releasever/vendor");
    }
    let stated = |text: Option<Text>| text.map(StatedValue::File);
    let stated = credentials(cx, stated(raw.username), stated(raw.password));
    let uses = raw.r#for.map(listed);
    let uses_of = |what: &str| match &uses {
        None => what == "target",
        Some(uses) => uses.iter().any(|used| used.as_str() == what),
    };
    let (for_sdk, for_target) = (uses_of("sdk"), uses_of("target"));
    for used in uses.iter().flatten() {
        if !["sdk", "target"].contains(&used.as_str()) {
            let message = format!("{} is nothing that packages are for", quoted(used));
            cx.report
                .error(used.span, message)
                .hint("write `target`, `sdk`, or a list of both");
        }
    }
    let mut file = |text: Option<Text>, what: &str| -> Option<PathBuf> {
        text.map(|text| feed::file_of_project(cx, &text, what, unusable))
    };
    let ca = file(raw.ca, "CA certificate");
    let gpg_key = file(raw.gpgkey, "key of the repository");
    Some(PackageRepository {
        name,
        url: clean,
        credentials: stated.or(from_url.map(Needed::Known)),
        for_sdk,
        for_target,
        ca,
        tls_verify: raw.tls_verify.unwrap_or(true),
        gpg_key,
        priority: raw.priority,
    })
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
