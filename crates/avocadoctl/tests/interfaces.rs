//! The interface definitions: what is published is all there and as it was, and everything is
//! documented.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use avocado_varlink::idl::Interface;

const DEFINITIONS: [&str; 4] = [
    include_str!("../varlink/org.avocado.Runtimes.varlink"),
    include_str!("../varlink/org.avocado.Extensions.varlink"),
    include_str!("../varlink/org.avocado.RootAuthority.varlink"),
    include_str!("../varlink/org.avocado.Hitl.varlink"),
];

const PUBLISHED: [&str; 4] = [
    "\
interface org.avocado.Runtimes
type RuntimeInfo (name: string, version: string)
type ManifestExtension (name: string, version: string, imageId: ?string)
type Runtime (id: string, manifestVersion: int, builtAt: string, runtime: RuntimeInfo, \
extensions: []ManifestExtension, active: bool, osBuildId: ?string, initramfsBuildId: ?string)
method List() -> (runtimes: []Runtime)
method AddFromUrl(url: string, authToken: ?string, artifactsUrl: ?string) -> \
(message: string, done: bool, runtime: ?Runtime)
method AddFromManifest(manifestPath: string) -> (message: string, done: bool, runtime: ?Runtime)
method Remove(id: string) -> ()
method Activate(id: string) -> (message: string, done: bool, runtime: ?Runtime)
method Inspect(id: ?string) -> (runtime: Runtime)
error RuntimeNotFound (id: string)
error AmbiguousRuntimeId (id: string, candidates: []string)
error RemoveActiveRuntime ()
error StagingFailed (reason: string)
error UpdateFailed (reason: string)
",
    "\
interface org.avocado.Extensions
type Extension (name: string, version: ?string, path: string, isSysext: bool, isConfext: bool, \
isDirectory: bool)
type ExtensionStatus (name: string, version: ?string, isSysext: bool, isConfext: bool, \
isMerged: bool, origin: ?string, imageId: ?string)
method List() -> (extensions: []Extension)
method Merge() -> (message: string, done: bool)
method Unmerge(unmount: ?bool) -> (message: string, done: bool)
method Refresh() -> (message: string, done: bool)
method Enable(extensions: []string, osRelease: ?string) -> (enabled: int, failed: int)
method Disable(extensions: ?[]string, all: ?bool, osRelease: ?string) -> \
(disabled: int, failed: int)
method Status() -> (extensions: []ExtensionStatus)
error ExtensionNotFound (name: string)
error MergeFailed (reason: string)
error UnmergeFailed (reason: string)
error ConfigurationError (message: string)
error CommandFailed (command: string, message: string)
",
    "\
interface org.avocado.RootAuthority
type TrustedKey (keyId: string, keyType: string, roles: []string)
type RootAuthorityInfo (version: int, expires: string, keys: []TrustedKey)
method Show() -> (authority: ?RootAuthorityInfo)
error NoRootAuthority ()
error ParseFailed (reason: string)
",
    "\
interface org.avocado.Hitl
method Mount(serverIp: string, serverPort: ?string, extensions: []string) -> ()
method Unmount(extensions: []string) -> ()
error MountFailed (extension: string, reason: string)
error UnmountFailed (extension: string, reason: string)
",
];

/// What a definition declares: by kind and name, the lists of fields.
fn declarations(text: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let code = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    let code = code.collect::<Vec<_>>().join(" ");
    let starts = ["interface ", "type ", "method ", "error "];
    let mut all = BTreeMap::new();
    let mut rest = code.trim();
    while !rest.is_empty() {
        assert!(starts.iter().any(|start| rest.starts_with(start)), "{rest}");
        // Up to the next word that starts one, outside of any parentheses.
        let mut depth = 0;
        let end = rest.char_indices().skip(1).find(|(at, c)| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            let here = &rest[*at..];
            depth == 0 && rest[..*at].ends_with(' ') && starts.iter().any(|s| here.starts_with(s))
        });
        let (declaration, next) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        let name = declaration.split('(').next().unwrap().trim().to_owned();
        all.insert(name, lists(declaration));
        rest = next.trim();
    }
    all
}

/// The lists in parentheses, each as its fields.
fn lists(declaration: &str) -> Vec<Vec<String>> {
    let mut lists = Vec::new();
    let (mut depth, mut field) = (0, String::new());
    for c in declaration.chars().filter(|c| !c.is_whitespace()) {
        match c {
            '(' if depth == 0 => lists.push(Vec::new()),
            ')' if depth == 1 && field.is_empty() => {}
            ')' | ',' if depth == 1 => lists.last_mut().unwrap().push(std::mem::take(&mut field)),
            c if depth > 0 => field.push(c),
            _ => {}
        }
        depth += i32::from(c == '(') - i32::from(c == ')');
    }
    lists
}

#[test]
fn the_published_interfaces_are_all_there_and_have_only_grown() {
    for (ours, published) in DEFINITIONS.iter().zip(PUBLISHED) {
        let ours = declarations(ours);
        for (name, fields) in declarations(published) {
            let now = ours.get(&name).unwrap_or_else(|| panic!("{name} is gone"));
            assert_eq!(now.len(), fields.len(), "{name}");
            for (now, before) in now.iter().zip(fields) {
                let (same, new) = now.split_at_checked(before.len()).unwrap_or((now, &[]));
                assert_eq!(same, before, "{name}");
                for field in new {
                    assert!(
                        field.contains(":?"),
                        "{name} has a new {field}: not nullable"
                    );
                }
            }
        }
    }
}

#[test]
fn the_comparison_sees_changes() {
    let before = "interface a.b\ntype T (a: (x: int, y: int), b: ?[]string)\nerror E ()\n";
    let fields = declarations(before);
    assert_eq!(fields["type T"], [["a:(x:int,y:int)", "b:?[]string"]]);
    assert_eq!(fields["error E"], [[""; 0]]);
    assert_eq!(
        declarations("method M(a: int) -> ()")["method M"],
        [vec!["a:int"], vec![]]
    );
}

#[test]
fn everything_is_documented() {
    for text in DEFINITIONS {
        Interface::parse(text).unwrap();
        let mut documented = false;
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
            let line = line.trim();
            let word = line.split([' ', '(', ':']).next().unwrap();
            let declares = matches!(word, "interface" | "type" | "method" | "error")
                || (!word.starts_with(['#', ')']) && line.contains(": "));
            assert!(!declares || documented, "not documented: {line}");
            documented = line.starts_with('#');
        }
    }
}
