use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use avocado_events::{Cancel, Event, Silent, Sink};
use avocado_project::{LoadOptions, Project};
use rpm::Package;

use crate::error::BuildError;

/// A project on the disk.
struct Sources(tempfile::TempDir);

impl Sources {
    fn new(yaml: &str) -> Self {
        let sources = Sources(tempfile::tempdir().unwrap());
        sources.write("avocado.yaml", yaml);
        sources
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn files(self, paths: &[&str]) -> Self {
        for path in paths {
            self.write(path, path);
        }
        self
    }

    fn projects(&self, target: &str) -> Vec<Project> {
        let loaded = avocado_project::load_for_every_target(&LoadOptions {
            config: &self.at("avocado.yaml"),
            text: None,
            target: Some(target),
            env: &|name| (name == "VERSION").then(|| "1.2.0-rc.1+7".to_owned()),
            cli_version: "0.41.0",
        });
        loaded.unwrap().into_iter().map(|l| l.project).collect()
    }

    fn package(&self) -> Result<PathBuf, BuildError> {
        self.package_for(None, &Silent)
    }

    /// For `out_dir`, relative to the sources.
    fn package_for(&self, out_dir: Option<&str>, sink: &dyn Sink) -> Result<PathBuf, BuildError> {
        let projects = self.projects("qemux86-64");
        let name = "app".parse().unwrap();
        let out_dir = out_dir.map(|directory| self.at(directory));
        let (out_dir, cancel) = (out_dir.as_deref(), Cancel::new());
        let package = super::package_extension(&projects, &name, out_dir, &cancel, sink)?;
        Ok(package.path)
    }

    /// What is in the package, with the texts of files.
    fn content(&self) -> BTreeMap<String, String> {
        Self::content_of(&self.package().unwrap())
    }

    fn content_of(package: &Path) -> BTreeMap<String, String> {
        let package = Package::open(package).unwrap();
        let mut content = BTreeMap::new();
        for file in package.files().unwrap() {
            let file = file.unwrap();
            let path = file.metadata.path().display().to_string();
            let text = file.content().map(String::from_utf8_lossy);
            content.insert(path, text.unwrap_or_default().into_owned());
        }
        content
    }

    fn paths(&self) -> Vec<String> {
        let paths = self.content().into_keys();
        let paths = paths.map(|path| path.strip_prefix("/app").unwrap().to_owned());
        paths.filter(|path| !path.is_empty()).collect()
    }
}

const SMALL: &str = "extensions: {app: {version: 1.0.0, types: [sysext]}}\n";

#[test]
fn a_package_has_what_the_extension_names_for_any_target() {
    let sources = Sources::new(
        "supported_targets: [qemux86-64, pi]
extensions:
  app:
    version: 1.0.0
    overlay: overlay
    post_build: hooks/post.sh
    depends_on: [lib]
    packages: {tool: {compile: tool, install: tool-install.sh}}
    target-pi:
      overlay: {dir: pi-overlay}
      post_build: 'hooks/{{ avocado.target }}.sh'
  lib: {version: 1.0.0, overlay: lib-overlay}
  other: {version: 1.0.0, overlay: missing}
sdk:
  compile:
    tool: {compile: tool.sh, clean: tool-clean.sh}
",
    )
    .files(&[
        "overlay/etc/app.conf",
        "overlay/.hidden",
        "pi-overlay/etc/pi.conf",
        "lib-overlay/l",
        "hooks/post.sh",
        "hooks/pi.sh",
        "tool.sh",
        "tool-clean.sh",
        "tool-install.sh",
        "notes.txt",
        ".git/HEAD",
    ]);
    let content = sources.content();
    assert_eq!(content["/app/overlay/etc/app.conf"], "overlay/etc/app.conf");
    let expected = [
        "/avocado.yaml",
        "/hooks",
        "/hooks/pi.sh",
        "/hooks/post.sh",
        "/lib-overlay",
        "/lib-overlay/l",
        "/overlay",
        "/overlay/.hidden",
        "/overlay/etc",
        "/overlay/etc/app.conf",
        "/pi-overlay",
        "/pi-overlay/etc",
        "/pi-overlay/etc/pi.conf",
        "/tool-clean.sh",
        "/tool-install.sh",
        "/tool.sh",
    ];
    assert_eq!(sources.paths(), expected);

    fs::remove_file(sources.at("hooks/pi.sh")).unwrap();
    fs::remove_file(sources.at("tool-clean.sh")).unwrap();
    let error = sources.package().unwrap_err();
    let said: Vec<&str> = error.diagnostics().iter().map(|d| &*d.message).collect();
    assert_eq!(
        said,
        [
            "`hooks/pi.sh` does not exist",
            "`tool-clean.sh` does not exist"
        ]
    );
    assert_eq!(error.diagnostics()[0].line, 11);
}

#[test]
fn package_files_say_what_is_in_it() {
    let paths = |patterns: &str| {
        let yaml =
            format!("extensions: {{app: {{version: 1.0.0, package_files: [{patterns}]}}}}\n");
        Sources::new(&yaml).files(&[
            "overlay/etc/a",
            "overlay/etc/.b",
            "src/main.c",
            "src/deep/er/x.c",
            "src/.env",
            "a.sh",
            "b.sh",
            ".env",
            ".git/HEAD",
            ".avocado/state/x",
            "avocado.lock",
        ])
    };
    for (patterns, expected) in [
        (
            "overlay, avocado.yaml",
            "/avocado.yaml /overlay /overlay/etc /overlay/etc/.b /overlay/etc/a",
        ),
        ("'*.sh'", "/a.sh /avocado.yaml /b.sh"),
        (
            "./src/**/*.c",
            "/avocado.yaml /src /src/deep /src/deep/er /src/deep/er/x.c /src/main.c",
        ),
        ("'src/*.c'", "/avocado.yaml /src /src/main.c"),
        ("'[ab].sh', .env", "/.env /a.sh /avocado.yaml /b.sh"),
        (
            ".",
            "/a.sh /avocado.yaml /b.sh /overlay /overlay/etc /overlay/etc/.b /overlay/etc/a \
             /src /src/.env /src/deep /src/deep/er /src/deep/er/x.c /src/main.c",
        ),
    ] {
        assert_eq!(paths(patterns).paths().join(" "), expected, "{patterns}");
    }
    for (patterns, said) in [
        ("nothing", "`nothing`, and there is no such file"),
        ("'*.rs'", "`*.rs`, and there is no such file"),
        (".git/HEAD", "and there is no such file"),
    ] {
        let error = paths(patterns).package().unwrap_err().to_string();
        assert!(error.contains(said), "{patterns}: {error}");
    }
}

#[test]
fn what_package_files_leave_out_is_told() {
    let yaml = "extensions: {app: {version: 1.0.0, post_build: hook, package_files: ['*.sh']}}\n";
    let sources = Sources::new(yaml).files(&["hook", "a.sh"]);
    let said = std::sync::Mutex::new(Vec::new());
    let sink = |event: Event| said.lock().unwrap().push(event.message);
    sources.package_for(None, &sink).unwrap();
    let said = said.into_inner().unwrap();
    assert!(
        said.iter().any(|line| line.contains("leave out: hook;")),
        "{said:?}"
    );
}

#[test]
fn no_history_is_in_a_package() {
    const NAMED: &str = "overlay: overlay, stone_include_paths: [stone]";
    for (keys, told) in [
        (NAMED, true),
        (
            "overlay: overlay, stone_include_paths: [stone], package_files: [overlay, stone]",
            true,
        ),
        ("package_files: ['.']", false),
    ] {
        let yaml = format!("extensions: {{app: {{version: 1.0.0, {keys}}}}}\n");
        let sources = Sources::new(&yaml).files(&[
            "overlay/etc/a",
            "overlay/deep/.git/config",
            "stone/.git",
            "stone/a",
        ]);
        let said = std::sync::Mutex::new(Vec::new());
        let sink = |event: Event| said.lock().unwrap().push(event.message);
        let package = sources.package_for(None, &sink).unwrap();
        let content = Sources::content_of(&package);
        assert!(content.contains_key("/app/overlay/etc/a"), "{keys}");
        assert!(content.contains_key("/app/stone/a"), "{keys}");
        let of_git = content.keys().filter(|path| path.contains(".git"));
        assert_eq!(of_git.count(), 0, "{keys}: {content:?}");
        let said = said.into_inner().unwrap();
        let is_told = said.iter().any(|line| line.contains("overlay/deep/.git;"));
        assert_eq!(is_told, told, "{said:?}");
    }
}

#[test]
fn an_earlier_package_is_in_no_package() {
    const FILE: &str = "app-1.0.0-r0.noarch.rpm";
    let yaml = "extensions: {app: {version: 1.0.0, overlay: overlay, package_files: ['.']}}\n";
    for (out_dir, left_out) in [
        ("out", &["/app/out", "/app/out/old.rpm"][..]),
        ("a/out", &["/app/a/out"]),
        // The sources themselves are not left out.
        ("", &[]),
        ("overlay", &[]),
    ] {
        let sources = Sources::new(yaml).files(&["overlay/o", "a/b", "a/out/c", "out/old.rpm"]);
        let without: Vec<String> = Sources::content_of(&sources.package().unwrap())
            .into_keys()
            .filter(|path| !left_out.iter().any(|out| path.starts_with(out)))
            .collect();
        let earlier = Path::new(out_dir).join(FILE);
        sources.write(earlier.to_str().unwrap(), "earlier");
        let said = std::sync::Mutex::new(Vec::new());
        let sink = |event: Event| said.lock().unwrap().push(event.message);
        let package = sources.package_for(Some(out_dir), &sink).unwrap();
        let paths: Vec<String> = Sources::content_of(&package).into_keys().collect();
        assert_eq!(paths, without, "{out_dir}");
        let said = said.into_inner().unwrap();
        assert!(
            said.iter().any(|line| line.contains("not in it: ")),
            "{said:?}"
        );
    }
}

#[test]
fn no_password_is_published() {
    let yaml = |password: &str| {
        format!(
            "{SMALL}repos: {{vendor: {{url: 'https://a/', username: u, password: {password}}}}}\n"
        )
    };
    let error = Sources::new(&yaml("s3cret")).package().unwrap_err();
    let diagnostics = error.diagnostics();
    assert_eq!((diagnostics.len(), diagnostics[0].line), (1, 2));
    assert!(!format!("{error:?}").contains("s3cret"));
    Sources::new(&yaml("'{{ env.VERSION }}'"))
        .package()
        .unwrap();
}

#[test]
fn a_package_says_what_it_is_for() {
    for (targets, expected) in [
        ("", "avocado-target(*)"),
        ("supported_targets: '*'\n", "avocado-target(*)"),
        (
            "supported_targets: [pi, qemux86-64]\n",
            "avocado-target(pi) avocado-target(qemux86-64)",
        ),
    ] {
        let sources = Sources::new(&format!("{targets}{SMALL}"));
        let package = Package::open(sources.package().unwrap()).unwrap();
        let provides = package.metadata.get_provides().unwrap();
        let provides: Vec<&str> = provides.iter().map(|p| &*p.name).collect();
        let expected = format!("app avocado-ext-layout(nested) {expected}");
        assert_eq!(provides.join(" "), expected);
    }
}

#[test]
fn a_version_that_is_not_in_avocado_yaml_gets_there() {
    let yaml = "extensions:
  app:
    version: '{{ env.VERSION }}'
";
    let from_file = "extensions:
  app:
    version: {file: Cargo.toml, key: package.version}
";
    for yaml in [yaml, from_file] {
        let sources = Sources::new(yaml);
        sources.write("Cargo.toml", "[package]\nversion = '1.2.0-rc.1+7'\n");
        let package = sources.package().unwrap();
        let name = package.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, "app-1.2.0~rc.1^7-r0.noarch.rpm");
        let stated = "extensions:\n  app:\n    version: \"1.2.0-rc.1+7\"\n";
        assert_eq!(sources.content()["/app/avocado.yaml"], stated);
    }
}

