use proptest::prelude::*;

use super::*;

fn scope(text: &str) -> PackageScope {
    match text.split_once(' ') {
        Some(("ext", name)) => PackageScope::Extension(name.parse().unwrap()),
        Some((_, name)) => PackageScope::Runtime(name.parse().unwrap()),
        None => match text {
            "sdk" => PackageScope::Sdk,
            "rootfs" => PackageScope::Rootfs,
            _ => PackageScope::Initramfs,
        },
    }
}

fn add(text: &str, to: &str, packages: &[&str]) -> Result<PackageEdit, ProjectError> {
    let packages: Vec<String> = packages.iter().map(|p| (*p).to_owned()).collect();
    add_packages("f".as_ref(), text, &scope(to), &packages)
}

fn remove(text: &str, from: &str, packages: &[&str]) -> Result<PackageEdit, ProjectError> {
    let packages: Vec<String> = packages.iter().map(|p| (*p).to_owned()).collect();
    remove_packages("f".as_ref(), text, &scope(from), &packages)
}

#[test]
fn a_package_is_added_in_the_style_of_the_file() {
    for (to, before, after) in [
        // Behind the others, with their quotes, and before what follows.
        (
            "ext app",
            "extensions:\n  app:\n    packages:\n      a: '*' # why\n      # the end\n    types: [sysext]\n",
            "extensions:\n  app:\n    packages:\n      a: '*' # why\n      new: '*'\n      # the end\n    types: [sysext]\n",
        ),
        // No line end at the end, and another indentation.
        (
            "ext app",
            "extensions:\n    app:\n        packages:\n            a: \"*\"",
            "extensions:\n    app:\n        packages:\n            a: \"*\"\n            new: \"*\"",
        ),
        (
            "ext app",
            "extensions:\r\n  app:\r\n    packages:\r\n      a: 1\r\n\r\nsdk: {}\r\n",
            "extensions:\r\n  app:\r\n    packages:\r\n      a: 1\r\n      new: \"*\"\r\n\r\nsdk: {}\r\n",
        ),
        // A list that is not there yet, or empty.
        (
            "ext app",
            "extensions:\n  app:\n    version: 1.0.0\n\n# more\nsdk:\n",
            "extensions:\n  app:\n    version: 1.0.0\n    packages:\n      new: \"*\"\n\n# more\nsdk:\n",
        ),
        (
            "ext app",
            "extensions:\n  app:\n    packages: # none\nsdk:\n",
            "extensions:\n  app:\n    packages: # none\n      new: \"*\"\nsdk:\n",
        ),
        (
            "ext app",
            "extensions:\n  app:\n  b: {}\n",
            "extensions:\n  app:\n    packages:\n      new: \"*\"\n  b: {}\n",
        ),
        ("sdk", "", "sdk:\n  packages:\n    new: \"*\"\n"),
        (
            "sdk",
            "# only\n",
            "# only\nsdk:\n  packages:\n    new: \"*\"\n",
        ),
        ("sdk", "sdk:", "sdk:\n  packages:\n    new: \"*\""),
        (
            "sdk",
            "a: 1\nsdk: {image: x}\n",
            "a: 1\nsdk: {image: x, packages: {new: \"*\"}}\n",
        ),
        // Maps in one line, and in several.
        (
            "ext app",
            "extensions: {app: {packages: {a: '*'}, version: 1.0.0}}\n",
            "extensions: {app: {packages: {a: '*', new: '*'}, version: 1.0.0}}\n",
        ),
        (
            "ext app",
            "extensions: {app: {packages: { }}}",
            "extensions: {app: {packages: {new: \"*\" }}}",
        ),
        (
            "ext app",
            "extensions: {app: {}}",
            "extensions: {app: {packages: {new: \"*\"}}}",
        ),
        (
            "ext app",
            "extensions:\n  app:\n    packages: {\n      a: 1, # why\n    }\n",
            "extensions:\n  app:\n    packages: {\n      a: 1, new: \"*\", # why\n    }\n",
        ),
        // Packages that say more than a version.
        (
            "runtime dev",
            "runtime:\n  dev:\n    dependencies:\n      a:\n        compile: x\n        install: y # z\n      b:\n    version: 1\n",
            "runtime:\n  dev:\n    dependencies:\n      a:\n        compile: x\n        install: y # z\n      b:\n      new: \"*\"\n    version: 1\n",
        ),
        // What a list stands for while it is not written.
        (
            "rootfs",
            "rootfs:\n  filesystem: erofs\n",
            "rootfs:\n  filesystem: erofs\n  packages:\n    avocado-pkg-rootfs: \"*\"\n    new: \"*\"\n",
        ),
        (
            "initramfs",
            "initramfs:\n  a:\n    packages:\n",
            "initramfs:\n  a:\n    packages:\n      avocado-pkg-initramfs: \"*\"\n      new: \"*\"\n",
        ),
        (
            "rootfs",
            "rootfs: {packages: {}}\n",
            "rootfs: {packages: {new: \"*\"}}\n",
        ),
        (
            "rootfs",
            "rootfs:\n  default: {packages: {a: 1}}\n  b: {packages: {}}\n",
            "rootfs:\n  default: {packages: {a: 1, new: \"*\"}}\n  b: {packages: {}}\n",
        ),
        // Aliases of other things, templates, and names that are no plain text.
        (
            "ext app",
            "v: &v '*'\nextensions:\n  app:\n    packages:\n      \"a {{ env.X }}\": *v\n",
            "v: &v '*'\nextensions:\n  app:\n    packages:\n      \"a {{ env.X }}\": *v\n      new: '*'\n",
        ),
        // Not of lists that an override has.
        (
            "ext app",
            "extensions:\n  app:\n    target-x:\n      packages: {new: 1}\n",
            "extensions:\n  app:\n    target-x:\n      packages: {new: 1}\n    packages:\n      new: \"*\"\n",
        ),
    ] {
        let edit = add(before, to, &["new"]).unwrap();
        assert_eq!(edit.text, after, "{before}");
        assert_eq!((edit.changed, edit.unchanged), (vec!["new".into()], vec![]));
        let again = add(after, to, &["new"]).unwrap();
        assert_eq!(
            (again.text.as_str(), &again.unchanged[..]),
            (after, &["new".into()][..])
        );
    }
    let odd = add("sdk:\n  packages:\n", "sdk", &["pkgconfig(x)", "g++", "1a"]).unwrap();
    let odd = odd.text.lines().skip(2).collect::<Vec<_>>();
    let odd = odd.iter().map(|line| line.trim()).collect::<Vec<_>>();
    assert_eq!(
        odd,
        ["\"pkgconfig(x)\": \"*\"", "g++: \"*\"", "\"1a\": \"*\""]
    );
}

