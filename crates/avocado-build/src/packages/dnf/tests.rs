use std::cell::Cell;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use avocado_backend::ToolError;
use avocado_events::Silent;
use avocado_serve::{FileServer, ServeOptions};

use super::configuration::{seen_from, write};
use super::*;
use crate::failure_kind::FailureKind;
use crate::layout::Layout;
use crate::packages::feed::FeedAccess;
use crate::packages::repository::RepositoryAccess;

fn access() -> FeedAccess {
    FeedAccess {
        url: "http://feed".into(),
        releasever: "2024/edge".into(),
        ca: None,
        tls_verify: true,
        credentials: None,
        repositories: Vec::new(),
        cached: false,
        signing_keys: None,
        dnf_args: vec!["--nobest".into()],
    }
}

fn layout(state: &Path) -> Layout {
    let layout = Layout::new(state, &"t".parse().unwrap());
    let vars = layout.target_repoconf().join("etc/dnf/vars");
    fs::create_dir_all(&vars).unwrap();
    fs::write(vars.join("arch"), "core2_64:noarch\n").unwrap();
    layout
}

#[test]
fn the_cache_is_reached_from_every_tree() {
    for (root, cache, seen) in [
        ("/s/t/.rootfs.new", "/s/t/.work/c", "/../.work/c"),
        ("/s/t/.work/e/.a.new", "/s/t/.work/c", "/../../c"),
        ("/a/b", "/c", "/../../c"),
        ("/a", "/a/c", "/c"),
    ] {
        let found = seen_from(Path::new(root), Path::new(cache));
        assert_eq!(found, Path::new(seen), "{root} {cache}");
    }
}

#[test]
fn each_view_has_its_repositories_and_architectures() {
    let state = tempfile::tempdir().unwrap();
    let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
    let home = state.path().join("t/.tree.dnf");
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    let line = |key: &str| {
        let conf = read("dnf.conf");
        let lines = conf.lines().filter_map(|line| line.split_once('='));
        let mut values = lines.filter(|(k, _)| *k == key).map(|(_, v)| v.to_owned());
        values.next()
    };
    let (own, target) = (
        home.join("repos").display().to_string(),
        layout.target_repoconf().join("etc/yum.repos.d"),
    );
    let target = target.display().to_string();
    for (view, repositories, arch, lowest_layer) in [
        (
            RepositoryView::Bootstrap,
            own.clone(),
            "avocado_nativesdk",
            true,
        ),
        (
            RepositoryView::Sdk,
            format!("{own},{target}"),
            "avocado_nativesdk",
            false,
        ),
        (RepositoryView::Target, target.clone(), "core2_64", false),
        (
            RepositoryView::Includes,
            format!("{own},{target}"),
            "core2_64",
            true,
        ),
    ] {
        let dnf = Dnf::new(&layout, &access(), view, &root, false).unwrap();
        assert_eq!(line("reposdir"), Some(repositories), "{view:?}");
        assert_eq!(line("cachedir").unwrap(), "/../.work/dnf-cache");
        assert_eq!(line("install_weak_deps").unwrap(), "0");
        assert_eq!((line("sslverify"), line("sslcacert")), (None, None));
        assert!(read("vars/arch").contains(arch), "{view:?}");
        assert_eq!(read("vars/repo_url"), "http://feed");
        let words = dnf.dnf("install").command_line();
        let has = |word: &str| words.iter().any(|w| w == word);
        assert_eq!(has("--disablerepo=*-target-ext"), !lowest_layer, "{view:?}");
        assert!(
            has("--releasever=2024/edge") && has("--nobest"),
            "{words:?}"
        );
    }
    let access = FeedAccess {
        ca: Some("/ca.pem".into()),
        tls_verify: false,
        cached: true,
        ..access()
    };
    let dnf = Dnf::new(&layout, &access, RepositoryView::Target, &root, true).unwrap();
    let words = dnf.dnf("repoquery").command_line();
    assert!(words.iter().any(|word| word == "--cacheonly"), "{words:?}");
    assert_eq!(line("sslcacert").unwrap(), "/ca.pem");
    assert_eq!(line("sslverify").unwrap(), "0");
    assert_eq!(line("install_weak_deps").unwrap(), "1");
}

