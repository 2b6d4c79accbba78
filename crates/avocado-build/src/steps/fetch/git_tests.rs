//! Fetches with the real git.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use avocado_events::{Cancel, Silent};
use avocado_project::LockFile;

use crate::error::BuildError;
use crate::failure_kind::FailureKind;
use crate::goal::Goal;
use crate::run::run_with;
use crate::tests::fake_backend::FakeBackend;
use crate::tests::test_project::TestProject;

/// A repository with an extension, and the project that fetches it.
struct Fetching {
    repository: tempfile::TempDir,
    project: TestProject,
}

impl Fetching {
    /// The source has these keys besides its URL. `None` where there is no git.
    fn new(test: &str, keys: &str) -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            avocado_test_support::skip(test, "git is not installed");
            return None;
        }
        let repository = tempfile::tempdir().unwrap();
        let url = format!("file://{}", repository.path().display());
        let project = TestProject::new(&format!(
            "default_target: qemux86-64\n\
             extensions: {{app: {{source: {{type: git, url: '{url}'{keys}}}}}}}\n"
        ));
        let fetching = Fetching {
            repository,
            project,
        };
        fetching.git(&["init", "--quiet", "--initial-branch=main"]);
        fetching.write(
            "avocado.yaml",
            "extensions: {app: {version: 1.0.0, overlay: files}}\n",
        );
        fetching.commit("1");
        Some(fetching)
    }

    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .arg("-C")
            .arg(self.repository.path())
            .args(["-c", "user.name=t", "-c", "user.email=t@t"])
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.repository.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A commit in which the extension has this text.
    fn commit(&self, text: &str) -> String {
        self.write("files/usr/share/text", text);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", text]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn fetch(&self) -> Result<Vec<String>, BuildError> {
        Ok(self.project.run(&Goal::Fetch(None))?.ran)
    }

    fn fetched(&self, path: &str) -> PathBuf {
        let includes = ".avocado/state/qemux86-64/includes/app";
        self.project.path(includes).join(path)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.fetched("files/usr/share/text")).unwrap()
    }

    fn lock(&self) -> LockFile {
        LockFile::load(&self.project.options.project.src_dir).unwrap()
    }
}

#[test]
fn a_branch_that_moves_changes_nothing_until_it_is_asked_for() {
    let test = "a_branch_that_moves_changes_nothing_until_it_is_asked_for";
    let Some(mut fetching) = Fetching::new(test, ", ref: main") else {
        return;
    };
    let first = fetching.git(&["rev-parse", "HEAD"]);
    assert_eq!(fetching.fetch().unwrap(), ["ext fetch app"]);
    assert_eq!(fetching.text(), "1");
    assert!(!fetching.fetched(".git").exists());
    assert_eq!(fetching.fetch().unwrap(), [""; 0]);
    let project = &mut fetching.project;
    project.edit("default_target", "# loaded again\ndefault_target");
    let version = project.options.project.extensions[0].version.get().unwrap();
    assert_eq!(version.as_str(), "1.0.0");
    let image = Goal::ExtImage(None);
    assert_eq!(
        project.run(&image).unwrap().ran,
        ["ext build app", "ext image app"]
    );

    fetching.commit("2");
    assert_eq!(fetching.fetch().unwrap(), [""; 0]);
    // Without the note of where it is from it would count as not here.
    let note = fetching.fetched("../.app.source");
    fs::remove_file(&note).unwrap();
    assert_eq!(fetching.fetch().unwrap(), ["ext fetch app"]);
    assert!(note.is_file());
    // A clone of the project, or one whose state was removed, gets what is locked.
    fs::remove_dir_all(fetching.project.path(".avocado")).unwrap();
    assert_eq!(fetching.fetch().unwrap(), ["ext fetch app"]);
    assert_eq!(fetching.text(), "1");
    let lock = fs::read_to_string(fetching.project.path("avocado.lock")).unwrap();
    assert!(lock.contains(&first), "{lock}");
    // As `avocado update` does.
    let mut lock = fetching.lock();
    lock.clear_target(&"qemux86-64".parse().unwrap());
    lock.save().unwrap();
    assert_eq!(fetching.fetch().unwrap(), ["ext fetch app"]);
    assert_eq!(fetching.text(), "2");
    assert_eq!(
        fetching.project.run(&image).unwrap().ran,
        ["ext build app", "ext image app"]
    );
}