#[test]
fn a_package_is_removed_with_its_lines() {
    for (from, before, after) in [
        (
            "ext app",
            "extensions:\n  app:\n    packages:\n      # both\n      a: '*' # a\n      x: '*' # x\n      # end\n",
            "extensions:\n  app:\n    packages:\n      # both\n      a: '*' # a\n      # end\n",
        ),
        (
            "ext app",
            "extensions:\n  app:\n    packages:\n      x:\n        compile: a\n        install: b\n      a: 1",
            "extensions:\n  app:\n    packages:\n      a: 1",
        ),
        (
            "ext app",
            "extensions:\r\n  app:\r\n    packages:\r\n      a: 1\r\n      x: 1",
            "extensions:\r\n  app:\r\n    packages:\r\n      a: 1",
        ),
        // The last one: the list stays, and says that it is empty.
        (
            "rootfs",
            "rootfs:\n  packages:  # none\n    x: 1\nsdk:\n",
            "rootfs:\n  packages: {}  # none\nsdk:\n",
        ),
        ("sdk", "sdk: {packages: {x: 1}}", "sdk: {packages: {}}"),
        (
            "sdk",
            "sdk: {packages: {x: 1, a: 2}}",
            "sdk: {packages: {a: 2}}",
        ),
        (
            "sdk",
            "sdk: {packages: {a: 2, x: 1}}",
            "sdk: {packages: {a: 2}}",
        ),
        (
            "sdk",
            "sdk: {packages: {a: 2, x: 1 , b: 1}}",
            "sdk: {packages: {a: 2, b: 1}}",
        ),
    ] {
        let edit = remove(before, from, &["x"]).unwrap();
        assert_eq!(edit.text, after, "{before}");
        assert_eq!(edit.changed, ["x"]);
    }
}