#[test]
fn who_asks_stands_in_files_that_go_with_dnf() {
    use crate::packages::repository::AccessCredentials;
    let state = tempfile::tempdir().unwrap();
    let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
    let other = |name: &str, for_sdk: bool, keys: bool| {
        let keys = if keys { "\"KEYS\"" } else { "null" };
        let text = format!(
            "{{\"name\": \"{name}\", \"url\": \"https://{name}/$releasever\", \"credentials\": \
             {{\"username\": \"me\", \"password\": \"hidden\"}}, \"for_sdk\": {for_sdk}, \
             \"for_target\": true, \"ca\": null, \"tls_verify\": true, \"signing_keys\": {keys}, \
             \"priority\": 5}}"
        );
        serde_json::from_str::<RepositoryAccess>(&text).unwrap()
    };
    let access = FeedAccess {
        credentials: Some(AccessCredentials {
            username: "user".into(),
            password: "pass$word".into(),
        }),
        repositories: vec![other("vendor", false, true), other("tools", true, false)],
        ..access()
    };
    let of_target = layout.target_repoconf().join("etc/yum.repos.d/t.repo");
    write(&of_target, "[t]\nbaseurl=${repo_url}/t\n").unwrap();
    let dnf = Dnf::new(&layout, &access, RepositoryView::Target, &root, true).unwrap();
    let words = dnf.dnf("install").command_line();
    let words: Vec<String> = words.iter().map(|w| w.to_string_lossy().into()).collect();
    for secret in ["hidden", "pass", "me"] {
        assert!(
            !words.iter().any(|w| w == secret || w.contains("hidden")),
            "{words:?}"
        );
    }
    let conf = Path::new(&words[2]).to_owned();
    let text = fs::read_to_string(&conf).unwrap();
    assert!(!text.contains("pass"), "{text}");
    let place = conf.parent().unwrap().to_owned();
    let of_feed = fs::read_to_string(place.join("0/t.repo")).unwrap();
    let own = "username=user\npassword=pass${avocado_dollar}word\n";
    assert_eq!(of_feed, format!("[t]\nbaseurl=${{repo_url}}/t\n{own}"));
    assert!(text.contains(&format!(",{}", place.display())), "{text}");
    let vendor = fs::read_to_string(place.join("vendor.repo")).unwrap();
    for line in [
        "baseurl=https://vendor/$releasever",
        "username=me",
        "password=hidden",
        "sslverify=1",
        "priority=5",
        "gpgcheck=1",
    ] {
        assert!(vendor.lines().any(|l| l == line), "{line}: {vendor}");
    }
    let keys = format!(
        "--setopt=vendor.gpgkey=file://{}/vendor.asc",
        place.display()
    );
    assert!(words.contains(&keys), "{words:?}");
    drop(dnf);
    assert!(!place.exists());
    // Each tree has its own, and the configuration of the feed comes from the feed alone.
    for (view, vendor, tools) in [
        (RepositoryView::Sdk, false, true),
        (RepositoryView::Includes, true, true),
        (RepositoryView::Bootstrap, false, false),
    ] {
        let dnf = Dnf::new(&layout, &access, view, &root, true).unwrap();
        let place = dnf.secrets.as_ref().unwrap().path();
        let has = |name: &str| place.join(name).exists();
        assert_eq!(
            (has("vendor.repo"), has("tools.repo")),
            (vendor, tools),
            "{view:?}"
        );
    }
}

