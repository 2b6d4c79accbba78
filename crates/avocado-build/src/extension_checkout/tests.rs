use std::os::unix::fs::{PermissionsExt as _, symlink};

use avocado_events::Silent;

use super::*;

/// A built tree, and sources beside it.
struct Site {
    directory: tempfile::TempDir,
    tree: Tree,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::fresh(&directory.path().join("tree")).unwrap();
        fs::create_dir(directory.path().join("src")).unwrap();
        tree.write("etc/app/app.conf", "packaged", 0o644).unwrap();
        tree.write("etc/app/run", "program", 0o4755).unwrap();
        tree.write("etc/app/key", "secret", 0o600).unwrap();
        tree.symlink("/etc/app/app.conf", "etc/link").unwrap();
        tree.symlink("app.conf", "etc/app/inner").unwrap();
        Site { directory, tree }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join("src").join(path)
    }

    fn copy(&self, from: &str, to: &str, replace: bool) -> Result<Vec<String>, BuildError> {
        let copy = SourceCopy {
            sources: Tree::open(&self.at("")).unwrap(),
            owner: None,
        };
        let wanted = CheckedOut {
            extension: &"app".parse().unwrap(),
            from: Path::new(from),
            to: Path::new(to),
            replace,
        };
        let written = copy.copy(&self.tree, &wanted, &self.at(""), &Silent)?;
        let relative = |path: &PathBuf| {
            let path = path.strip_prefix(self.at("")).unwrap();
            path.display().to_string()
        };
        Ok(written.iter().map(relative).collect())
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }
}

#[test]
fn a_file_or_a_directory_gets_into_the_sources() {
    let site = Site::new();
    for (from, to, written) in [
        ("/etc/app/app.conf", "a/b.conf", &["a/b.conf"][..]),
        ("etc/app/app.conf", "a/", &["a/app.conf"]),
        ("etc/app/app.conf", "a", &[]),
        ("etc/link", "a/of-link", &["a/of-link"]),
        (
            "/etc/app",
            "overlay/etc/app",
            &[
                "overlay/etc/app/app.conf",
                "overlay/etc/app/inner",
                "overlay/etc/app/key",
                "overlay/etc/app/run",
            ],
        ),
        ("/etc/app", "overlay/etc/app", &[]),
    ] {
        assert_eq!(site.copy(from, to, false).unwrap(), written, "{from} {to}");
    }
    assert_eq!(site.text("a/of-link"), "packaged");
    let inner = fs::read_link(site.at("overlay/etc/app/inner")).unwrap();
    assert_eq!(inner, Path::new("app.conf"));
    let mode = |path: &str| {
        let found = fs::metadata(site.at(path)).unwrap();
        found.permissions().mode() & 0o7777
    };
    assert_eq!(mode("overlay/etc/app/run"), 0o755);
    assert_eq!(mode("overlay/etc/app/key"), 0o600);
}

#[test]
fn what_the_user_has_is_replaced_only_when_that_is_asked_for() {
    let site = Site::new();
    fs::create_dir_all(site.at("o")).unwrap();
    fs::write(site.at("o/app.conf"), "mine").unwrap();
    symlink("mine", site.at("o/inner")).unwrap();
    let error = site.copy("etc/app", "o", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "already there, and another: o/app.conf, o/inner"
    );
    assert!(!site.at("o/key").exists(), "something was written");
    assert_eq!(site.text("o/app.conf"), "mine");
    site.copy("etc/app", "o", true).unwrap();
    assert_eq!(site.text("o/app.conf"), "packaged");

    // A directory is never given up for a file, nor the other way round.
    fs::create_dir(site.at("d")).unwrap();
    fs::create_dir(site.at("d/key")).unwrap();
    fs::write(site.at("f"), "mine").unwrap();
    for to in ["d", "f"] {
        let error = site.copy("etc/app", to, true).unwrap_err().to_string();
        assert!(error.contains("is in the way"), "{error}");
    }
    assert_eq!(site.text("f"), "mine");
    assert!(!site.at("d/app.conf").exists());
}

#[test]
fn neither_path_leads_out() {
    let site = Site::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    for packaged in [
        "hooks/.git/hooks/post-checkout",
        "state/.avocado/x",
        "file/.Git",
    ] {
        site.tree.write(packaged, "hostile", 0o755).unwrap();
    }
    site.tree.symlink(outside.path(), "out").unwrap();
    symlink(outside.path(), site.at("linked")).unwrap();
    for (from, to, said) in [
        ("out", "a", "which the tree does not have"),
        ("out/secret", "a", "nothing at /out/secret"),
        ("none", "a", "nothing at /none"),
        ("../../etc/passwd", "a", "nothing at"),
        ("etc/app", "../x", "not below the source directory"),
        ("etc/app", "/tmp/x", "not below the source directory"),
        ("etc/app", "linked/x", "is no directory"),
        ("etc/app", "linked", "is in the way"),
        ("etc/app", ".git/hooks", "no source of the project"),
        ("etc/app", ".avocado", "no source of the project"),
        ("etc/app/run", ".avocado/x", "no source of the project"),
        ("etc/app", "sub/.git", "no source of the project"),
        (
            "etc/app/run",
            "sub/.GIT/hooks/x",
            "no source of the project",
        ),
        ("etc/app/run", "sub/.git", "no source of the project"),
        ("hooks", "", "`.git`, which is no source"),
        ("hooks", "sub", "`sub/.git`, which is no source"),
        ("file", "sub", "`sub/.Git`, which is no source"),
        ("state", "./", "`.avocado`, which is no source"),
    ] {
        let error = site.copy(from, to, true).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let error = format!("{error} {cause:?}");
        assert!(error.contains(said), "{from} {to}: {error}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    let written = fs::read_dir(site.at("")).unwrap().count();
    assert_eq!(written, 1, "more than the link");
}