#[test]
fn what_cannot_be_edited_safely_is_said_with_what_to_write() {
    let app = |text: &str| format!("extensions:\n  app:\n{text}");
    for (to, text, said) in [
        (
            "ext app",
            format!("p: &p {{a: 1}}\n{}", app("    packages: *p\n")),
            "f:4:5: `extensions.app.packages` cannot be edited safely: `packages` is an alias",
        ),
        (
            "ext app",
            app("    packages: &p\n      a: 1\n  b:\n    packages: *p\n"),
            "f:3:15: `extensions.app.packages` cannot be edited safely: it is written in a way that \
             an edit could change more of",
        ),
        (
            "ext app",
            format!(
                "p: &p {{packages: {{a: 1}}}}\n{}",
                app("    <<: *p\n    version: 1.0.0\n")
            ),
            "f:4:5: `extensions.app.packages` cannot be edited safely: `packages` comes from `<<`",
        ),
        (
            "ext app",
            app("    packages: ~\n"),
            "f:3:15: `extensions.app.packages` cannot be edited safely: it is written in a way that \
             an edit could change more of",
        ),
        (
            "ext app",
            app("    packages: [a, b]\n"),
            "f:3:15: `extensions.app.packages` cannot be edited safely: it is written in a way that \
             an edit could change more of",
        ),
        (
            "ext app",
            app("    source: {type: path, path: x}\n"),
            "f:3:13: `extensions.app.packages` cannot be edited safely: it is taken from elsewhere, \
             whose packages a list here would replace",
        ),
        (
            "ext app",
            "sdk: {}\n".to_owned(),
            "f: there is no extension `app`",
        ),
        (
            "ext app",
            "extensions:\n".to_owned(),
            "f:1:11: there is no extension `app`",
        ),
        (
            "runtime dev",
            "runtimes: {prod: {}}\n".to_owned(),
            "f:1:11: there is no runtime `dev`",
        ),
        (
            "rootfs",
            "rootfs:\n  a: {packages: {}}\n  b: {packages: {}}\n".to_owned(),
            "f:2:3: there are several `rootfs`: a, b",
        ),
    ] {
        let error = add(&text, to, &["new"]).unwrap_err();
        assert_eq!(error.to_string(), said, "{text}");
        let hint = error.diagnostics()[0].hint.as_deref().unwrap();
        assert!(
            hint.contains("the package is `new: \"*\"` in the map `"),
            "{hint}"
        );
    }
    let edit = add(
        "rootfs:\n  a: {packages: {b: 1}}\n  target-t: {}\n",
        "rootfs",
        &["c"],
    );
    assert!(
        edit.unwrap()
            .text
            .contains("a: {packages: {b: 1, c: \"*\"}}")
    );
    let error = remove(&app("    packages: {hello: 1}\n"), "ext app", &["hell"]).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("`extensions.app.packages` has no package `hell`")
    );
    let hint = error.diagnostics()[0].hint.as_deref().unwrap();
    assert!(hint.contains("`hello`"), "{hint}");
    let broken = add("a: [\n", "sdk", &["x"]).unwrap_err();
    assert!(broken.to_string().contains("not valid YAML"), "{broken}");
}