#[test]
fn no_text_of_a_project_is_more_than_a_text() {
    let hostile = "%(touch pwned)%{lua:os.exit(1)} \\\"'$(id)`id`";
    let yaml = format!(
        "extensions:
  app:
    version: 1.0.0
    summary: {0}
    description: {1}
    license: {0}
    vendor: {0}
    url: {0}
    overlay: {2}
",
        serde_json::Value::from(hostile),
        serde_json::Value::from(format!("{hostile}\n%files\n/etc\n%post\ntouch pwned\n")),
        serde_json::Value::from("an %{overlay} \"of\" 'it'"),
    );
    let sources = Sources::new(&yaml).files(&["an %{overlay} \"of\" 'it'/%(id) *[x].conf"]);
    let package = Package::open(sources.package().unwrap()).unwrap();
    let metadata = &package.metadata;
    for text in [
        metadata.get_summary().unwrap(),
        metadata.get_license().unwrap(),
        metadata.get_vendor().unwrap(),
        metadata.get_url().unwrap(),
    ] {
        assert_eq!(text, hostile);
    }
    let description = metadata.get_description().unwrap();
    assert!(description.ends_with("%post\ntouch pwned\n"));
    assert!(metadata.get_post_install_script().is_err());
    let last = sources.paths().pop().unwrap();
    assert_eq!(last, "/avocado.yaml");
    let odd = "/an %{overlay} \"of\" 'it'/%(id) *[x].conf".to_owned();
    assert!(sources.paths().contains(&odd));

    for (key, value, said) in [
        ("summary", "two\nlines", "one line of text"),
        ("license", "\u{0}", "one line of text"),
        ("release", "1%{dist}", "cannot be the release"),
        ("arch", "../x", "cannot be the arch"),
        ("vendor", "", "one line of text"),
    ] {
        let value = serde_json::Value::from(value);
        let yaml = format!("extensions: {{app: {{version: 1.0.0, {key}: {value}}}}}\n");
        let error = Sources::new(&yaml).package().unwrap_err().to_string();
        assert!(error.contains(said), "{key}: {error}");
    }
}

