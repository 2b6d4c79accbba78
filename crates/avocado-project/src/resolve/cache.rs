//! The cache of a team.

use std::path::Path;

use crate::model::{CacheBucket, CachePlace, Quota, RepositoryCredentials, SharedCache};
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
    let (mut place, credentials) = place(cx, raw.url)?;
    bucket_settings(cx, &mut place, raw.endpoint, raw.region);
    let is_reached_by_tls = match &place {
        CachePlace::Server(url) => url.starts_with("https://"),
        CachePlace::Bucket(_) => true,
        CachePlace::User | CachePlace::Directory(_) => false,
    };
    if let Some(ca) = raw.ca.as_ref().filter(|_| !is_reached_by_tls) {
        let message = "`ca` is of a server that is reached by https";
        cx.report.error(ca.span, message).hint("leave it out");
    }
    let max_size = raw.max_size.as_ref();
    let max_size = max_size.and_then(|text| size(cx, text));
    if let Some(text) = raw.max_size.as_ref().filter(|_| place.is_remote()) {
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
        push: raw.push.unwrap_or(!place.is_remote()),
        // Where it is not there, the cache is left out, as where its server is not.
        ca: raw.ca.map(|ca| cx.src_dir.join(&ca.value)),
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
    const HINT: &str = "write for example https://cache.example.org/avocado, s3://bucket/avocado or \
                        file:///srv/cache";
    let Some(url) = url else {
        return Some((CachePlace::User, None));
    };
    let url = StatedValue::File(url);
    if let Some(path) = url.text().strip_prefix("s3://") {
        let bucket = bucket(path);
        if bucket.is_none() {
            let message = format!("{} is not the URL of a bucket", shown(url.text()));
            url.complain_of_url(cx, &message).hint(
                "write for example s3://bucket/avocado, with letters, digits and `-._` in the names; who \
                 asks is said by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            );
        }
        return bucket.map(|bucket| (CachePlace::Bucket(bucket), None));
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

/// A text that was meant as a URL, unless it can have a password in it.
fn shown(text: &str) -> String {
    if text.contains('@') {
        return "what is stated".to_owned();
    }
    quoted(text)
}

/// The bucket and the prefix, neither of which has anything in it that would be encoded in a URL.
fn bucket(path: &str) -> Option<CacheBucket> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (name, prefix) = match path.split_once('/') {
        Some((name, prefix)) => (name, Some(prefix)),
        None => (path, None),
    };
    let is_plain = |part: &str| {
        let mut bytes = part.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            && !["", ".", ".."].contains(&part)
    };
    let is_good = is_plain(name) && prefix.is_none_or(|prefix| prefix.split('/').all(is_plain));
    is_good.then(|| CacheBucket {
        name: name.to_owned(),
        prefix: prefix.unwrap_or_default().to_owned(),
        endpoint: None,
        region: None,
    })
}

/// Where the server of a bucket is; of other caches it is in the URL.
fn bucket_settings(
    cx: &mut ResolveContext<'_>,
    place: &mut CachePlace,
    endpoint: Option<Text>,
    region: Option<Text>,
) {
    let CachePlace::Bucket(bucket) = place else {
        for (key, text) in [("endpoint", endpoint), ("region", region)] {
            if let Some(text) = text {
                let message = format!("`{key}` is of a bucket (`s3://…`)");
                cx.report.error(text.span, message).hint("leave it out");
            }
        }
        return;
    };
    if let Some(text) = endpoint {
        let has_more = text.value.contains(['?', '#', '@']);
        if is_url(&text.value) && !has_more {
            bucket.endpoint = Some(text.value);
        } else {
            let url = StatedValue::File(text);
            let message = format!("{} is not the URL of a server", shown(url.text()));
            let hint = "write for example https://s3.example.org";
            url.complain_of_url(cx, &message).hint(hint);
        }
    }
    if let Some(text) = region {
        let mut bytes = text.value.bytes();
        if !text.value.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            bucket.region = Some(text.value);
        } else {
            let message = format!("{} is no region", quoted(&text));
            let hint = "write for example eu-central-1";
            cx.report.error(text.span, message).hint(hint);
        }
    }
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
