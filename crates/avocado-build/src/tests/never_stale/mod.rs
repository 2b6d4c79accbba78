//! Never stale: after any change of anything that a build reads, what it makes is what a build from
//! nothing makes of it.
//!
//! The changes follow from the sample project: each value of it becomes another one, goes, or gets
//! company, and so does each byte, mode and name of its files, each value of its lock and each
//! variable. The sample has every key of the format, which a test holds, so that a new key is covered.

mod changes;
mod keys;
mod sample;

use sample::{SampleKind, SampleProject};

/// How many changes are made where the variable says nothing of it.
const CHANGES: (usize, &str) = (60, "AVOCADO_TEST_CHANGES");

/// Keys that the sample does not have, and why.
const LEFT_OUT: [(&str, &str); 28] = [
    // What this version cannot build, which stops the step that would: tests/needed.rs.
    ("Runtime.type", "not built"),
    ("Signing.content_key", "not built"),
    // Fetched from a registry: tests/tests/docker_images.rs.
    ("Extension.docker_images", "needs a registry"),
    ("DockerImage.image", "needs a registry"),
    ("DockerImage.tag", "needs a registry"),
    ("DockerImage.digest", "needs a registry"),
    // Keys are the user's, and a build makes the one that no runtime names.
    ("avocado.yaml.signing_keys", "no file of the project"),
    ("Signing.key", "no file of the project"),
    // Fetched over a network: tests/tests/sources.rs.
    ("Source.version", "needs a feed"),
    ("Source.package", "needs a feed"),
    ("Source.repo_name", "needs a feed"),
    ("Source.url", "needs git"),
    ("Source.ref", "needs git"),
    ("Source.sparse_checkout", "needs git"),
    ("Image.source", "is fetched as an extension is"),
    ("Kernel.source", "is fetched as an extension is"),
    // What another machine made has no part in what this one makes of it.
    ("avocado.yaml.cache", "of other machines"),
    ("Cache.url", "of other machines"),
    ("Cache.push", "of other machines"),
    ("Cache.region", "of other machines"),
    ("Cache.trusted_keys", "of other machines"),
    ("Cache.ca", "of other machines"),
    ("Cache.endpoint", "of other machines"),
    ("Cache.max_size", "of other machines"),
    // The old way to write what the sample has.
    ("Sdk.repo_url", "distro.repo.url"),
    ("Sdk.repo_release", "distro.repo.releasever"),
    ("Package.extensions", "not built"),
    ("Package.config", "not built"),
];

#[test]
fn the_sample_has_every_key_of_the_format() {
    let schema = avocado_project::json_schema();
    let there = keys::of_project(&SampleProject::whole(), &schema);
    let mut missing = keys::of_format(&schema);
    missing.retain(|key| !there.contains(key));
    for (key, why) in LEFT_OUT {
        assert!(
            missing.remove(key),
            "the sample has {key}, or nobody does: {why}"
        );
    }
    assert!(
        missing.is_empty(),
        "add these to never_stale/project.json, or say why not: {missing:#?}"
    );
}

#[test]
fn after_each_change_a_build_makes_what_a_build_from_nothing_makes() {
    nothing_is_stale_in(SampleKind::Whole);
}

#[test]
fn after_each_change_a_build_without_scripts_makes_what_one_from_nothing_makes() {
    nothing_is_stale_in(SampleKind::WithoutScripts);
}

fn nothing_is_stale_in(kind: SampleKind) {
    let mut sample = SampleProject::new(kind);
    let first = sample.outcome().expect("the sample can be built");
    assert_eq!(sample.outcome().as_ref(), Ok(&first));
    let all = changes::of(&sample);
    let wanted = std::env::var(CHANGES.1).map(|count| count.parse().unwrap());
    let wanted = wanted.unwrap_or(CHANGES.0).min(all.len());
    let (mut seen, mut refused) = (0, 0);
    let mut misses = Vec::new();
    // Spread over all of them.
    for at in (0..wanted).map(|nth| nth * all.len() / wanted) {
        let change = &all[at];
        sample.make(change);
        let incremental = sample.outcome();
        sample.forget_what_was_built();
        let from_nothing = sample.outcome();
        // Who asks a feed, and how it is reached, is wanted where it is asked: by no step, or first by
        // another one than where nothing is built.
        let is_not_asked = change.is_of_access() && from_nothing.is_err();
        if incremental != from_nothing && !is_not_asked {
            misses.push(format!("{change}\n  {incremental:?}\n  {from_nothing:?}"));
        }
        refused += usize::from(from_nothing.is_err());
        seen += usize::from(from_nothing.is_ok_and(|made| made != first));
        sample.restore();
    }
    let told = format!(
        "{wanted} changes of {}: {seen} made something else, {refused} were refused, {} were missed",
        all.len(),
        misses.len()
    );
    assert!(misses.is_empty(), "{told}\n{}", misses.join("\n"));
    // The rest is of no effect on a build, or refused.
    assert!(seen * 4 > wanted, "{told}");
}