#[test]
fn what_is_asked_for_may_be_a_tag_or_a_commit() {
    let test = "what_is_asked_for_may_be_a_tag_or_a_commit";
    let Some(mut fetching) = Fetching::new(test, ", ref: v1") else {
        return;
    };
    fetching.git(&["tag", "--annotate", "--message", "x", "v1"]);
    let commit = fetching.git(&["rev-parse", "HEAD"]);
    fetching.commit("2");
    fetching.git(&["switch", "--quiet", "--create", "deep/branch"]);
    fetching.commit("3");
    fetching.git(&["switch", "--quiet", "main"]);
    let mut before = "v1".to_owned();
    for (reference, text) in [
        ("v1", "1"),
        (commit.as_str(), "1"),
        (&commit[..9], "1"),
        ("main", "2"),
        ("deep/branch", "3"),
    ] {
        if before != reference {
            let (old, new) = (format!("ref: {before}"), format!("ref: {reference}"));
            fetching.project.edit(&old, &new);
            // What was fetched for another reference does not count.
            assert_eq!(fetching.project.options.project.extensions.len(), 0);
        }
        assert_eq!(fetching.fetch().unwrap(), ["ext fetch app"], "{reference}");
        assert_eq!(fetching.text(), text, "{reference}");
        before = reference.to_owned();
    }
}

#[test]
fn a_part_of_a_repository_is_enough() {
    let test = "a_part_of_a_repository_is_enough";
    let Some(mut fetching) = Fetching::new(test, ", sparse_checkout: [files]") else {
        return;
    };
    fetching.write("other/large", "x");
    fetching.commit("1, more");
    fetching.fetch().unwrap();
    let there = |fetching: &Fetching| {
        let paths = ["avocado.yaml", "files/usr/share/text", "other/large"];
        paths.map(|path| fetching.fetched(path).exists())
    };
    assert_eq!(there(&fetching), [true, true, false]);
    fetching
        .project
        .edit("[files]", "['/avocado.yaml', '/other/*']");
    fetching.fetch().unwrap();
    assert_eq!(there(&fetching), [true, false, true]);
}

/// The whole of what is said.
fn chain(error: &BuildError) -> String {
    let mut said = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        said += &format!("; {cause}");
        next = cause.source();
    }
    said
}

#[test]
fn what_cannot_be_fetched_is_told_with_its_place() {
    let test = "what_cannot_be_fetched_is_told_with_its_place";
    let Some(mut fetching) = Fetching::new(test, ", ref: none") else {
        return;
    };
    let error = fetching.fetch().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::SourceUnreachable));
    let said = chain(&error);
    let place = format!("{}:2:28)", fetching.project.path("avocado.yaml").display());
    assert!(
        said.contains("the extension `app` (") && said.contains(&place),
        "{said}"
    );
    assert!(said.contains("couldn't find remote ref none"), "{said}");
    assert!(!fetching.fetched("").exists());

    // A commit that is locked and gone is no wish for another one.
    fetching.project.edit("ref: none", "ref: main");
    fetching.fetch().unwrap();
    fetching.git(&["commit", "--quiet", "--amend", "--message", "other"]);
    fetching.git(&["reflog", "expire", "--expire=now", "--all"]);
    fetching.git(&["gc", "--quiet", "--prune=now"]);
    fs::remove_dir_all(fetching.project.path(".avocado")).unwrap();
    let error = fetching.fetch().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::CommitGone));

    // Who refuses says so, and nobody is asked.
    let url = format!("file://{}", fetching.repository.path().display());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("git://{}/x", listener.local_addr().unwrap());
    drop(listener);
    fetching.project.edit(&url, &closed);
    let error = fetching.fetch().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::SourceUnreachable));
}

#[test]
fn a_repository_that_does_not_answer_has_lost_no_commit() {
    let test = "a_repository_that_does_not_answer_has_lost_no_commit";
    let Some(fetching) = Fetching::new(test, ", ref: main") else {
        return;
    };
    fetching.fetch().unwrap();
    let lock = fs::read(fetching.project.path("avocado.lock")).unwrap();
    fs::remove_dir_all(fetching.project.path(".avocado")).unwrap();
    let place = fetching.repository.path();
    let away = place.join("away");
    fs::rename(place.join(".git"), &away).unwrap();
    let error = fetching.fetch().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::SourceUnreachable));
    assert_eq!(
        fs::read(fetching.project.path("avocado.lock")).unwrap(),
        lock
    );
    fs::rename(&away, place.join(".git")).unwrap();
    fetching.fetch().unwrap();
}

