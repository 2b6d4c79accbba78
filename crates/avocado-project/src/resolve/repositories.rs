//! Repositories of packages: their URLs, who may read them, and those beside the feed.

use std::path::PathBuf;

use crate::decode::{NameMap, Spanned};
use crate::diagnostic::Diagnostic;
use crate::model::{PackageRepository, RepositoryCredentials};
use crate::raw::{RawRepository, Text, listed};
use crate::text::quoted;

use super::context::ResolveContext;
use super::feed;

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
    let (clean, from_url) = split_credentials(&url);
    if !feed::is_url(&clean) {
        let message = format!("{} is not the URL of a repository", quoted(&clean));
        cx.report
            .error(url.span, message)
            .hint("write for example https://feed.example.org/$releasever/vendor");
    }
    let stated = credentials(cx, raw.username, raw.password);
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
        credentials: stated.or(from_url),
        for_sdk,
        for_target,
        ca,
        tls_verify: raw.tls_verify.unwrap_or(true),
        gpg_key,
        priority: raw.priority,
    })
}

/// A user with a password. What a file of dnf's cannot hold is refused, without being shown.
pub(super) fn credentials(
    cx: &mut ResolveContext<'_>,
    username: Option<Text>,
    password: Option<Text>,
) -> Option<RepositoryCredentials> {
    let (username, password) = match (username, password) {
        (None, None) => return None,
        (Some(username), Some(password)) => (username, password),
        (Some(one), None) | (None, Some(one)) => {
            let message = "`username` and `password` go together";
            cx.report.error(one.span, message);
            return None;
        }
    };
    for text in [&username, &password] {
        if text.is_empty() {
            let message = "this is empty: is the variable set that it is taken from?";
            cx.report.error(text.span, message);
            return None;
        }
        if !is_usable(text) {
            let message = "this has control characters in it, or space around it";
            cx.report.error(text.span, message);
            return None;
        }
    }
    Some(RepositoryCredentials {
        username: username.value,
        password: password.value,
    })
}

fn is_usable(text: &str) -> bool {
    text.trim() == text && !text.contains(|c: char| c.is_control())
}

/// A URL without the user and the password that may be in it, and these.
pub(super) fn split_credentials(url: &str) -> (String, Option<RepositoryCredentials>) {
    let nothing = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else {
        return nothing();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((who, host)) = authority.rsplit_once('@') else {
        return nothing();
    };
    let (username, password) = who.split_once(':').unwrap_or((who, ""));
    let credentials = RepositoryCredentials {
        username: percent_decoded(username),
        password: percent_decoded(password),
    };
    let usable = is_usable(&credentials.username) && is_usable(&credentials.password);
    let credentials = Some(credentials).filter(|_| usable);
    (format!("{scheme}://{host}{path}"), credentials)
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

/// A value of the environment as if it stood in the file, which has no place for it.
pub(super) fn from_environment(cx: &ResolveContext<'_>, name: &str) -> Option<Text> {
    Some(Spanned {
        value: cx.variable(name)?,
        span: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_url_is_taken_out_of_it() {
        let split = |url: &str| {
            let (url, who) = split_credentials(url);
            (url, who.map(|who| (who.username, who.password)))
        };
        let who = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        for (url, clean, expected) in [
            ("https://a.example/x", "https://a.example/x", None),
            (
                "https://u:p@a.example/x@y",
                "https://a.example/x@y",
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
}
