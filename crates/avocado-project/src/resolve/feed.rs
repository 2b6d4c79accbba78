//! The package feed.

use std::path::PathBuf;

use avocado_manifest::Name;

use crate::decode::Spanned;
use crate::diagnostic::Diagnostic;
use crate::model::{Distro, Needed, RepositoryCredentials};
use crate::raw::{RawDistro, Text};
use crate::source::Span;
use crate::text::quoted;

use super::context::ResolveContext;
use super::paths::file_of_project;
use super::repository_access::{URL_HINT, credentials, is_url, split_credentials};
use super::stated_value::StatedValue;

/// Where packages come from if nobody says otherwise.
const DEFAULT_URL: &str = "https://repo.avocadolinux.org";

/// The feed: each value from the environment, then `distro`, then the old keys of `sdk`.
pub(super) fn distro(cx: &mut ResolveContext<'_>) -> Distro {
    let raw: RawDistro = cx.decoded("distro");
    let repo = raw.repo.unwrap_or_default();
    // What is wrong with `sdk` as a whole is reported where the SDK is resolved.
    let old = |name| {
        let node = cx.root.get("sdk")?.get(name)?;
        Some(Spanned {
            value: node.as_text()?.to_owned(),
            span: node.span,
        })
    };
    let (old_url, old_releasever) = (old("repo_url"), old("repo_release"));

    let stated_by = StatedValue::of_environment;
    let url = stated_by(cx, &["AVOCADO_REPO_URL", "AVOCADO_SDK_REPO_URL"])
        .or(repo.url.map(StatedValue::File))
        .or(old_url.map(StatedValue::File));
    let releasever = stated_by(cx, &["AVOCADO_RELEASEVER", "AVOCADO_SDK_REPO_RELEASE"])
        .or(repo.releasever.map(StatedValue::File))
        .or(old_releasever.map(StatedValue::File));
    let release = stated_by(cx, &["AVOCADO_DISTRO_RELEASE"]).or(raw.release.map(StatedValue::File));
    let channel = stated_by(cx, &["AVOCADO_DISTRO_CHANNEL"]).or(raw.channel.map(StatedValue::File));
    let insecure = cx.variable("AVOCADO_REPO_INSECURE");
    let insecure = insecure.as_deref().map(str::to_ascii_lowercase);
    let insecure = matches!(insecure.as_deref(), Some("1" | "true" | "yes"));
    let mut unusable = Vec::new();
    for (given, key) in [(&release, "release"), (&channel, "channel")] {
        if given.is_none() && releasever.is_none() {
            unusable.push(unstated(cx, key));
        }
    }
    let (release, channel) = (release_part(cx, release), release_part(cx, channel));
    // Who asks goes with where: a mirror of the environment is not told what is for the file's feed.
    let url_of_environment = matches!(url, Some(StatedValue::Env(..)));
    let (repo_url, of_url) = feed_url(cx, url);
    let of_file = |text: Option<Text>| text.filter(|_| !url_of_environment).map(StatedValue::File);
    let username = stated_by(cx, &["AVOCADO_REPO_USERNAME"]).or(of_file(repo.username));
    let password = stated_by(cx, &["AVOCADO_REPO_PASSWORD"]).or(of_file(repo.password));
    let credentials = match (&username, &password) {
        // The environment can say the other one tomorrow.
        (Some(one), None) | (None, Some(one)) => {
            let why = one.complaint_of_secret(cx, "the feed wants a user and a password");
            let hint = "set AVOCADO_REPO_USERNAME and AVOCADO_REPO_PASSWORD";
            Some(Needed::Missing(Box::new(why.with_hint(hint))))
        }
        _ => credentials(cx, username, password),
    };
    Distro {
        release,
        channel,
        repo_url,
        credentials: credentials.or(of_url.map(Needed::Known)),
        releasever: release_part(cx, releasever),
        ca: ca(cx, repo.ca, &mut unusable),
        tls_verify: !insecure && repo.tls_verify.unwrap_or(true),
        gpg_key: gpg_key(cx, repo.gpgkey, repo.gpgcheck, &mut unusable),
        unusable,
    }
}

/// That it is not said where in the feed the project stands.
fn unstated(cx: &ResolveContext<'_>, key: &str) -> Diagnostic {
    let distro = cx.root.get("distro").map(|node| node.span);
    let place = cx.place(distro.unwrap_or_default());
    let error = place.error(format!(
        "nothing can be installed: `distro.{key}` is not stated"
    ));
    error.with_hint("write for example `distro: {release: \"2024\", channel: edge}`")
}

fn feed_url(
    cx: &mut ResolveContext<'_>,
    given: Option<StatedValue>,
) -> (String, Option<RepositoryCredentials>) {
    let Some(given) = given else {
        return (DEFAULT_URL.to_owned(), None);
    };
    let hint = "write for example https://feed.example.org";
    let (url, credentials) = match split_credentials(given.text()) {
        Ok(split) => split,
        Err(why) => {
            let why = format!("the URL of the feed {why}");
            given.complain_of_secret(cx, &why).hint(URL_HINT);
            return (DEFAULT_URL.to_owned(), None);
        }
    };
    let url = url.trim_end_matches('/');
    if is_url(url) {
        return (url.to_owned(), credentials);
    }
    let why = format!("{} is not the URL of a feed", quoted(url));
    given.complain_of_url(cx, &why).hint(hint);
    (DEFAULT_URL.to_owned(), None)
}

/// A release, a channel or a releasever: it becomes a part of URLs.
fn release_part(cx: &mut ResolveContext<'_>, given: Option<StatedValue>) -> Option<String> {
    let given = given?;
    let text = given.text();
    if text.split('/').all(|part| part.parse::<Name>().is_ok()) {
        return Some(text.to_owned());
    }
    let why = format!("{} is not a usable release or channel", quoted(text));
    given
        .complain(cx, &why)
        .hint("write letters, digits and `. _ - + ~`");
    None
}

fn ca(
    cx: &mut ResolveContext<'_>,
    config: Option<Text>,
    unusable: &mut Vec<Diagnostic>,
) -> Option<PathBuf> {
    if let Some(path) = cx.variable("AVOCADO_REPO_CA") {
        let path = PathBuf::from(path);
        let path = std::path::absolute(&path).unwrap_or(path);
        if !path.is_file() {
            let shown = path.display();
            let message = format!("AVOCADO_REPO_CA: {shown} is not a file");
            unusable.push(cx.place(Span::default()).error(message));
        }
        return Some(path);
    }
    Some(file_of_project(cx, &config?, "CA certificate", unusable))
}

/// The keys of signatures that are to be checked. A stated key is one to check with.
fn gpg_key(
    cx: &mut ResolveContext<'_>,
    key: Option<Text>,
    check: Option<Spanned<bool>>,
    unusable: &mut Vec<Diagnostic>,
) -> Option<PathBuf> {
    let is_checked = check.as_ref().is_none_or(|check| check.value);
    let key = key.filter(|_| is_checked);
    let path = key.map(|key| file_of_project(cx, &key, "key of the feed", unusable));
    match check {
        Some(check) if check.value && path.is_none() => {
            let message = "signatures cannot be checked without a key";
            cx.report
                .error(check.span, message)
                .hint("name the file of the feed's public keys in `gpgkey`");
            None
        }
        _ => path,
    }
}
