//! A project in phases: what has to be fetched, and what comes of it when it was.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use avocado_manifest::Name;
use avocado_project::{
    ExtensionSource, LateValue, LateValues, LoadOptions, Loaded, ProjectError, ReadProject,
    SourceKind,
};
use common::Site;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Goes through the phases; what is at `fetched` below the directory of the project stands for what
/// was fetched for each extension.
fn composed(site: &Site, yaml: &str, fetched: &[(&str, &str)]) -> Result<Loaded, ProjectError> {
    std::fs::write(site.config(), yaml).unwrap();
    let env = |name: &str| site.env.get(name).cloned();
    let config = site.config();
    let options = LoadOptions {
        text: None,
        config: &config,
        target: site.target.as_deref(),
        env: &env,
        cli_version: "0.41.0",
    };
    let fetched: BTreeMap<Name, PathBuf> = fetched
        .iter()
        .map(|(extension, directory)| (name(extension), site.dir.path().join(directory)))
        .collect();
    ReadProject::read(&options)?
        .find_sources(&options)?
        .compose(&options, &fetched)?
        .resolve(&options)
}

fn said(site: &Site, result: Result<Loaded, ProjectError>) -> String {
    let diagnostics = match result {
        Ok(loaded) => loaded.warnings,
        Err(error) => error.diagnostics().to_vec(),
    };
    let all: Vec<String> = diagnostics.iter().map(|d| d.render()).collect();
    let dir = site.dir.path().display().to_string();
    all.join("\n").replace(&dir, "[dir]")
}