#[test]
fn dnf_leaves_no_trace_but_the_database() {
    let state = tempfile::tempdir().unwrap();
    let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
    let dnf = Dnf::new(&layout, &access(), RepositoryView::Target, &root, false).unwrap();
    for file in [
        "var/lib/rpm/rpmdb.sqlite",
        "var/lib/dnf/history.sqlite",
        "var/log/dnf.log",
        "var/log/dnf.rpm.log",
        "var/log/hawkey.log",
        "var/cache/app/kept",
        "etc/dnf/modules.d/m",
    ] {
        write(&root.join(file), "").unwrap();
    }
    dnf.finish(&DatabasePlace::Tree).unwrap();
    let walk = walkdir::WalkDir::new(&root).sort_by_file_name();
    let left = walk.into_iter().map(|entry| entry.unwrap());
    let left = left.filter(|entry| entry.depth() > 0 && !entry.path().is_symlink());
    let left: Vec<String> = left
        .map(|e| e.path().strip_prefix(&root).unwrap().display().to_string())
        .collect();
    assert_eq!(
        left,
        [
            "var",
            "var/cache",
            "var/cache/app",
            "var/cache/app/kept",
            "var/lib",
            "var/lib/rpm",
            "var/lib/rpm/rpmdb.sqlite",
        ]
    );
    assert!(!state.path().join("t/.tree.dnf").exists());
    assert!(layout.dnf_cache().is_dir());
}

#[test]
fn locks_of_a_dnf_that_is_gone_are_removed() {
    let state = tempfile::tempdir().unwrap();
    let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
    let dnf = Dnf::new(&layout, &access(), RepositoryView::Target, &root, false).unwrap();
    let stale = layout.dnf_cache().join("download_lock.pid");
    fs::write(&stale, "123").unwrap();
    fs::write(layout.dnf_cache().join("a.solv"), "").unwrap();
    let _lock = dnf.lock_cache().unwrap();
    assert!(!stale.exists());
    assert!(layout.dnf_cache().join("a.solv").exists());
}

/// A feed of one repository without packages, reached as a directory.
struct EmptyFeed(PathBuf);

impl EmptyFeed {
    /// `None` where that cannot be tried.
    fn new(test: &str, place: &Path) -> Option<Self> {
        let has = |tool: &&str| Tool::new(tool).arg("--version").read(&Silent).is_ok();
        if let Some(tool) = ["dnf", "createrepo_c"].iter().find(|tool| !has(tool)) {
            avocado_test_support::skip(test, format!("{tool} is not installed"));
            return None;
        }
        let feed = EmptyFeed(place.join("feed"));
        fs::create_dir_all(feed.repository()).unwrap();
        feed.move_on("1");
        Some(feed)
    }

    fn repository(&self) -> PathBuf {
        self.0.join("2024/edge/sdk/all")
    }

    fn access(&self) -> FeedAccess {
        FeedAccess {
            url: format!("file://{}", self.0.display()),
            dnf_args: Vec::new(),
            ..access()
        }
    }

    fn move_on(&self, revision: &str) {
        let index = Tool::new("createrepo_c").args(["--quiet", "--revision", revision]);
        index.arg(self.repository()).run(&Silent).unwrap();
    }
}

/// dnf failed, with that status.
fn failed(status: i32, said: &[&str]) -> ToolError {
    ToolError::Failed {
        tool: "dnf".into(),
        status: ExitStatus::from_raw(status << 8),
        output: said.iter().map(|line| (*line).to_owned()).collect(),
    }
}

