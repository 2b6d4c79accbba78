//! Extensions that need others: which ones a runtime has, in which order, and what is said where
//! they do not fit together.

mod common;

use avocado_project::{Project, Runtime};
use common::{Site, table};

/// The extensions of a runtime as `name`, `name (off)` and `name <- for whose sake`.
fn members(runtime: &Runtime) -> Vec<String> {
    let described = runtime.extensions.iter().map(|member| {
        let off = if member.enabled { "" } else { " (off)" };
        let needy = member.needed_by.as_ref();
        let needy = needy.map(|needy| format!(" <- {needy}"));
        format!("{}{off}{}", member.name, needy.unwrap_or_default())
    });
    described.collect()
}

fn loaded(site: &Site, yaml: &str) -> Project {
    let loaded = site.load(yaml).unwrap();
    assert_eq!(loaded.warnings, []);
    loaded.project
}

#[test]
fn a_runtime_has_what_its_extensions_need_after_those_that_need_it() {
    let site = Site::new();
    let yaml = "
extensions:
  base: {version: 1.0.0}
  lib: {version: 1.4.0, extensions: [base]}
  net: {version: 2.0.0-rc.1, depends_on: {lib: '>=1.2, <2', base: 1.0.0}}
  ui: {version: 1.0.0, depends_on: [lib, {net: '>=2.0.0-rc.1'}]}
  other: {version: 1.0.0}
runtimes:
  all: {extensions: [other, ui]}
  stated: {extensions: [base, ui]}
  off: {extensions: [{ui: {enabled: false}}, lib]}
  none: {extensions: [other]}
";
    let project = loaded(&site, yaml);
    let all: Vec<Vec<String>> = project.runtimes.iter().map(members).collect();
    assert_eq!(
        all,
        [
            vec!["other", "ui", "net <- ui", "lib <- ui", "base <- lib"],
            // What is stated keeps its place: it was chosen.
            vec!["base", "ui", "net <- ui", "lib <- ui"],
            // What only such an extension needs is carried as it is, and not merged.
            vec!["ui (off)", "lib", "net (off) <- ui", "base <- lib"],
            vec!["other"],
        ]
    );
}

#[test]
fn what_is_needed_may_differ_for_a_target() {
    let site = Site::new();
    let yaml = "
supported_targets: [qemux86-64, other]
extensions:
  a: {version: 1.0.0}
  b: {version: 1.0.0}
  app: {version: 1.0.0, depends_on: {a: '*'}, target-qemux86-64: {depends_on: {b: '1.0.*'}}}
runtimes: {dev: {extensions: [app]}}
";
    let project = loaded(&site, yaml);
    assert_eq!(
        members(&project.runtimes[0]),
        ["app", "a <- app", "b <- app"]
    );
    let project = loaded(&site.target(Some("other")), yaml);
    assert_eq!(members(&project.runtimes[0]), ["app", "a <- app"]);
}

#[test]
fn what_is_needed_and_not_here_is_there_to_be_fetched() {
    let site = Site::new();
    let yaml = "
extensions:
  app: {version: 1.0.0, depends_on: {docker: '>=20'}}
  docker: {source: {type: package, version: '*'}}
runtimes: {dev: {extensions: [app]}}
";
    let project = loaded(&site, yaml);
    let members = members(&project.runtimes[0]);
    assert_eq!(members, ["app", "docker <- app"]);
    assert_eq!(project.extensions.len(), 1);
}

