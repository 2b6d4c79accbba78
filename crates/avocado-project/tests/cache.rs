//! The cache that a project shares.

use std::fs;

use avocado_project::{CachePlace, LoadOptions, Project, ProjectError, SharedCache};

fn load(yaml: &str) -> Result<Project, ProjectError> {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("avocado.yaml");
    fs::write(&config, format!("default_target: t\n{yaml}")).unwrap();
    let loaded = avocado_project::load(&LoadOptions {
        config: &config,
        text: None,
        target: None,
        env: &|name| (name == "SECRET").then(|| "hidden".to_owned()),
        cli_version: "1.0.0",
    })?;
    assert_eq!(loaded.warnings, []);
    Ok(loaded.project)
}

fn cache(yaml: &str) -> SharedCache {
    load(yaml).unwrap().cache.unwrap()
}

#[test]
fn a_project_has_the_cache_that_it_states() {
    assert_eq!(load("").unwrap().cache, None);
    let user = cache("cache: {}\n");
    assert_eq!((&user.place, user.push), (&CachePlace::User, true));
    assert_eq!((user.trusted_keys.len(), user.max_size), (0, None));

    let directory = cache("cache: {url: 'file:///srv/cache', max_size: 20G, push: false}\n");
    assert_eq!(directory.place, CachePlace::Directory("/srv/cache".into()));
    assert_eq!(
        (directory.push, directory.max_size),
        (false, Some(20 << 30))
    );

    let id = "0123456789abcdef".repeat(4);
    let server = cache(&format!(
        "signing_keys: [{{ci: ci-key}}, {{old: {id}}}]
cache:
  url: \"https://me:{{{{ env.SECRET }}}}@cache.example/team\"
  trusted_keys: [ci, old, '{}']
",
        "F".repeat(64)
    ));
    let url = "https://cache.example/team".to_owned();
    assert_eq!(
        (&server.place, server.push),
        (&CachePlace::Server(url), false)
    );
    let who = server.credentials.as_ref().unwrap();
    assert_eq!(
        (who.username.as_str(), who.password.as_str()),
        ("me", "hidden")
    );
    let keys = ["ci-key".to_owned(), id, "f".repeat(64)];
    assert_eq!(server.trusted_keys, keys);
    let shown = format!("{server:?}{}", serde_json::to_string(&server).unwrap());
    assert!(!shown.contains("hidden"), "{shown}");
    assert!(cache("cache: {url: 'http://h:1/x', push: true}\n").push);
}

#[test]
fn a_cache_is_in_a_bucket_and_behind_an_authority_of_its_own() {
    let bucket = cache("cache: {url: 's3://of-team/avo.cado/x/'}\n");
    let CachePlace::Bucket(place) = &bucket.place else {
        panic!("{bucket:?}");
    };
    assert_eq!(
        (place.name.as_str(), place.prefix.as_str()),
        ("of-team", "avo.cado/x")
    );
    assert_eq!((&place.endpoint, &place.region), (&None, &None));
    assert!(!bucket.push && bucket.place.is_remote());

    let bucket = cache(
        "cache: {url: 's3://b', endpoint: 'http://h:9000', region: eu-central-1, ca: a/ca.pem, push: true}\n",
    );
    let CachePlace::Bucket(place) = &bucket.place else {
        panic!("{bucket:?}");
    };
    assert_eq!((place.name.as_str(), place.prefix.as_str()), ("b", ""));
    assert_eq!(place.endpoint.as_deref(), Some("http://h:9000"));
    assert_eq!(place.region.as_deref(), Some("eu-central-1"));
    assert!(bucket.push && bucket.ca.unwrap().ends_with("a/ca.pem"));
}

#[test]
fn what_no_cache_can_be_is_told() {
    for (yaml, what) in [
        ("cache: {url: '/srv/cache'}", "is not the URL of a cache"),
        (
            "cache: {url: 'file://srv/cache'}",
            "is not the URL of a cache",
        ),
        ("cache: {url: 'ftp://h/x'}", "is not the URL of a cache"),
        ("cache: {url: 'https://h/x?y'}", "is not the URL of a cache"),
        ("cache: {url: 's3://'}", "is not the URL of a bucket"),
        ("cache: {url: 's3:///x'}", "is not the URL of a bucket"),
        ("cache: {url: 's3://b//x'}", "is not the URL of a bucket"),
        ("cache: {url: 's3://b/../x'}", "is not the URL of a bucket"),
        (
            "cache: {url: 's3://me:hidden@b/x'}",
            "what is stated is not the URL of a bucket",
        ),
        ("cache: {url: 's3://b/x?y'}", "is not the URL of a bucket"),
        (
            "cache: {url: 's3://b', endpoint: 'https://me:hidden@h'}",
            "what is stated is not the URL of a server",
        ),
        (
            "cache: {url: 's3://b', max_size: 1G}",
            "how much a server keeps is for the server",
        ),
        ("cache: {url: 'http://h/x', ca: ca.pem}", "reached by https"),
        (
            "cache: {url: 'https://h/x', max_size: 1G}",
            "how much a server keeps is for the server",
        ),
        ("cache: {max_size: much}", "no size of a directory"),
        (
            "cache: {trusted_keys: [ci]}",
            "neither a name of `signing_keys`",
        ),
        ("cache: {push: often}", "expected `true` or `false`"),
        ("cache: x", "expected"),
    ] {
        let error = load(&format!("{yaml}\n")).expect_err(yaml);
        let ProjectError::Invalid { diagnostics } = error else {
            panic!("{yaml}: {error}");
        };
        let said = diagnostics[0].to_string();
        assert!(said.contains(what), "{yaml}: {said}");
        assert!(!said.contains("hidden"), "{yaml}: {said}");
    }
}