#[test]
fn the_same_sources_give_the_same_package_everywhere() {
    let yaml = "source_date_epoch: 7
extensions: {app: {version: 1.0.0, overlay: overlay, post_build: hook}}
";
    let package = |umask: u32, links: bool| {
        let sources = Sources::new(yaml).files(&["overlay/a", "overlay/d/b", "overlay/d/c"]);
        sources.write("hook", "true\n");
        if links {
            fs::remove_file(sources.at("overlay/d/c")).unwrap();
            sources.write("overlay/d/b", "overlay/d/c");
            fs::hard_link(sources.at("overlay/d/b"), sources.at("overlay/d/c")).unwrap();
        } else {
            sources.write("overlay/d/b", "overlay/d/c");
        }
        let mode = |path: &str, mode: u32| {
            let mode = fs::Permissions::from_mode(mode & !umask);
            fs::set_permissions(sources.at(path), mode).unwrap();
        };
        for file in ["avocado.yaml", "overlay/a", "overlay/d/b", "overlay/d/c"] {
            mode(file, 0o666);
        }
        for file in ["hook", "overlay", "overlay/d"] {
            mode(file, 0o777);
        }
        fs::read(sources.package().unwrap()).unwrap()
    };
    let first = package(0o022, false);
    assert!(first == package(0o077, false));
    assert!(first == package(0o002, true));
}