#[test]
fn a_feed_is_asked_again_where_it_moved_and_not_where_dnf_says_so() {
    let test = "a_feed_is_asked_again_where_it_moved_and_not_where_dnf_says_so";
    let state = tempfile::tempdir().unwrap();
    let Some(feed) = EmptyFeed::new(test, state.path()) else {
        return;
    };
    let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
    let dnf_with = |access: &FeedAccess| {
        Dnf::new(&layout, access, RepositoryView::Bootstrap, &root, false).unwrap()
    };
    // How often dnf is asked that has the metadata of before, and what becomes of it.
    let asked = |dnf: &Dnf<'_>, status: i32, said: &[&str], meanwhile: &dyn Fn(u32)| {
        let count = Cell::new(0);
        let answer = dnf.with_cache(|| -> Result<(), ToolError> {
            count.set(count.get() + 1);
            if dnf.may_ask {
                dnf.dnf("makecache").arg("--refresh").run(&Silent)?;
            }
            meanwhile(count.get());
            if count.get() == 2 && said.is_empty() {
                return Ok(());
            }
            Err(failed(status, said))
        });
        (count.get(), answer.map_err(|error| error.kind()))
    };
    let words = [
        "[MIRROR] a-1.rpm: Status code: 404 for http://feed/a-1.rpm (IP: ::1)",
        "Error: Error downloading packages:",
    ];
    let revisions = Cell::new(1);
    let moves = |_: u32| {
        revisions.set(revisions.get() + 1);
        feed.move_on(&revisions.get().to_string());
    };
    let (changed, unreachable) = (FailureKind::FeedChanged, FailureKind::FeedUnreachable);
    let dnf = dnf_with(&feed.access());
    // Whatever dnf says of it.
    assert_eq!(asked(&dnf, 1, &[], &moves), (2, Ok(())));
    let other = ["Error: something else"];
    assert_eq!(asked(&dnf, 1, &other, &moves), (2, Err(Some(changed))));
    // It may have had no metadata yet, which are not worth less for that.
    let first = |count| {
        if count == 1 {
            crate::trees::clear(&layout.dnf_cache()).unwrap();
            fs::create_dir(layout.dnf_cache()).unwrap();
        }
    };
    assert_eq!(asked(&dnf, 1, &[], &first), (2, Ok(())));
    // A feed that is as it was, and arguments that make no sense.
    let nothing = |_| {};
    assert_eq!(asked(&dnf, 1, &words, &nothing), (1, Err(Some(changed))));
    assert_eq!(asked(&dnf, 1, &other, &nothing), (1, Err(None)));
    assert_eq!(asked(&dnf, 2, &other, &moves), (1, Err(None)));
    // One that may not be asked.
    let cached = FeedAccess {
        cached: true,
        ..feed.access()
    };
    let cached = dnf_with(&cached);
    assert_eq!(asked(&cached, 1, &other, &moves), (1, Err(None)));
    // One that is gone.
    let gone = |_| fs::rename(feed.repository(), state.path().join("gone")).unwrap();
    assert_eq!(asked(&dnf, 1, &other, &gone), (1, Err(Some(unreachable))));
}

/// A package without files, which nobody signed.
fn empty_package(place: &Path, name: &str) -> PathBuf {
    let path = place.join(format!("{name}.rpm"));
    let package = rpm::PackageBuilder::new(name, "1", "MIT", "noarch", "x").build();
    package.unwrap().write_file(&path).unwrap();
    path
}

#[test]
fn a_dnf_that_failed_after_it_installed_something_is_not_asked_again() {
    let test = "a_dnf_that_failed_after_it_installed_something_is_not_asked_again";
    let state = tempfile::tempdir().unwrap();
    let Some(feed) = EmptyFeed::new(test, state.path()) else {
        return;
    };
    let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
    let view = RepositoryView::Bootstrap;
    let dnf = Dnf::new(&layout, &feed.access(), view, &root, false).unwrap();
    let revision = Cell::new(1);
    // The feed moves on while dnf is at work, and dnf fails in its first try.
    let asked = |installs: &[&str]| {
        let count = Cell::new(0);
        let answer = dnf.with_cache(|| -> Result<(), ToolError> {
            count.set(count.get() + 1);
            dnf.dnf("makecache").arg("--refresh").run(&Silent)?;
            revision.set(revision.get() + 1);
            feed.move_on(&revision.get().to_string());
            for name in installs {
                let rpm = dnf.tool("rpm").arg("--root").arg(&root);
                let rpm = rpm.args(["-i", "--justdb", "--nodeps", "--nosignature"]);
                rpm.arg(empty_package(state.path(), name)).run(&Silent)?;
            }
            if count.get() == 2 {
                return Ok(());
            }
            Err(failed(1, &["Error: Transaction failed"]))
        });
        (count.get(), answer.map_err(|error| error.kind()))
    };
    assert_eq!(asked(&[]), (2, Ok(())));
    assert_eq!(asked(&["a"]), (1, Err(None)));
    assert!(dnf.installed(&Silent).unwrap().contains_key("a"));
    // What was there before is no reason.
    assert_eq!(asked(&[]), (2, Ok(())));
    assert_eq!(asked(&["b"]), (1, Err(None)));
}