/// A script that leaves a trace.
fn trap(path: &Path, trace: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(
        path,
        format!("#!/bin/sh\ntouch '{}'\ncat\n", trace.display()),
    )
    .unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn neither_the_repository_nor_the_user_has_something_run() {
    let test = "neither_the_repository_nor_the_user_has_something_run";
    let Some(mut fetching) = Fetching::new(test, "") else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let (at, trace) = (|name: &str| home.path().join(name), home.path().join("ran"));
    for hook in [
        "post-checkout",
        "reference-transaction",
        "post-index-change",
    ] {
        trap(&at("hooks").join(hook), &trace);
        trap(&at("template/hooks").join(hook), &trace);
    }
    trap(&at("filter"), &trace);
    let config = format!(
        "[init]\ntemplateDir = {0}/template\n[core]\nhooksPath = {0}/hooks\nautocrlf = true\n\
         fsmonitor = {0}/filter\nattributesFile = {0}/attributes\n\
         [filter \"x\"]\nsmudge = {0}/filter\nrequired = true\n\
         [protocol]\nallow = always\n[protocol \"ext\"]\nallow = always\n\
         [submodule]\nrecurse = true\n",
        home.path().display()
    );
    fs::write(at(".gitconfig"), config).unwrap();
    fs::write(at("attributes"), "* filter=x\n").unwrap();
    fetching.write(".gitattributes", "* filter=x\n");
    fetching.write(
        ".gitmodules",
        "[submodule \"s\"]\npath = s\nurl = ext::touch x\n",
    );
    let environment = &mut fetching.project.options.fetch_environment;
    environment.insert("HOME".into(), home.path().into());
    fetching.commit("a\nb\n");
    fetching.fetch().unwrap();
    assert_eq!(fetching.text(), "a\nb\n");
    assert!(!trace.exists());
}

#[test]
fn a_link_out_of_a_checkout_leads_nowhere() {
    let test = "a_link_out_of_a_checkout_leads_nowhere";
    let Some(mut fetching) = Fetching::new(test, "") else {
        return;
    };
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    let at = |name: &str| fetching.repository.path().join(name);
    let text = "extensions: {app: {version: 1.0.0, overlay: out, post_build: hook}}\n";
    fs::write(at("avocado.yaml"), text).unwrap();
    symlink(outside.path(), at("out")).unwrap();
    symlink(outside.path().join("secret"), at("hook")).unwrap();
    fetching.commit("2");
    fetching.fetch().unwrap();
    fetching
        .project
        .edit("default_target", "# loaded again\ndefault_target");
    let error = fetching.project.run(&Goal::ExtBuild(None)).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("leads out of"), "{cause}");
}

#[test]
fn a_frozen_fetch_asks_no_repository() {
    let test = "a_frozen_fetch_asks_no_repository";
    let Some(mut fetching) = Fetching::new(test, "") else {
        return;
    };
    let refused = |fetching: &Fetching| {
        let error = fetching.fetch().unwrap_err();
        assert_eq!(error.kind(), Some(FailureKind::NotInCache), "{error:?}");
    };
    fetching.project.options.frozen = true;
    refused(&fetching);
    fetching.project.options.frozen = false;
    fetching.fetch().unwrap();
    fetching.project.options.frozen = true;
    assert_eq!(fetching.fetch().unwrap(), [""; 0]);
    fs::remove_dir_all(fetching.fetched("")).unwrap();
    refused(&fetching);
}

/// A file that can be run.
fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Where git is told to run `ssh` for a repository that is reached by ssh.
fn reach_by_ssh(fetching: &mut Fetching, home: &Path, ssh: &Path) {
    let config = format!("[core]\nsshCommand = {}\n", ssh.display());
    fs::write(home.join(".gitconfig"), config).unwrap();
    let environment = &mut fetching.project.options.fetch_environment;
    environment.insert("HOME".into(), home.into());
    let url = format!("file://{}", fetching.repository.path().display());
    let by_ssh = format!("ssh://host.invalid{}", fetching.repository.path().display());
    fetching.project.edit(&url, &by_ssh);
}

