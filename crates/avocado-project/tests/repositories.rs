//! Where packages come from beside the feed, and who asks.

use std::fs;

use avocado_project::{LoadOptions, Project, ProjectError};

fn load(yaml: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Project, ProjectError> {
    let directory = tempfile::tempdir().unwrap();
    for file in ["ca.pem", "key.asc"] {
        fs::write(directory.path().join(file), "").unwrap();
    }
    let config = directory.path().join("avocado.yaml");
    fs::write(&config, format!("default_target: t\n{yaml}")).unwrap();
    let loaded = avocado_project::load(&LoadOptions {
        config: &config,
        text: None,
        target: None,
        env,
        cli_version: "1.0.0",
    })?;
    assert_eq!(loaded.warnings, []);
    Ok(loaded.project)
}

#[test]
fn a_repository_says_whom_it_is_for_and_who_asks() {
    let yaml = "repos:
  plain: {url: 'https://a.example/$releasever'}
  vendor:
    url: https://me:from-url@b.example
    for: [sdk, target]
    username: you
    password: \"{{ env.SECRET }}\"
    ca: ca.pem
    gpgkey: key.asc
    tls_verify: false
    priority: 5
  tools: {url: 'https://me:p%40ss@c.example/x', for: sdk}
";
    let secret = |name: &str| (name == "SECRET").then(|| "hidden".to_owned());
    let project = load(yaml, &secret).unwrap();
    let [plain, vendor, tools] = &project.repositories[..] else {
        panic!("{:?}", project.repositories);
    };
    assert_eq!(plain.url, "https://a.example/$releasever");
    assert_eq!((plain.for_sdk, plain.for_target), (false, true));
    assert_eq!((&plain.credentials, plain.tls_verify), (&None, true));
    let who = vendor.credentials.as_ref().unwrap();
    assert_eq!(
        (who.username.as_str(), who.password.as_str()),
        ("you", "hidden")
    );
    assert_eq!((vendor.for_sdk, vendor.for_target), (true, true));
    assert_eq!(
        (vendor.url.as_str(), vendor.priority),
        ("https://b.example", Some(5))
    );
    assert!(!vendor.tls_verify && vendor.ca.is_some() && vendor.gpg_key.is_some());
    let who = tools.credentials.as_ref().unwrap();
    assert_eq!(
        (who.username.as_str(), who.password.as_str()),
        ("me", "p@ss")
    );
    assert_eq!((tools.for_sdk, tools.for_target), (true, false));
    let shown = format!("{project:?}{}", serde_json::to_string(&project).unwrap());
    for secret in ["hidden", "p@ss", "p%40ss", "from-url"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn who_asks_the_feed_comes_from_the_environment_first() {
    let yaml = "distro: {repo: {url: 'https://url:1@a.example/', username: file, password: '2'}}\n";
    let who = |env: &dyn Fn(&str) -> Option<String>| {
        let distro = load(yaml, env).unwrap().distro;
        assert!(
            distro.repo_url.ends_with("a.example"),
            "{}",
            distro.repo_url
        );
        let who = distro.credentials.unwrap();
        (who.username, who.password)
    };
    assert_eq!(who(&|_| None), ("file".to_owned(), "2".to_owned()));
    let both = |name: &str| match name {
        "AVOCADO_REPO_USERNAME" => Some("env".to_owned()),
        "AVOCADO_REPO_PASSWORD" => Some("3".to_owned()),
        _ => None,
    };
    assert_eq!(who(&both), ("env".to_owned(), "3".to_owned()));
}

#[test]
fn what_no_repository_can_be_is_told_without_its_password() {
    for (yaml, said) in [
        ("repos: {a: {}}", "the repository `a` has no `url`"),
        ("repos: {a: }", "the repository `a` has no `url`"),
        (
            "repos: {a: {url: 'ftp://me:secret@a'}}",
            "`ftp://a` is not the URL of a repository",
        ),
        (
            "distro: {repo: {url: 'ftp://me:secret@a'}}",
            "`ftp://a` is not the URL of a feed",
        ),
        (
            "repos: {a: {url: 'https://a', for: host}}",
            "`host` is nothing that packages are for",
        ),
        (
            "repos: {a: {url: 'https://a', password: secret}}",
            "`username` and `password` go together",
        ),
        (
            "repos: {a: {url: 'https://a', username: u, password: ''}}",
            "this is empty: is the variable set that it is taken from?",
        ),
        (
            "repos: {a: {url: 'https://a', username: u, password: \"sec\\nret\"}}",
            "this has control characters in it, or space around it",
        ),
        (
            "repos: {avocado-sdk: {url: 'https://a'}}",
            "`avocado-sdk` is the name of another repository",
        ),
        ("repos: {../a: {url: 'https://a'}}", "../a"),
    ] {
        let error = load(&format!("{yaml}\n"), &|_| None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{yaml}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// It is for those who install to complain of.
#[test]
fn a_certificate_that_is_not_there_is_told_where_it_is_needed() {
    let yaml = "repos: {a: {url: 'https://a', ca: none.pem}}\n";
    let project = load(yaml, &|_| None).unwrap();
    let unusable = project.distro.unusable.iter().map(|found| &found.message);
    let unusable: Vec<_> = unusable.collect();
    let missing = "the CA certificate `none.pem` does not exist";
    assert!(unusable.iter().any(|said| *said == missing), "{unusable:?}");
}
