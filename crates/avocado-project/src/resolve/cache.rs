//! The cache of a team.

use std::path::Path;

use crate::model::{CachePlace, Quota, RepositoryCredentials, SharedCache};
use crate::raw::{RawCache, Text, listed};
use crate::suggest;
use crate::text::quoted;

use super::context::ResolveContext;
use super::repository_access::{is_url, split_credentials};
use super::stated_value::StatedValue;

/// How many digits the id of a key has.
const KEY_ID: usize = 64;

/// `None` where the project has none. `signing_keys` are those of the project.
pub(super) fn cache(
    cx: &mut ResolveContext<'_>,
    signing_keys: &[(String, String)],
) -> Option<SharedCache> {
    cx.root.get("cache")?;
    let raw: RawCache = cx.decoded("cache");
    let (place, credentials) = place(cx, raw.url)?;
    let max_size = raw.max_size.as_ref();
    let max_size = max_size.and_then(|text| size(cx, text));
    if let (CachePlace::Server(_), Some(text)) = (&place, &raw.max_size) {
        let message = "`max_size` is of a directory: how much a server keeps is for the server";
        cx.report
            .error(text.span, message)
            .hint("leave it out, or give it to the server");
    }
    let trusted_keys = raw.trusted_keys.map(listed).unwrap_or_default();
    let trusted_keys = trusted_keys.iter();
    let trusted_keys = trusted_keys.filter_map(|key| trusted_key(cx, key, signing_keys));
    let trusted_keys = trusted_keys.collect();
    Some(SharedCache {
        push: raw.push.unwrap_or(!matches!(place, CachePlace::Server(_))),
        place,
        credentials,
        trusted_keys,
        max_size,
    })
}

/// In bytes.
fn size(cx: &mut ResolveContext<'_>, text: &Text) -> Option<u64> {
    match text.value.parse::<Quota>() {
        Ok(size) => Some(size.bytes()),
        Err(hint) => {
            let message = format!("{} is no size of a directory", quoted(text));
            cx.report.error(text.span, message).hint(hint);
            None
        }
    }
}

fn place(
    cx: &mut ResolveContext<'_>,
    url: Option<Text>,
) -> Option<(CachePlace, Option<RepositoryCredentials>)> {
    const HINT: &str = "write for example https://cache.example.org/avocado or file:///srv/cache";
    let Some(url) = url else {
        return Some((CachePlace::User, None));
    };
    let url = StatedValue::File(url);
    if url.text().starts_with("s3:") {
        let message = "a bucket is not asked directly";
        url.complain_of_url(cx, message)
            .hint("bazel-remote keeps what it is given in S3: write the URL of one");
        return None;
    }
    let (clean, credentials) = match split_credentials(url.text()) {
        Ok(split) => split,
        Err(why) => {
            let why = format!("the URL of the cache {why}");
            let hint = "write what is special in user and password as in `%2F` for `/`";
            url.complain_of_secret(cx, &why).hint(hint);
            return None;
        }
    };
    let is_plain = !clean.contains(['?', '#']);
    if let Some(directory) = clean.strip_prefix("file://") {
        if Path::new(directory).is_absolute() && is_plain {
            return Some((CachePlace::Directory(directory.into()), None));
        }
    } else if is_url(&clean) && is_plain {
        return Some((CachePlace::Server(clean), credentials));
    }
    let message = format!("{} is not the URL of a cache", quoted(&clean));
    url.complain_of_url(cx, &message).hint(HINT);
    None
}

/// The id of a key, or a name in the registry that a name of the project stands for.
fn trusted_key(
    cx: &mut ResolveContext<'_>,
    key: &Text,
    signing_keys: &[(String, String)],
) -> Option<String> {
    if let Some((_, in_registry)) = signing_keys.iter().find(|(name, _)| *name == key.value) {
        return Some(in_registry.clone());
    }
    let is_id = key.value.len() == KEY_ID && key.value.bytes().all(|c| c.is_ascii_hexdigit());
    if is_id {
        return Some(key.value.to_ascii_lowercase());
    }
    let message = format!(
        "{} is neither a name of `signing_keys` nor the id of a key",
        quoted(key)
    );
    let names = signing_keys.iter().map(|(name, _)| name.as_str());
    let hint = suggest::hint(key, names);
    let hint = if signing_keys.is_empty() {
        "`avocado signing-keys list` shows the ids: 64 digits".to_owned()
    } else {
        hint
    };
    cx.report.error(key.span, message).hint(hint);
    None
}
