//! Repositories of packages: their URLs, who may read them, and those beside the feed.

use std::path::PathBuf;

use crate::decode::NameMap;
use crate::diagnostic::Diagnostic;
use crate::model::{Needed, PackageRepository};
use crate::raw::{RawRepository, Text, listed};
use crate::text::quoted;

use super::context::ResolveContext;
use super::paths::file_of_project;
use super::repository_access::{URL_HINT, credentials, is_url, split_credentials};
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
    if !is_url(&clean) {
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
        text.map(|text| file_of_project(cx, &text, what, unusable))
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