#[cfg(unix)]
#[test]
fn an_edit_takes_the_place_of_the_file_and_of_nothing_else() {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let directory = tempfile::tempdir().unwrap();
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs::write(&real, "sdk:\n").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real", &link).unwrap();
    let edit = add("sdk:\n", "sdk", &["x"]).unwrap();
    let never = |_: &str| -> Result<PackageEdit, ProjectError> { panic!("it has not changed") };
    edit.save(&link, "sdk:\n", never).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), edit.text);
    let mode = fs::metadata(&real).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn what_was_edited_meanwhile_stays_and_the_edit_is_made_in_it() {
    use std::fs;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("avocado.yaml");
    let edit = add("sdk:\n", "sdk", &["x"]).unwrap();
    let again = |text: &str| add(text, "sdk", &["x"]);
    // Somebody was faster, and somebody else while it was made again.
    let now = "# mine\nsdk:\n";
    fs::write(&path, "sdk: {}\n").unwrap();
    let interrupted = |text: &str| {
        if text != now {
            fs::write(&path, now).unwrap();
        }
        again(text)
    };
    let saved = edit.save(&path, "sdk:\n", interrupted).unwrap();
    assert_eq!(saved.text, "# mine\nsdk:\n  packages:\n    x: \"*\"\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), saved.text);
    // It is there already.
    let saved = edit.save(&path, "sdk:\n", again).unwrap();
    assert_eq!(
        (saved.changed, saved.unchanged),
        (vec![], vec!["x".to_owned()])
    );
    for broken in ["sdk: {packages: [a]}\n", "sdk: [\n"] {
        fs::write(&path, broken).unwrap();
        let error = edit.save(&path, "sdk:\n", again).unwrap_err();
        assert!(
            error.to_string().contains("was changed meanwhile"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// Set for a copy of this program that runs as another user than the owner of the file.
#[cfg(unix)]
const FOREIGN: &str = "AVOCADO_TEST_FOREIGN";

#[cfg(unix)]
#[test]
fn an_edit_gives_nobodys_file_to_somebody_else() {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    let again = |text: &str| add(text, "sdk", &["x"]);
    let edit = add("sdk:\n", "sdk", &["x"]).unwrap();
    if let Some(path) = std::env::var_os(FOREIGN) {
        let path = Path::new(&path);
        for error in [
            check_editable(path).unwrap_err(),
            edit.save(path, "sdk:\n", again).unwrap_err(),
        ] {
            assert!(matches!(error, ProjectError::Owner { .. }), "{error}");
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("avocado.yaml");
    fs::write(&path, "sdk:\n").unwrap();
    check_editable(&path).unwrap();
    // Only root can make files of others.
    if fs::metadata(&path).unwrap().uid() != 0 {
        return;
    }
    chown(&path, Some(1234), Some(1234)).unwrap();
    // Everybody can write here, and read the file.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = directory.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let name = "edit::tests::an_edit_gives_nobodys_file_to_somebody_else";
    let output = std::process::Command::new(&program)
        .args(["--exact", name, "--nocapture"])
        .env(FOREIGN, &path)
        .current_dir(directory.path())
        .uid(4321)
        .gid(4321)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "sdk:\n");
    edit.save(&path, "sdk:\n", again).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.uid(), after.gid()), (1234, 1234));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_comment_in_braces_stays_with_what_it_is_about() {
    let app = |list: &str| format!("extensions:\n  app:\n    packages: {list}\n");
    for (before, after) in [
        ("{a: 1, x: 2}", Some("{a: 1}")),
        ("{x: 2, a: 1}", Some("{a: 1}")),
        ("{a: 1, x: 2, }", Some("{a: 1, }")),
        ("{x: 2,}", Some("{}")),
        (
            "{\n      a: 1, # pinned\n      x: 2\n      }",
            Some("{\n      a: 1, # pinned\n      }"),
        ),
        (
            "{\n      a: 1, # pinned\n      x: 2 }",
            Some("{\n      a: 1, # pinned\n       }"),
        ),
        (
            "{\n      a: 1, # pinned\n      x: 2,\n      # b\n      b: 1}",
            Some("{\n      a: 1, # pinned\n      # b\n      b: 1}"),
        ),
        (
            "{\n      a: 1,\n      x: 2,\n      b: 1}",
            Some("{\n      a: 1,\n      b: 1}"),
        ),
        ("{ # all\n      x: 2\n      }", Some("{ # all\n      }")),
        (
            "{\n      a: 1, x: 2 # both\n      }",
            Some("{\n      a: 1 # both\n      }"),
        ),
        // Of the package alone, or of which is not plain.
        ("{\n      a: 1,\n      x: 2 # why\n      }", None),
        ("{\n      a: 1,\n      x: 2, # why\n      b: 1}", None),
        ("{a: 1, x: 2, # why\n      b: 1}", None),
    ] {
        let removed = remove(&app(before), "ext app", &["x"]);
        match after {
            Some(after) => assert_eq!(removed.unwrap().text, app(after), "{before}"),
            None => {
                let error = removed.unwrap_err();
                assert!(error.to_string().contains("edited safely"), "{error}");
            }
        }
    }
}

/// A project with its packages in block style or in one line, with comments, gaps and templates
/// between everything.
fn any_project() -> impl Strategy<Value = String> {
    let noise = prop_oneof![
        3 => Just(""),
        1 => Just("# a comment: {x: 'y'}\n"),
        1 => Just("\n"),
        1 => Just("      # deep\n"),
    ];
    let version = prop_oneof![
        Just("'*'"),
        Just("\"*\""),
        Just("1.0"),
        Just("\"{{ env.V }}\""),
        Just("*any"),
        Just("# nothing"),
    ];
    let packages = prop::collection::vec((0..6_u8, version, noise.clone(), any::<bool>()), 0..5);
    (
        packages,
        noise,
        any::<[bool; 7]>(),
        prop_oneof![Just(2_usize), Just(3), Just(4), Just(8)],
    )
        .prop_map(
            |(packages, noise, [flow, lines, crlf, end, bom, after, absent], step)| {
                let pad = |depth: usize| " ".repeat(depth * step);
                let mut text = format!("v: &any '*'\n{noise}extensions:\n{}app: # it\n", pad(1));
                text += &format!("{}version: 1.0.0\n{noise}", pad(2));
                let mut seen = std::collections::BTreeSet::new();
                let packages: Vec<_> = packages.iter().filter(|p| seen.insert(p.0)).collect();
                if flow && lines {
                    text += &format!("{}packages: {{ # f\n", pad(2));
                    let packages = packages.iter().filter(|p| !p.1.starts_with('#'));
                    for (number, version, noise, comment) in packages {
                        let comment = if *comment { " # why" } else { "" };
                        text += &format!("{}p{number}: {version},{comment}\n{noise}", pad(3));
                    }
                    text += &format!("{}}} # g\n", pad(3));
                } else if flow {
                    let packages = packages.iter().filter(|p| !p.1.starts_with('#'));
                    let packages: Vec<_> = packages.map(|p| format!("p{}: {}", p.0, p.1)).collect();
                    text += &format!("{}packages: {{{}}} # f\n", pad(2), packages.join(", "));
                } else if !packages.is_empty() || !absent {
                    text += &format!("{}packages:\n", pad(2));
                    for (number, version, noise, comment) in packages {
                        let comment = if *comment { " # why" } else { "" };
                        text += &format!("{}p{number}: {version}{comment}\n{noise}", pad(3));
                    }
                }
                if after {
                    text += &format!("{noise}{}types: [sysext]\n{noise}sdk:\n", pad(2));
                }
                if end {
                    text = text.trim_end().to_owned();
                }
                if crlf {
                    text = text.replace('\n', "\r\n");
                }
                if bom {
                    text.insert(0, '\u{feff}');
                }
                text
            },
        )
}

proptest! {
    /// The old text is the new one with one piece taken out, and what was added is all of it.
    #[test]
    fn what_is_not_touched_is_the_same_bytes(text in any_project()) {
        let edit = match add(&text, "ext app", &["new-package"]) {
            Ok(edit) => edit,
            // Refused, with what to write.
            Err(error) => {
                prop_assert!(error.diagnostics()[0].hint.is_some(), "{error}");
                return Ok(());
            }
        };
        let (old, new) = (text.as_bytes(), edit.text.as_bytes());
        let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        let rest = old.len() - same;
        prop_assert_eq!(&old[same..], &new[new.len() - rest..], "{}\n{}", text, edit.text);
        let added = &edit.text[same..edit.text.len() - rest];
        prop_assert!(added.contains("new-package"), "{added}");
        prop_assert!(added.len() < 70, "{added}");
        // And back: where there was a list, to the byte.
        let back = remove(&edit.text, "ext app", &["new-package"]).unwrap().text;
        if text.contains("p0") || text.contains("p1") || text.contains("p2") {
            prop_assert_eq!(back, text);
        }
    }

    /// Nothing but the package, a comma and space goes; in block style a comment behind it as well.
    #[test]
    fn what_is_removed_is_the_package_alone(text in any_project(), number in 0..6_u8) {
        let package = format!("p{number}");
        if let Ok(edit) = remove(&text, "ext app", &[&package]) {
            let rest = |text: &str| {
                let lines = text.lines().map(str::trim);
                let lines = lines.filter(|line| !line.starts_with(&package));
                let kept: String = lines.collect();
                kept.chars().filter(|c| !c.is_whitespace() && *c != ',').collect::<String>()
            };
            let comments = |text: &str| text.matches('#').count();
            if text.contains("packages: {") {
                prop_assert_eq!(comments(&text), comments(&edit.text), "{}\n{}", text, edit.text);
            }
            if !text.contains("packages: {p") && !edit.text.contains("packages: {}") {
                prop_assert_eq!(rest(&text), rest(&edit.text));
            }
        }
    }

    #[test]
    fn any_text_is_edited_or_refused(text in "(extensions|app|packages|[:{}\\[\\]&*<a \n\r\t'\"#|>~-]){0,30}") {
        let _ = add(&text, "ext app", &["x"]);
        let _ = remove(&text, "ext app", &["a"]);
        let _ = add(&text, "rootfs", &["x"]);
    }
}