#[test]
fn an_extension_brings_along_what_it_needs_of_its_own_project() {
    let site = Site::new();
    let write = |path: &str, text: &str| {
        let path = site.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "near/avocado.yaml",
        "
sdk: {compile: {lib: {compile: c.sh}, not-needed: {compile: d.sh}}}
extensions:
  near: {version: 1.0.0, depends_on: ['near-{{ avocado.target }}']}
  near-qemux86-64: {version: 1.1.0, overlay: files, extensions: [lib, mine]}
  lib: {version: 1.2.0, packages: {lib: {compile: lib, install: i.sh}}}
  mine: {version: 0.0.1}
  unused: {version: 1.3.0}
",
    );
    let yaml = "
extensions:
  near: {source: {type: path, path: near, include: []}}
  mine: {version: 3.0.0}
runtimes: {dev: {extensions: [near]}}
";
    let project = loaded(&site, yaml);
    assert_eq!(
        members(&project.runtimes[0]),
        [
            "near",
            "near-qemux86-64 <- near",
            "lib <- near-qemux86-64",
            "mine <- near-qemux86-64"
        ]
    );
    let near = site.dir.path().join("near");
    let places: Vec<_> = project.extensions.iter().collect();
    let places: Vec<_> = places
        .iter()
        .map(|e| (e.name.as_str(), e.fetched_to.as_ref() == Some(&near)))
        .collect();
    assert_eq!(
        places,
        [
            ("near", true),
            ("mine", false),
            ("near-qemux86-64", true),
            ("lib", true)
        ]
    );
    let sections = project.sdk.compile.iter();
    let sections: Vec<&str> = sections.map(|s| s.name.as_str()).collect();
    assert_eq!(sections, ["lib"]);
}

#[test]
fn what_does_not_fit_together_is_told_at_its_place() {
    let cases = [
        (
            "unknown",
            "extensions:\n  a: {version: 1.0.0, extensions: [lib]}\n  libs: {version: 1.0.0}\n",
        ),
        (
            "unknown, and nothing like it",
            "extensions:\n  a: {version: 1.0.0, depends_on: {docker: '*'}}\n",
        ),
        (
            "another version",
            "extensions:\n  a: {version: 1.0.0, depends_on: {b: '>=2', c: {version: 1.2.*}}}\n  b: {version: 2.0.0-rc.1}\n  c: {version: 1.20.0}\n",
        ),
        (
            "no version",
            "extensions:\n  a: {version: 1.0.0, depends_on: {b: newest!, c: '>= 1 2', d: {versoin: 1}}}\n  b: {version: 2.0.0}\n  c: {version: 2.0.0}\n  d: {version: 2.0.0}\n",
        ),
        (
            "itself",
            "extensions:\n  a: {version: 1.0.0, extensions: [a]}\n",
        ),
        (
            "circles",
            "extensions:\n  a: {version: 1.0.0, extensions: [free, b]}\n  b: {version: 1.0.0, extensions: [c]}\n  c: {version: 1.0.0, extensions: [free, b]}\n  d: {version: 1.0.0, depends_on: {e: '*'}}\n  e: {version: 1.0.0, depends_on: {d: '*'}}\n  free: {version: 1.0.0}\nruntimes: {dev: {extensions: [a]}}\n",
        ),
        (
            "several in one entry",
            "extensions:\n  a: {version: 1.0.0, depends_on: [{b: '*', c: '*'}, 'x/y']}\n",
        ),
        (
            "not enabled",
            "extensions:\n  a: {version: 1.0.0, depends_on: [b]}\n  b: {version: 1.0.0}\nruntimes:\n  dev: {extensions: [a, {b: {enabled: false}}]}\n",
        ),
        (
            "of another shape",
            "extensions:\n  a: {version: 1.0.0, extensions: b, depends_on: {b: [1]}}\n  b: {version: 1.0.0}\n",
        ),
    ];
    insta::assert_snapshot!(table(&Site::new(), &cases));
}

/// A file holds a chain as long as it has lines, and a circle as large.
#[test]
fn a_long_chain_and_a_large_circle_are_no_trouble() {
    let site = Site::new();
    let chain = |last: &str| {
        let mut yaml = "extensions:\n".to_owned();
        for n in 0..5_000 {
            let next = n + 1;
            yaml += &format!("  e{n}: {{version: 1.0.0, extensions: [e{next}]}}\n");
        }
        yaml + &format!(
            "  e5000: {{version: 1.0.0, {last}}}\nruntimes: {{dev: {{extensions: [e0]}}}}\n"
        )
    };
    let project = site.load(chain("types: [sysext]")).unwrap().project;
    let runtime = &project.runtimes[0];
    assert_eq!(runtime.extensions.len(), 5_001);
    assert_eq!(runtime.extensions[5_000].name.as_str(), "e5000");
    let said = site.said(chain("extensions: [e4990]"));
    assert_eq!(said.matches("error").count(), 1, "{said}");
    assert!(said.contains("e4997 → … → e4990"), "{said}");
}
