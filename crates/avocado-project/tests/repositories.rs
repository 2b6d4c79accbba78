//! Where packages come from beside the feed, and who asks.

use std::fs;

use avocado_project::{LoadOptions, Loaded, Project, ProjectError};

fn load(yaml: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Project, ProjectError> {
    let loaded = load_with_warnings(yaml, env)?;
    assert_eq!(loaded.warnings, []);
    Ok(loaded.project)
}

fn load_with_warnings(
    yaml: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ProjectError> {
    let directory = tempfile::tempdir().unwrap();
    for file in ["ca.pem", "key.asc"] {
        fs::write(directory.path().join(file), "").unwrap();
    }
    let config = directory.path().join("avocado.yaml");
    fs::write(&config, format!("default_target: t\n{yaml}")).unwrap();
    avocado_project::load(&LoadOptions {
        config: &config,
        text: None,
        target: None,
        env,
        cli_version: "1.0.0",
    })
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
    let who = vendor.credentials.as_ref().unwrap().known().unwrap();
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
    let who = tools.credentials.as_ref().unwrap().known().unwrap();
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
        let who = who.known().unwrap().clone();
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

/// Who asks the feed, by name, and where that is: where each is stated in the file and in the
/// environment.
#[test]
fn who_asks_goes_to_whoever_stated_the_url() {
    let yaml = "distro: {repo: {url: 'https://a.example', username: file, password: secret}}\n";
    let asked = |yaml: &str, variables: &[(&str, &str)]| {
        let env = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let distro = load(yaml, &env).unwrap().distro;
        let who = distro.credentials.map(|who| match who.get() {
            Ok(who) => format!("{}:{}", who.username, who.password),
            Err(why) => why.render(),
        });
        (distro.repo_url, who)
    };
    let url = |url| ("AVOCADO_REPO_URL", url);
    let expected = |url: &str, who: Option<&str>| (url.to_owned(), who.map(str::to_owned));
    let mirror = "http://mirror.example";
    assert_eq!(asked(yaml, &[url(mirror)]), expected(mirror, None));
    let old = [("AVOCADO_SDK_REPO_URL", mirror)];
    assert_eq!(asked(yaml, &old), expected(mirror, None));
    assert_eq!(
        asked(yaml, &[url("http://u2:pass-2@mirror.example")]),
        expected(mirror, Some("u2:pass-2"))
    );
    let own = [
        ("AVOCADO_REPO_USERNAME", "u3"),
        ("AVOCADO_REPO_PASSWORD", "pass-3"),
    ];
    let [user, password] = own;
    assert_eq!(
        asked(
            yaml,
            &[url("http://u2:pass-2@mirror.example"), user, password]
        ),
        expected(mirror, Some("u3:pass-3"))
    );
    // A half of the file's is not sent either.
    let (_, who) = asked(yaml, &[url(mirror), password]);
    let who = who.unwrap();
    assert!(
        who.contains("AVOCADO_REPO_PASSWORD: the feed wants"),
        "{who}"
    );
    assert!(!who.contains("secret") && !who.contains("pass-3"), "{who}");
    // The file's URL is asked by the file's user, or the environment's.
    let file = "https://a.example";
    assert_eq!(
        asked(yaml, &[password]),
        expected(file, Some("file:pass-3"))
    );
    assert_eq!(asked(yaml, &own), expected(file, Some("u3:pass-3")));
}

#[test]
fn a_variable_that_is_not_set_matters_to_those_who_ask() {
    for value in ["", "two\nlines"] {
        let env = |name: &str| (name == "SET" && !value.is_empty()).then(|| value.to_owned());
        let yaml = "distro: {repo: {username: me, password: \"{{ env.SET }}\"}}
repos: {a: {url: 'https://a', username: \"{{ env.SET }}\", password: secret}}
";
        let project = load_with_warnings(yaml, &env).unwrap().project;
        let of_other = project.repositories[0].credentials.clone();
        for who in [project.distro.credentials, of_other] {
            let why = who.unwrap().get().unwrap_err().render();
            assert!(
                why.contains("avocado.yaml:") && why.contains("this "),
                "{why}"
            );
            assert!(!why.contains("secret"), "{why}");
        }
    }
    // The password may come from the environment alone.
    let yaml = "distro: {repo: {username: me}}\n";
    let project = load(yaml, &|_| None).unwrap();
    let who = project.distro.credentials.unwrap();
    let hint = who.get().unwrap_err().hint.clone().unwrap();
    assert!(hint.contains("AVOCADO_REPO_PASSWORD"), "{hint}");
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
            "this is empty",
        ),
        (
            "repos: {a: {url: 'https://a', username: u, password: \"sec\\nret\"}}",
            "this has control characters in it, or space around it",
        ),
        (
            "distro: {repo: {url: 'https://me:s3/secret@a'}}",
            "the URL of the feed has a `@` behind its host",
        ),
        (
            "sdk: {repo_url: 'https://me/secret@a'}",
            "the URL of the feed has a `@` behind its host",
        ),
        (
            "repos: {a: {url: 'https://me:s3/secret@a'}}",
            "the URL of the repository `a` has a `@` behind its host",
        ),
        (
            "repos: {a: {url: 'https://me:secret'}}",
            "the URL of the repository `a` has a port that is no number",
        ),
        (
            "repos: {avocado-sdk: {url: 'https://a'}}",
            "`avocado-sdk` is the name of another repository",
        ),
        ("repos: {../a: {url: 'https://a'}}", "../a"),
    ] {
        let error = load(&format!("{yaml}\n"), &|_| None).unwrap_err();
        let error = match error {
            ProjectError::Invalid { diagnostics } => {
                let rendered = diagnostics.iter().map(|d| d.render());
                rendered.collect::<Vec<_>>().join("\n")
            }
            other => other.to_string(),
        };
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