#[test]
fn a_link_leads_to_something_of_the_package_or_of_the_device() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "outside").unwrap();
    let yaml = "extensions: {app: {version: 1.0.0, overlay: overlay, package_files: [stone, 'overlay/*']}}\n";
    let sources = Sources::new(yaml).files(&["overlay/etc/f", "stone/a"]);
    symlink("../../usr/lib/x", sources.at("overlay/etc/device")).unwrap();
    symlink("/etc/hostname", sources.at("overlay/absolute")).unwrap();
    symlink("a", sources.at("stone/inside")).unwrap();
    symlink(outside.path(), sources.at("stone/outside")).unwrap();
    let content = sources.content();
    assert_eq!(content["/app/stone/outside"], "outside");
    let package = Package::open(sources.package().unwrap()).unwrap();
    let entries = package.metadata.get_file_entries().unwrap();
    let links = entries.iter().filter_map(|entry| {
        let target = entry.linkto().filter(|target| !target.is_empty())?;
        Some((entry.path().display().to_string(), target.to_owned()))
    });
    let links: Vec<(String, String)> = links.collect();
    let expected = [
        ("/app/overlay/absolute", "/etc/hostname"),
        ("/app/overlay/etc/device", "../../usr/lib/x"),
        ("/app/stone/inside", "a"),
    ];
    assert_eq!(links, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));

    symlink("/nowhere", sources.at("stone/nowhere")).unwrap();
    let error = sources.package().unwrap_err().to_string();
    assert!(
        error.contains("stone/nowhere is a link to /nowhere"),
        "{error}"
    );
}

#[test]
fn only_an_extension_of_the_project_is_packaged() {
    let yaml = "extensions: {app: {source: {type: path, path: ../app}}, own: {version: 1.0.0}}\n";
    let sources = Sources::new(yaml);
    let error = sources.package().unwrap_err().to_string();
    assert!(error.contains("/app: package it there"), "{error}");
    let projects = sources.projects("x");
    let none = "none".parse().unwrap();
    let error =
        super::package_extension(&projects, &none, None, &Cancel::new(), &Silent).unwrap_err();
    assert!(
        error.to_string().ends_with("`none` (it has own)"),
        "{error}"
    );
    assert!(!Path::new("pwned").exists());
}

#[test]
fn an_extension_that_is_another_one_for_each_target_is_told_where_it_stands() {
    let yaml = "supported_targets: [qemux86-64, qemuarm64]
extensions:
  app:
    version: 1.0.0
    target-qemuarm64: {version: 1.0.1}
";
    let error = Sources::new(yaml).package().unwrap_err();
    let [told] = error.diagnostics() else {
        panic!("{error:?}");
    };
    assert_eq!((told.line, told.column), (3, 3), "{told:?}");
    assert!(
        told.message.contains("for qemuarm64 than for qemux86-64"),
        "{told:?}"
    );
}