fn write(site: &Site, path: &str, text: &str) {
    let path = site.dir.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn the_sources_are_known_for_a_target_before_anything_is_fetched() {
    let site = Site::new();
    let yaml = r#"
extensions:
  local: {version: 0.1.0}
  docker: {source: {type: package, version: "*"}}
  "bsp-{{ avocado.target }}":
    source: {type: git, url: "https://git.example.org/bsp", ref: main, sparse_checkout: [bsp]}
    target-qemux86-64: {source: {url: "https://git.example.org/qemu"}}
    target-other: {source: {url: "https://git.example.org/other"}}
  near: {source: {type: path, path: ../near}}
"#;
    std::fs::write(site.config(), yaml).unwrap();
    let config = site.config();
    let options = LoadOptions {
        text: None,
        config: &config,
        target: Some("qemux86-64"),
        env: &|_| None,
        cli_version: "0.41.0",
    };
    let project = ReadProject::read(&options).unwrap();
    let project = project.find_sources(&options).unwrap();
    assert!(!project.has_errors());
    let kind = |source: &ExtensionSource| (source.extension.to_string(), source.kind.clone());
    let found: Vec<_> = project.sources().iter().map(kind).collect();
    assert_eq!(
        found,
        [
            (
                "docker".to_owned(),
                SourceKind::Package {
                    package: "docker".to_owned(),
                    version: "*".to_owned(),
                    repository: None,
                }
            ),
            (
                "bsp-qemux86-64".to_owned(),
                SourceKind::Git {
                    url: "https://git.example.org/qemu".to_owned(),
                    reference: Some("main".to_owned()),
                    sparse_checkout: vec!["bsp".to_owned()],
                }
            ),
            (
                "near".to_owned(),
                SourceKind::Path {
                    path: site.dir.path().join("../near"),
                }
            ),
        ]
    );
}

#[test]
fn a_fetched_extension_fills_in_what_the_project_does_not_state() {
    let site = Site::new();
    write(&site, "near/files/a", "");
    write(
        &site,
        "near/avocado.yaml",
        r#"
distro: {release: of-near}
sdk:
  packages: {tool: "*", compiler: 2.0}
  image: not-taken
extensions:
  "near-{{ avocado.target }}":
    version: 1.2.3
    types: [sysext]
    overlay: files
    dependencies: {of-near: "*"}
    on_merge: "echo {{ config.distro.release }}"
    target-qemux86-64: {packages: {for-target: "*"}}
  other: {version: 9.9.9}
"#,
    );
    let yaml = r#"
distro: {release: of-project}
sdk: {packages: {compiler: 1.0}}
extensions:
  near-qemux86-64:
    types: [confext]
    source: {type: path, path: near}
runtimes: {dev: {extensions: [near-qemux86-64]}}
"#;
    let loaded = composed(&site, yaml, &[("near-qemux86-64", "near")]).unwrap();
    assert_eq!(loaded.warnings, []);
    let project = loaded.project;
    let [extension] = &project.extensions[..] else {
        panic!("{:?}", project.extensions);
    };
    assert_eq!(extension.version.known().unwrap().as_str(), "1.2.3");
    assert_eq!((extension.sysext, extension.confext), (false, true));
    let packages: Vec<&str> = extension
        .packages
        .template()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(packages, ["for-target", "of-near"]);
    // The overlay is where it was fetched to.
    assert_eq!(extension.fetched_to, Some(site.dir.path().join("near")));
    assert!(extension.overlay.is_some());
    assert_eq!(extension.on_merge, ["echo of-project"]);
    assert_eq!(project.sdk.image, None);
    assert_eq!(project.sdk.packages.template()["compiler"], "1.0");
    assert_eq!(project.sdk.packages.template()["tool"], "*");
}

#[test]
fn a_mistake_is_shown_in_the_file_that_has_it() {
    let site = Site::new();
    write(
        &site,
        "near/avocado.yaml",
        "# of another project\nextensions:\n  near:\n    version: 1.2\n    pakages: {}\n",
    );
    let yaml = "extensions:\n  near: {source: {type: path, path: near}, overlay: nowhere}\n";
    let result = composed(&site, yaml, &[("near", "near")]);
    insta::assert_snapshot!(said(&site, result));
}

#[test]
fn what_cannot_be_merged_is_told_where_the_source_is_stated() {
    let site = Site::new();
    write(&site, "other/avocado.yaml", "extensions: {a: {}, b: {}}\n");
    write(&site, "broken/avocado.yml", "extensions: {near: [}\n");
    write(&site, "new/avocado.yaml", "cli_requirement: \">=9.0.0\"\n");
    std::fs::create_dir(site.dir.path().join("empty")).unwrap();
    let yaml = "extensions:\n  near: {source: {type: path, path: near}}\n";
    let mut all = String::new();
    for directory in ["empty", "other", "broken", "new"] {
        let result = composed(&site, yaml, &[("near", directory)]);
        all.push_str(&format!("== {directory}\n{}\n\n", said(&site, result)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_source_that_is_wrong_is_told_as_such() {
    let site = Site::new();
    let yaml = "extensions:\n  a: {source: {type: pakage, version: 1}}\n  b: {source: {version: 1}}\n  \
                c: {source: {type: git}}\n  d: {source: x}\n  e: {source: {type: package, version: '*'}}\n";
    insta::assert_snapshot!(said(&site, composed(&site, yaml, &[])));
}

#[test]
fn the_version_of_the_kernel_is_bound_by_whoever_knows_it() {
    let site = Site::new();
    let yaml = r#"
extensions:
  wifi:
    version: 0.1.0
    packages: {"kernel-module-wifi-{{ avocado.kernel.version }}": "*", tools: "*"}
  plain: {version: 0.1.0, packages: {tools: "*"}}
runtimes:
  dev:
    packages: {tools: "*", tracer: "1.0"}
    kernel-6.6.*: {packages: {tracer: "2.0", "driver-{{ avocado.kernel.version }}": "*"}}
    "kernel->=6.12": {dependencies: {tracer: "3.0"}}
"#;
    let project = composed(&site, yaml, &[]).unwrap().project;
    let [wifi, plain] = &project.extensions[..] else {
        panic!("{:?}", project.extensions);
    };
    assert!(wifi.packages.is_late() && !plain.packages.is_late());
    let unbound = wifi.packages.bind(&LateValues::default()).unwrap_err();
    assert_eq!(unbound.value, LateValue::KernelVersion);
    let kernel_version = Some("6.6.52");
    let bound = wifi.packages.bind(&LateValues { kernel_version }).unwrap();
    let names: Vec<&str> = bound.keys().map(String::as_str).collect();
    assert_eq!(names, ["kernel-module-wifi-6.6.52", "tools"]);

    let dev = &project.runtimes[0].packages;
    assert!(dev.bind(&LateValues::default()).is_err());
    for (version, expected) in [
        ("6.1.1", &[("tools", "*"), ("tracer", "1.0")][..]),
        (
            "6.6.52",
            &[("driver-6.6.52", "*"), ("tools", "*"), ("tracer", "2.0")],
        ),
        ("6.12.1", &[("tools", "*"), ("tracer", "3.0")]),
    ] {
        let kernel_version = Some(version);
        let bound = dev.bind(&LateValues { kernel_version }).unwrap();
        let bound: Vec<(&str, &str)> = bound
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(bound, expected, "{version}");
    }
}

#[test]
fn an_extension_is_found_under_the_name_of_its_family() {
    let site = Site::new();
    let fetched = r#"
extensions:
  bsp-nova: {version: 1.0.0}
  bsp: {version: 2.0.0}
  bsp-nova-qemux86-64: {version: 3.0.0}
"#;
    write(&site, "bsp/avocado.yaml", fetched);
    write(
        &site,
        "one/avocado.yaml",
        "extensions: {other: {version: 4.0.0}}\n",
    );
    let yaml = |extension: &str| {
        let source = "{source: {type: path, path: bsp}}";
        format!("extensions: {{{extension}: {source}}}\n")
    };
    for (extension, directory, version) in [
        ("bsp-nova-qemux86-64", "bsp", "3.0.0"),
        // Without the target, dashes and all.
        ("bsp-qemux86-64", "bsp", "2.0.0"),
        ("bsp-nova-pi5", "bsp", "1.0.0"),
        ("bsp-pi5", "bsp", "2.0.0"),
        ("bsp", "bsp", "2.0.0"),
        ("mine", "one", "4.0.0"),
    ] {
        let loaded = composed(&site, &yaml(extension), &[(extension, directory)]).unwrap();
        let found = &loaded.project.extensions[0];
        let found = (found.name.as_str(), found.version.known().unwrap().as_str());
        assert_eq!(found, (extension, version));
    }
    let refused = composed(&site, &yaml("mine"), &[("mine", "bsp")]);
    assert!(said(&site, refused).contains("does not define it"));
}

#[test]
fn what_is_not_here_is_known_by_name_and_no_mistake() {
    let site = Site::new();
    let yaml = r#"
extensions:
  app: {version: 1.0.0}
  docker: {source: {type: package, version: "*"}}
  near: {source: {type: path, path: not-there}}
runtimes: {dev: {extensions: [app, docker, near]}}
"#;
    let project = composed(&site, yaml, &[]).unwrap().project;
    let here: Vec<&str> = project.extensions.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(here, ["app"]);
    let sources = project.sources.iter();
    let sources: Vec<_> = sources
        .map(|s| {
            let place = s.stated_at.rsplit('/').next().unwrap().to_owned();
            (s.extension.to_string(), s.fetched_to.clone(), place)
        })
        .collect();
    let [docker, near] = ["docker", "near"].map(str::to_owned);
    let at = |line: u32| format!("avocado.yaml:{line}:{}", if line == 4 { 20 } else { 18 });
    assert_eq!(sources, [(docker, None, at(4)), (near, None, at(5))]);
    assert_eq!(project.runtimes[0].extensions.len(), 3);
}

#[test]
fn what_was_fetched_counts_for_the_source_that_it_is_from() {
    let site = Site::new();
    let load = |source: &str| {
        let yaml = format!("extensions:\n  app: {{source: {source}}}\n");
        std::fs::write(site.config(), yaml).unwrap();
        let config = site.config();
        let options = LoadOptions {
            text: None,
            config: &config,
            target: Some("qemux86-64"),
            env: &|_| None,
            cli_version: "0.41.0",
        };
        avocado_project::load(&options).unwrap().project
    };
    let git = "{type: git, url: 'https://example.org/a', ref: main}";
    let includes = site.dir.path().join(".avocado/state/qemux86-64/includes");
    let text = "extensions: {app: {version: 1.0.0}}\n";
    write(
        &site,
        ".avocado/state/qemux86-64/includes/app/avocado.yaml",
        text,
    );
    // Whatever it is from.
    assert_eq!(load(git).extensions.len(), 0);
    load(git).sources[0].note(&includes).unwrap();
    let project = load(git);
    let place = project.extensions[0].fetched_to.clone();
    assert_eq!(place, Some(includes.join("app")));
    assert_eq!(project.sources[0].fetched_to, place);
    // Another password is no other source.
    let mine = "{type: git, url: 'https://me:secret@example.org/a', ref: main}";
    assert_eq!(load(mine).extensions.len(), 1);
    let other = "{type: git, url: 'https://example.org/a', ref: stable}";
    assert_eq!(load(other).extensions.len(), 0);
    project.sources[0].forget(&includes).unwrap();
    assert_eq!(load(git).extensions.len(), 0);
    // A directory of this machine is what it is.
    write(&site, "near/avocado.yaml", text);
    let project = load("{type: path, path: ./near}");
    let near = site.dir.path().join("near");
    assert_eq!(project.extensions[0].fetched_to, Some(near));
}

#[test]
fn what_git_could_be_made_to_run_is_refused_where_it_stands() {
    let site = Site::new();
    let yaml = r#"
extensions:
  a: {source: {type: git, url: "ext::sh -c id"}}
  b: {source: {type: git, url: "--upload-pack=id"}}
  c: {source: {type: git, url: "http://example.org/c"}}
  d: {source: {type: git, url: "https://example.org/d", ref: "--upload-pack=id"}}
  e: {source: {type: git, url: "https://example.org/d", ref: "main:refs/heads/x"}}
  f: {source: {type: git, url: "https://example.org/d", sparse_checkout: ["../up", "--x", ok]}}
  g: {source: {type: package, version: "--setopt=x"}}
  h: {source: {type: package, version: "*", package: "a b"}}
"#;
    insta::assert_snapshot!(said(&site, composed(&site, yaml, &[])));
}
