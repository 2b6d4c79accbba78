//! What is stated of how a runtime was made, and when that is another statement.

use std::collections::BTreeSet;
use std::fs;

use avocado_manifest::Digest;
use avocado_provenance::{PROVENANCE_TARGET, VerifiedProvenance, runtime_subjects};
use avocado_tuf::Keyring;

use super::fake_backend::FakeBackend;
use super::graphs::HELLO;
use super::test_project::TestProject;
use crate::goal::Goal;

const PUBLISHED: &str = ".avocado/state/qemux86-64/output/runtimes/dev/repository";
const HEADER: &str = "sha256:0440fae87b0ab2da28220ec60b2e3d21bd8b0b6816c9712fb7ba056a47dfb4fd";
const LAST: [&str; 1] = ["runtime repository dev"];

fn published(project: &TestProject) -> Vec<u8> {
    let target = format!("{PUBLISHED}/targets/{PROVENANCE_TARGET}");
    fs::read(project.path(&target)).unwrap()
}

fn verified(project: &TestProject) -> VerifiedProvenance {
    let keyring = Keyring::new(project.path("keys"));
    let entry = keyring.find("dev-signing-key").unwrap().unwrap();
    let key = keyring.public_key(&entry).unwrap();
    avocado_provenance::verify(&published(project), &[key]).unwrap()
}

#[test]
fn it_is_about_the_manifest_and_every_image_and_names_what_they_were_made_of() {
    let project = TestProject::new(HELLO);
    let mut backend = FakeBackend::new(&project.options.project);
    backend.header = HEADER;
    let everything = Goal::Build {
        runtime: None,
        var: true,
    };
    project.run_on(backend, &everything).unwrap();
    let statement = verified(&project).statement;
    let manifest = fs::read(project.path(&format!("{PUBLISHED}/targets/manifest.json"))).unwrap();
    let subjects = runtime_subjects(&manifest).unwrap();
    statement.check_subjects(&subjects).unwrap();
    let images = fs::read_dir(project.path(&format!("{PUBLISHED}/targets"))).unwrap();
    for image in images {
        let image = image.unwrap();
        let name = image.file_name().into_string().unwrap();
        if subjects.contains_key(&name) {
            assert_eq!(
                subjects[&name],
                Digest::of(&fs::read(image.path()).unwrap())
            );
        }
    }
    let definition = &statement.predicate.build_definition;
    assert_eq!(definition.external_parameters.runtime, "dev");
    assert_eq!(definition.external_parameters.target, "qemux86-64");
    let epoch = definition.internal_parameters.source_date_epoch;
    assert_eq!(epoch, project.options.project.source_date_epoch);
    let dependencies = &definition.resolved_dependencies;
    let config = Digest::of(&fs::read(project.path("avocado.yaml")).unwrap());
    assert_eq!(dependencies[0].name.as_deref(), Some("avocado.yaml"));
    assert_eq!(dependencies[0].digest.sha256, Some(config));
    let named = |url: &str| dependencies.iter().find(|d| d.uri.as_deref() == Some(url));
    let hello = named("pkg:rpm/avocado/hello@1-r0?arch=all").unwrap();
    assert_eq!(
        hello.annotations["trees"],
        serde_json::json!(["extensions/hello"])
    );
    let header = hello.annotations["rpmHeaderSha256"].as_str();
    assert_eq!(HEADER.strip_prefix("sha256:"), header);
    let sets = dependencies.iter().map(|d| &d.digest.others);
    let names: BTreeSet<&str> = sets.flatten().map(|(name, _)| name.as_str()).collect();
    // Of those that in-toto knows.
    assert_eq!(names, BTreeSet::from(["dirHash"]));
    let tools = &statement.predicate.run_details.builder.version;
    assert_eq!(tools["avocado"], "1");
    assert!(tools["mkfs.erofs"].contains("1.0"), "{tools:?}");
    let text = String::from_utf8(statement.to_payload().unwrap()).unwrap();
    let here = project.path("");
    assert!(!text.contains(here.to_str().unwrap()), "{text}");
}

#[test]
fn the_same_sources_and_key_give_the_same_statement() {
    let one = TestProject::new(HELLO);
    one.build();
    let mut other = TestProject::new(HELLO);
    other.options.keyring = Some(one.path("keys"));
    other.options.now = "2026-01-02T00:00:00Z".parse().unwrap();
    other.build();
    assert_eq!(published(&one), published(&other));
}