/// A feed over HTTP with the packages `a`, which requires `b`, and `c`, which requires what nobody has.
fn feed_with_packages(feed: &EmptyFeed) -> FileServer {
    let package = |name: &str, requires: Option<&str>| {
        let mut package = rpm::PackageBuilder::new(name, "1", "MIT", "noarch", "x");
        if let Some(other) = requires {
            package.requires(rpm::Dependency::any(other));
        }
        let path = feed.repository().join(format!("{name}.rpm"));
        package.build().unwrap().write_file(&path).unwrap();
    };
    package("a", Some("b"));
    package("b", None);
    package("c", Some("nothing"));
    feed.move_on("2");
    FileServer::start(ServeOptions::new(&feed.0)).unwrap()
}

#[test]
fn what_is_not_in_the_cache_is_named_by_what_the_cache_has() {
    let test = "what_is_not_in_the_cache_is_named_by_what_the_cache_has";
    let state = tempfile::tempdir().unwrap();
    let Some(feed) = EmptyFeed::new(test, state.path()) else {
        return;
    };
    let server = feed_with_packages(&feed);
    let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
    let access = |cached: bool| FeedAccess {
        url: server.url().trim_end_matches('/').to_owned(),
        cached,
        ..feed.access()
    };
    let install = |cached: bool, packages: &[&str]| {
        crate::trees::clear(&root).unwrap();
        let view = RepositoryView::Bootstrap;
        let dnf = Dnf::new(&layout, &access(cached), view, &root, false).unwrap();
        let specs: Vec<String> = packages.iter().map(|p| (*p).to_owned()).collect();
        dnf.install(&specs, &Silent)
    };
    let missing = |packages: &[&str]| match install(true, packages) {
        Ok(()) => Ok(Vec::new()),
        Err(BuildError::NotInCache { missing }) => Ok(missing),
        Err(other) => Err(other.kind()),
    };
    let index = "the index of repository avocado-sdk".to_owned();
    assert_eq!(missing(&["a"]), Ok(vec![index]));
    install(false, &["b"]).unwrap();
    let package = "package a-1-1.noarch".to_owned();
    assert_eq!(missing(&["a"]), Ok(vec![package.clone()]));
    assert_eq!(missing(&["b"]), Ok(Vec::new()));
    // What it is missing is of no use to one that finds no way.
    assert_eq!(missing(&["a", "c"]), Err(None));
    let not_found = FailureKind::PackageNotFound;
    assert_eq!(missing(&["a", "nothing"]), Err(Some(not_found)));
    // A file that was cut off.
    install(false, &["a"]).unwrap();
    assert_eq!(missing(&["a"]), Ok(Vec::new()));
    let files = walkdir::WalkDir::new(layout.dnf_cache()).into_iter();
    let files = files.map(|entry| entry.unwrap().into_path());
    let files: Vec<PathBuf> = files
        .filter(|path| path.ends_with("packages/a.rpm"))
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    fs::write(&files[0], "cut off").unwrap();
    assert_eq!(missing(&["a"]), Ok(vec![package]));
}