#[test]
fn the_user_says_how_ssh_is_run() {
    let Some(mut fetching) = Fetching::new("the_user_says_how_ssh_is_run", "") else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let ssh = home.path().join("ssh");
    // Runs here what it was to run there.
    script(
        &ssh,
        "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n",
    );
    reach_by_ssh(&mut fetching, home.path(), &ssh);
    fetching.fetch().unwrap();
    assert_eq!(fetching.text(), "1");
}

#[test]
fn a_run_that_is_cancelled_ends_git_and_what_git_started() {
    let test = "a_run_that_is_cancelled_ends_git_and_what_git_started";
    let Some(mut fetching) = Fetching::new(test, "") else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let (ssh, started) = (home.path().join("ssh"), home.path().join("started"));
    // It never answers.
    let text = format!(
        "#!/bin/sh\necho $$ >'{0}.new'\nmv '{0}.new' '{0}'\nexec tail -f /dev/null\n",
        started.display()
    );
    script(&ssh, &text);
    reach_by_ssh(&mut fetching, home.path(), &ssh);
    let cancel = Cancel::new();
    let options = &fetching.project.options;
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let backend = Box::new(FakeBackend::new(&options.project));
            run_with(options, backend, &Goal::Fetch(None), &cancel, &Silent)
        });
        while !started.exists() && !run.is_finished() {
            std::thread::yield_now();
        }
        cancel.cancel();
        run.join().unwrap().unwrap_err()
    });
    assert!(error.is_cancelled(), "{error}");
    let id = fs::read_to_string(&started).unwrap();
    let process = Path::new("/proc").join(id.trim());
    // The kernel ends what was killed when it next gets a processor; then it is gone, or not yet reaped.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let state = fs::read_to_string(process.join("stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            break;
        }
        assert!(Instant::now() < deadline, "it goes on: {state}");
        std::thread::yield_now();
    }
}

#[test]
fn a_lock_that_is_not_to_change_stops_a_fetch_before_it_replaces_anything() {
    let test = "a_lock_that_is_not_to_change_stops_a_fetch_before_it_replaces_anything";
    let Some(mut fetching) = Fetching::new(test, ", ref: main") else {
        return;
    };
    fetching.fetch().unwrap();
    let lock = fs::read(fetching.project.path("avocado.lock")).unwrap();
    let other = fetching.commit("2");
    fetching.git(&["branch", "other"]);
    fetching.project.edit("ref: main", "ref: other");
    fetching.project.options.locked = true;
    let error = fetching.fetch().unwrap_err();
    let said = chain(&error);
    assert!(said.contains("would have to change"), "{said}");
    // Before the repository is asked, with what is locked and where another one is stated.
    for part in ["`main` of file://", "`other` of file://", "avocado.yaml:"] {
        assert!(said.contains(part), "{said}");
    }
    fetching.project.options.frozen = true;
    assert_eq!(chain(&fetching.fetch().unwrap_err()), said);
    fetching.project.options.frozen = false;
    assert_eq!(fetching.text(), "1");
    assert_eq!(
        fs::read(fetching.project.path("avocado.lock")).unwrap(),
        lock
    );
    fetching.project.options.locked = false;
    fetching.fetch().unwrap();
    assert_eq!(fetching.text(), "2");
    let lock = fs::read_to_string(fetching.project.path("avocado.lock")).unwrap();
    assert!(lock.contains(&other), "{lock}");
}

#[test]
fn a_version_is_not_read_through_a_link_out_of_a_checkout() {
    let test = "a_version_is_not_read_through_a_link_out_of_a_checkout";
    let Some(mut fetching) = Fetching::new(test, "") else {
        return;
    };
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.json");
    fs::write(&secret, "{\"version\": \"secret\"}").unwrap();
    let text = "extensions: {app: {version: {file: version.json}}}\n";
    fs::write(fetching.repository.path().join("avocado.yaml"), text).unwrap();
    symlink(&secret, fetching.repository.path().join("version.json")).unwrap();
    fetching.commit("2");
    fetching.fetch().unwrap();
    fetching
        .project
        .edit("default_target", "# loaded again\ndefault_target");
    let error = fetching.project.run(&Goal::ExtBuild(None)).unwrap_err();
    let found = error.diagnostics();
    let said = found.iter().map(|d| d.render()).collect::<String>();
    assert!(said.contains("leads out of what was fetched"), "{said}");
    assert!(!said.contains("secret`"), "{said}");
}