#[test]
fn it_is_another_one_where_what_was_made_is_another_one() {
    let mut project = TestProject::new(HELLO);
    project.build();
    let first = published(&project);
    // Nothing else is made of it: what is stated of what is there is still so.
    let text = fs::read_to_string(project.path("avocado.yaml")).unwrap();
    project.write("avocado.yaml", &format!("# a word\n{text}"));
    project.load("avocado.yaml");
    assert!(project.build().is_empty());
    assert_eq!(published(&project), first);

    project.edit("version: 1.0.0", "version: 1.0.1");
    assert!(project.build().contains(&LAST[0].to_owned()));
    assert_ne!(published(&project), first);
    let config = Digest::of(&fs::read(project.path("avocado.yaml")).unwrap());
    let definition = verified(&project).statement.predicate.build_definition;
    let stated = definition.resolved_dependencies[0].digest.sha256;
    assert_eq!(stated, Some(config));
}

#[test]
fn a_repository_without_a_good_statement_is_published_again() {
    let project = TestProject::new(HELLO);
    project.build();
    let target = project.path(&format!("{PUBLISHED}/targets/{PROVENANCE_TARGET}"));
    let good = published(&project);
    for bad in [None, Some(b"{}".as_slice()), Some(&good[..good.len() / 2])] {
        fs::remove_file(&target).unwrap();
        if let Some(bytes) = bad {
            fs::write(&target, bytes).unwrap();
        }
        assert_eq!(project.build(), LAST);
        assert_eq!(published(&project), good);
        assert!(project.build().is_empty());
    }
}

#[test]
fn what_is_published_again_states_the_same() {
    let mut project = TestProject::new(HELLO);
    project.build();
    let first = published(&project);
    let text = fs::read_to_string(project.path("avocado.yaml")).unwrap();
    project.write("avocado.yaml", &format!("# a word\n{text}"));
    project.load("avocado.yaml");
    // The metadata of then are no use any more.
    project.options.now = "2026-03-01T00:00:00Z".parse().unwrap();
    assert_eq!(project.build(), LAST);
    assert_eq!(published(&project), first);
    assert!(project.build().is_empty());
}

#[test]
fn another_board_is_another_statement() {
    let mut project = TestProject::new(HELLO);
    project.build();
    project.edit("  dev:\n", "  dev:\n    target_board: evk\n");
    project.build();
    let definition = verified(&project).statement.predicate.build_definition;
    let board = definition.external_parameters.target_board;
    assert_eq!(board.as_deref(), Some("evk"));
}

#[test]
fn what_the_project_brings_itself_is_told_by_digest() {
    let near = tempfile::tempdir().unwrap();
    let config = "extensions: {near: {version: 1.0.0, post_build: hook.sh}}\n";
    fs::write(near.path().join("avocado.yaml"), config).unwrap();
    fs::write(near.path().join("hook.sh"), "true\n").unwrap();
    let mut project = TestProject::new(HELLO);
    let other = "    source: {type: git, url: 'https://example.org/other.git'}\n";
    let source = format!(
        "extensions:\n  near:\n    source: {{type: path, path: '{}'}}\n  other:\n{other}",
        near.path().display()
    );
    project.edit("extensions:\n", &source);
    // The first is in the list of the runtime.
    project.edit("source_date_epoch", "# a word\nsource_date_epoch");
    let text = fs::read_to_string(project.path("avocado.yaml")).unwrap();
    let text = text.replace("extensions: [hello,", "extensions: [near, hello,");
    project.write("avocado.yaml", &text);
    project.load("avocado.yaml");
    let dependencies = |project: &TestProject| {
        project
            .run(&Goal::Build {
                runtime: None,
                var: false,
            })
            .unwrap();
        let definition = verified(project).statement.predicate.build_definition;
        let named = definition.resolved_dependencies.into_iter();
        let named = named.filter_map(|d| Some((d.name?, d.digest)));
        named.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = dependencies(&project);
    assert!(!before.contains_key("other"));
    let file = |digest: &str| avocado_provenance::DigestSet::sha256(Digest::of(digest.as_bytes()));
    assert_eq!(before["near/avocado.yaml"], file(config));
    assert_eq!(before["extensions/near/post_build"], file("true\n"));
    fs::write(near.path().join("hook.sh"), "true 2\n").unwrap();
    project.write("overlay/app/etc/app.conf", "a = 2\n");
    let after = dependencies(&project);
    assert_eq!(after["extensions/near/post_build"], file("true 2\n"));
    let overlay = "extensions/hello-config/overlay";
    assert!(before[overlay].others.contains_key("dirHash"));
    assert_ne!(after[overlay], before[overlay]);
}
