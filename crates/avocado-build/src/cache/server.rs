//! Caches that are reached over a network.

use std::time::Duration;

use avocado_cache::{Bucket, CacheStore, HttpStore};
use avocado_events::chain;
use avocado_http::{HttpClient, NetworkSettings, RepositoryUrl};
use avocado_project::{CacheBucket, SharedCache};

use crate::build_context::BuildContext;
use crate::error::{At as _, BuildError};
use crate::options::{BucketAccess, CacheOptions};

/// How long a server may take until it is connected to.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may say nothing.
const READ: Duration = Duration::from_secs(10);

/// The cache at the URL of a server.
pub(super) fn server<'a>(
    url: &str,
    cache: &SharedCache,
    settings: &CacheOptions,
    context: &BuildContext<'_>,
) -> Result<Box<dyn CacheStore + 'a>, BuildError> {
    let base: RepositoryUrl = url.parse().map_err(|e| unusable(url, &e))?;
    let mut client = client(&base, cache, settings, context)?;
    if let Some(who) = &cache.credentials {
        let bases = std::slice::from_ref(&base);
        client = client.as_user(bases, &who.username, &who.password);
    }
    Ok(Box::new(HttpStore::new(base, client, READ)))
}

/// The cache in a bucket.
pub(super) fn bucket<'a>(
    place: &CacheBucket,
    cache: &SharedCache,
    settings: &CacheOptions,
    context: &BuildContext<'_>,
) -> Result<Box<dyn CacheStore + 'a>, BuildError> {
    let access = settings.bucket.as_ref();
    let known = access.and_then(|access| Some((access, access.credentials.clone()?)));
    let Some((access, credentials)) = known else {
        return Err(BuildError::Invalid(format!(
            "nothing says who asks the bucket {}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            place.name
        )));
    };
    let BucketAccess {
        endpoint, region, ..
    } = access;
    let base: RepositoryUrl = endpoint.parse().map_err(|e| unusable(endpoint, &e))?;
    let bucket = Bucket::new(&base, &place.name, &place.prefix, region, credentials);
    let bucket = bucket.map_err(|e| unusable(endpoint, &e))?;
    let client = client(&base, cache, settings, context)?;
    Ok(Box::new(HttpStore::in_bucket(bucket, client, READ)))
}

fn client(
    base: &RepositoryUrl,
    cache: &SharedCache,
    settings: &CacheOptions,
    context: &BuildContext<'_>,
) -> Result<HttpClient, BuildError> {
    let ca = match &cache.ca {
        Some(path) => Some(std::fs::read(path).at("read", path)?),
        None => None,
    };
    let network = NetworkSettings {
        ca,
        ..settings.network.clone()
    };
    let bases = std::slice::from_ref(base);
    let client = HttpClient::over(&network, bases, None, CONNECT, READ);
    let client = client.map_err(|e| unusable(base.as_str(), &e))?;
    Ok(client.stopped_by(context.cancel))
}

fn unusable(url: &str, error: &dyn std::error::Error) -> BuildError {
    let url = avocado_http::without_secrets(url);
    BuildError::Invalid(format!("the URL {url} cannot be used: {}", chain(error)))
}
