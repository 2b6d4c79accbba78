use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};

use rustix::fs::{CWD, Mode};
use tempfile::TempDir;

use super::*;

/// A tree beside a directory of the host that nothing of it may reach.
struct Host {
    directory: TempDir,
    tree: Tree,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::fresh(&directory.path().join("tree")).unwrap();
        let host = Host { directory, tree };
        fs::create_dir(host.outside("")).unwrap();
        fs::write(host.outside("secret"), "of the host").unwrap();
        host
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.directory.path().join("outside").join(name)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.tree.path().join(name)
    }

    /// The host is as it was.
    fn is_untouched(&self) {
        let names = fs::read_dir(self.outside("")).unwrap();
        let names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        let secret = fs::read_to_string(self.outside("secret")).unwrap();
        assert_eq!(secret, "of the host");
    }
}

#[test]
fn a_link_leads_nowhere_but_into_the_tree() {
    let host = Host::new();
    let tree = &host.tree;
    tree.make_directories("usr/lib/x").unwrap();
    for (target, link) in [
        ("usr/lib", "lib"),
        ("/usr", "absolute"),
        ("../../../usr", "above"),
        ("lib", "usr/second"),
        ("../lib/x", "usr/third"),
        ("/lib/x", "usr/fourth"),
        ("../outside", "out"),
        ("missing", "dangling"),
        ("loop", "loop"),
    ] {
        symlink(target, host.at(link)).unwrap();
    }
    for (path, place) in [
        ("", Some("")),
        ("usr/lib/x", Some("usr/lib/x")),
        ("/usr/lib", Some("usr/lib")),
        ("lib/x", Some("usr/lib/x")),
        ("absolute/lib", Some("usr/lib")),
        ("above/lib", Some("usr/lib")),
        ("usr/second/x", Some("usr/lib/x")),
        ("usr/third", Some("usr/lib/x")),
        ("usr/fourth", Some("usr/lib/x")),
        ("../usr/lib", Some("usr/lib")),
        ("out/secret", None),
        ("dangling", None),
        ("loop", None),
    ] {
        let found = tree.resolve(path).ok();
        assert_eq!(found, place.map(|place| host.at(place)), "{path}");
    }
}

#[test]
fn what_a_link_out_of_the_tree_names_is_neither_read_nor_written() {
    let host = Host::new();
    let tree = &host.tree;
    symlink(host.outside("secret"), host.at("secret")).unwrap();
    symlink(host.outside(""), host.at("directory")).unwrap();
    symlink("../outside", host.at("above")).unwrap();
    for path in ["secret", "directory/secret", "above/secret"] {
        let error = tree.read(path).unwrap_err();
        assert!(matches!(error, BuildError::Tree { .. }), "{path}: {error}");
        assert!(tree.file(path).is_err(), "{path}");
        assert!(tree.rewrite(path, "new", 0o644).is_err(), "{path}");
    }
    for path in ["directory", "above"] {
        let below = Path::new(path).join("new");
        assert!(tree.names(path).is_err());
        assert!(!tree.is_directory(path));
        assert!(tree.write(&below, "new", 0o644).is_err());
        assert!(tree.create(&below).is_err());
        assert!(tree.symlink("x", &below).is_err());
        assert!(tree.make_directories(&below).is_err());
        assert!(tree.make_node(&below, FileType::Fifo, 0o600, 0).is_err());
        tree.clear(Path::new(path).join("secret")).unwrap();
    }
    let error = tree.make_directories("directory/a").unwrap_err();
    assert!(error.to_string().ends_with("tree/directory"), "{error}");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.starts_with("it is a link to"), "{why}");
    // The links themselves are the tree's: they go.
    tree.write("secret", "new", 0o600).unwrap();
    assert!(!host.at("secret").is_symlink());
    tree.symlink("elsewhere", "above").unwrap();
    tree.clear("directory").unwrap();
    assert!(!tree.has("directory"));
    host.is_untouched();
}

#[test]
fn the_name_of_a_file_in_the_making_is_foreseen_by_nobody() {
    let host = Host::new();
    for name in [".f.new", ".f.tmp", ".f.old", "f.new", "f.tmp"] {
        symlink(host.outside("secret"), host.at(name)).unwrap();
    }
    host.tree.write("f", "1", 0o640).unwrap();
    let made = fs::symlink_metadata(host.at("f")).unwrap();
    assert_eq!((made.is_file(), made.mode() & 0o7777), (true, 0o640));
    assert_eq!(host.tree.names("").unwrap().len(), 6);
    host.is_untouched();
}

#[test]
fn only_regular_files_are_read() {
    let host = Host::new();
    let tree = &host.tree;
    tree.make_directories("directory").unwrap();
    rustix::fs::mknodat(CWD, host.at("pipe"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(host.at("socket")).unwrap();
    symlink("pipe", host.at("link")).unwrap();
    for path in ["directory", "pipe", "socket", "link"] {
        let error = tree.read(path).unwrap_err();
        let BuildError::Tree { fault, .. } = error else {
            panic!("{path}: {error}");
        };
        assert_eq!(fault.what, "is no regular file", "{path}");
    }
    assert_eq!(tree.read("none").unwrap(), None);
    assert_eq!(tree.read("directory/none/f").unwrap(), None);
    let pipe = fs::symlink_metadata(host.at("pipe")).unwrap();
    assert!(pipe.file_type().is_fifo());
}

#[test]
fn a_link_stays_where_its_file_is_written_anew() {
    let host = Host::new();
    let tree = &host.tree;
    tree.write("usr/share/os-release", "1", 0o644).unwrap();
    tree.symlink("/usr/share/os-release", "usr/lib/os-release")
        .unwrap();
    tree.rewrite("usr/lib/os-release", "2", 0o644).unwrap();
    assert!(host.at("usr/lib/os-release").is_symlink());
    assert_eq!(tree.read("usr/share/os-release").unwrap().unwrap(), "2");
    assert!(tree.set_mode("usr/lib/os-release", 0o600).is_err());
}
