//! Results that another machine made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use avocado_engine::{Action, FileContent, FoundResult, MadeResult, SharedResults};
use avocado_events::{Event, Sink};
use avocado_manifest::Digest;
use serde_json::Value;

use crate::fakes::{Fake, FakeGraph, Place};

#[derive(Clone)]
struct Kept {
    output: Value,
    digest: Digest,
    files: Vec<(PathBuf, Vec<u8>)>,
}

/// A cache for machines whose results are in one directory each.
struct FakeCache<'a> {
    results: &'a Mutex<BTreeMap<String, Kept>>,
    prefix: PathBuf,
    /// What is found cannot be put at its place.
    places: bool,
}

impl<'a> FakeCache<'a> {
    fn of(place: &Place, results: &'a Mutex<BTreeMap<String, Kept>>) -> Self {
        FakeCache {
            results,
            prefix: place.stamps.prefix.clone(),
            places: true,
        }
    }
}

struct FakeFound<'c> {
    cache: &'c FakeCache<'c>,
    kept: Kept,
}

impl SharedResults for FakeCache<'_> {
    fn find<'s>(
        &'s self,
        action: &Action<'_>,
        _sink: &dyn Sink,
    ) -> Option<Box<dyn FoundResult + 's>> {
        let results = self.results.lock().unwrap();
        let kept = results.get(&action.description().to_string())?.clone();
        Some(Box::new(FakeFound { cache: self, kept }))
    }

    fn offer(&self, action: &Action<'_>, result: MadeResult<'_>, _sink: &dyn Sink) {
        let read = |path: &PathBuf| (path.clone(), fs::read(self.prefix.join(path)).unwrap());
        let kept = Kept {
            output: result.output.clone(),
            digest: result.digest,
            files: result.paths.iter().map(read).collect(),
        };
        let mut results = self.results.lock().unwrap();
        results.insert(action.description().to_string(), kept);
    }
}

impl FoundResult for FakeFound<'_> {
    fn output(&self) -> &Value {
        &self.kept.output
    }

    fn digest(&self) -> Digest {
        self.kept.digest
    }

    fn paths(&self) -> Vec<&Path> {
        self.kept.files.iter().map(|(path, _)| &**path).collect()
    }

    fn refused(&self, why: &str, sink: &dyn Sink) {
        sink.emit(Event::info(format!("refused: {why}")));
    }

    fn place(&self, contents: &[FileContent], _sink: &dyn Sink) -> bool {
        for (path, bytes) in &self.kept.files {
            fs::write(self.cache.prefix.join(path), bytes).unwrap();
        }
        let paths = contents.iter().map(|content| &content.path);
        assert!(paths.eq(self.kept.files.iter().map(|(path, _)| path)));
        self.cache.places
    }
}

/// A run of one task that writes a file; what it told.
fn run_one(
    place: &Place,
    cache: &FakeCache<'_>,
    input: &'static str,
    tool: &'static str,
) -> Vec<String> {
    let file = place.path("made");
    let mut graph = FakeGraph::new();
    graph.share(cache);
    graph.add(
        Fake::new("a")
            .consumes(move || input.into())
            .files(std::slice::from_ref(&file))
            .shared_with(tool)
            .work(|_| {
                fs::write(&file, input).unwrap();
                Ok(format!("of {input}"))
            }),
    );
    place.run(&graph).unwrap();
    place.told()
}

const RAN: [&str; 2] = ["a running first run", "a success"];
const FROM_CACHE: [&str; 1] = ["a skipped from the cache"];

#[test]
fn a_result_of_another_machine_is_put_at_its_place_and_stamped() {
    let results = Mutex::default();
    let (first, second) = (Place::new(), Place::new());
    let cache = FakeCache::of(&first, &results);
    assert_eq!(run_one(&first, &cache, "1", "t"), RAN);
    let cache = FakeCache::of(&second, &results);
    assert_eq!(run_one(&second, &cache, "1", "t"), FROM_CACHE);
    assert_eq!(fs::read(second.path("made")).unwrap(), b"1");
    assert_eq!(run_one(&second, &cache, "1", "t"), ["a skipped up to date"]);
    // What is at its place and is not what the stamp says comes again.
    fs::write(second.path("made"), "another").unwrap();
    assert_eq!(run_one(&second, &cache, "1", "t"), FROM_CACHE);
    assert_eq!(fs::read(second.path("made")).unwrap(), b"1");
}

#[test]
fn what_a_result_follows_from_is_what_it_is_found_by() {
    let results = Mutex::default();
    let first = Place::new();
    let cache = FakeCache::of(&first, &results);
    run_one(&first, &cache, "1", "t");
    for (input, tool) in [("2", "t"), ("1", "u")] {
        let other = Place::new();
        let cache = FakeCache::of(&other, &results);
        assert_eq!(run_one(&other, &cache, input, tool), RAN, "{input} {tool}");
    }
    let mut other = Place::new();
    other.stamps.cli_version = "2".into();
    assert_eq!(
        run_one(&other, &FakeCache::of(&other, &results), "1", "t"),
        RAN
    );
    let mut other = Place::new();
    other.stamps.target = "another".into();
    assert_eq!(
        run_one(&other, &FakeCache::of(&other, &results), "1", "t"),
        RAN
    );
}

#[test]
fn what_cannot_be_put_at_its_place_is_made() {
    let results = Mutex::default();
    let (first, second) = (Place::new(), Place::new());
    run_one(&first, &FakeCache::of(&first, &results), "1", "t");
    let cache = FakeCache {
        places: false,
        ..FakeCache::of(&second, &results)
    };
    assert_eq!(run_one(&second, &cache, "1", "t"), RAN);
}

#[test]
fn a_result_with_other_files_than_the_task_makes_is_refused() {
    let results: Mutex<BTreeMap<String, Kept>> = Mutex::default();
    let first = Place::new();
    run_one(&first, &FakeCache::of(&first, &results), "1", "t");
    let whole = results.lock().unwrap().values().next().unwrap().clone();
    let elsewhere = Kept {
        files: vec![("elsewhere".into(), b"x".to_vec())],
        ..whole.clone()
    };
    let of_another = Kept {
        digest: Digest::of(b"another"),
        ..whole.clone()
    };
    let another_form = Kept {
        output: Value::Null,
        ..whole
    };
    for wrong in [elsewhere, of_another, another_form] {
        for kept in results.lock().unwrap().values_mut() {
            *kept = wrong.clone();
        }
        let place = Place::new();
        let told = run_one(&place, &FakeCache::of(&place, &results), "1", "t");
        assert_eq!(
            told,
            [
                &[" because refused: it is not what this step makes"][..],
                &RAN
            ]
            .concat()
        );
        assert!(!place.path("elsewhere").exists());
    }
}

#[test]
fn what_is_not_shared_or_not_stamped_is_made_and_kept_here() {
    let results = Mutex::default();
    let mut place = Place::new();
    let cache = FakeCache::of(&place, &results);
    let mut graph = FakeGraph::new();
    graph.share(&cache);
    graph.add(Fake::new("a"));
    place.run(&graph).unwrap();
    assert_eq!(place.told(), RAN);
    place.stamps.enabled = false;
    let told = run_one(&place, &cache, "1", "t");
    assert_eq!(told, ["a running", "a success"]);
    assert!(results.lock().unwrap().is_empty());
}

#[test]
fn the_result_of_what_was_changed_meanwhile_goes_to_nobody() {
    let results = Mutex::default();
    let place = Place::new();
    let cache = FakeCache::of(&place, &results);
    let mut graph = FakeGraph::new();
    graph.share(&cache);
    graph.add(
        Fake::new("a")
            .consumes(|| "before".into())
            .tells_what_it_read()
            .shared_with("t")
            .work(|_| Ok("after".into())),
    );
    place.run(&graph).unwrap();
    assert!(results.lock().unwrap().is_empty());
}

/// A run of one task whose file is named by its output; what it told.
fn run_named(place: &Place, cache: &FakeCache<'_>, name: &'static str) -> Vec<String> {
    let directory = place.path("");
    let mut graph = FakeGraph::new();
    graph.share(cache);
    graph.add(
        Fake::new("a")
            .consumes(|| name.into())
            .names_its_file_below(&directory)
            .shared_with("t")
            .work(|_| {
                fs::write(directory.join(name), name).unwrap();
                Ok(name.into())
            }),
    );
    place.run(&graph).unwrap();
    place.told()
}

#[test]
fn a_result_that_leads_elsewhere_is_refused() {
    let results: Mutex<BTreeMap<String, Kept>> = Mutex::default();
    let first = Place::new();
    run_named(&first, &FakeCache::of(&first, &results), "made");
    for name in ["../outside", "x/../../outside", "..", "", ".", "/outside"] {
        for kept in results.lock().unwrap().values_mut() {
            *kept = Kept {
                output: name.into(),
                digest: Digest::of(name.as_bytes()),
                files: vec![(name.into(), b"x".to_vec())],
            };
        }
        let place = Place::new();
        let told = run_named(&place, &FakeCache::of(&place, &results), "made");
        let refused = " because refused: it is not what this step makes";
        assert_eq!(told, [&[refused][..], &RAN].concat(), "{name}");
        assert!(!place.path("../outside").exists(), "{name}");
    }
}

/// The earlier result has another name, and only its stamp knows that.
#[test]
fn nothing_of_an_earlier_result_stays_whatever_becomes_of_a_found_one() {
    for places in [true, false] {
        let results = Mutex::default();
        let (first, second) = (Place::new(), Place::new());
        run_named(&second, &FakeCache::of(&second, &results), "old");
        run_named(&first, &FakeCache::of(&first, &results), "new");
        let cache = FakeCache {
            places,
            ..FakeCache::of(&second, &results)
        };
        let told = run_named(&second, &cache, "new");
        let ran = ["a running its inputs changed", "a success"];
        assert_eq!(told, if places { &FROM_CACHE[..] } else { &ran });
        assert!(second.path("new").exists() && !second.path("old").exists());
    }
}

#[test]
fn what_a_found_result_left_goes_where_the_task_makes_another() {
    let results: Mutex<BTreeMap<String, Kept>> = Mutex::default();
    let (first, second) = (Place::new(), Place::new());
    run_named(&first, &FakeCache::of(&first, &results), "made");
    for kept in results.lock().unwrap().values_mut() {
        *kept = Kept {
            output: "of-another".into(),
            digest: Digest::of(b"of-another"),
            files: vec![("of-another".into(), b"x".to_vec())],
        };
    }
    let cache = FakeCache {
        places: false,
        ..FakeCache::of(&second, &results)
    };
    assert_eq!(run_named(&second, &cache, "made"), RAN);
    assert!(second.path("made").exists() && !second.path("of-another").exists());
}

/// What is wrong with what is shared fails no run.
#[test]
fn a_result_that_cannot_be_shared_or_restored_is_made() {
    let results = Mutex::default();
    let place = Place::new();
    let cache = FakeCache::of(&place, &results);
    let run = |fake: Fake<'_>| {
        let mut graph = FakeGraph::new();
        graph.share(&cache);
        graph.add(fake);
        place.run(&graph).unwrap();
        place.told()
    };
    let consumes = |input: &'static str| Fake::new("a").consumes(|| input.into());
    let told = run(consumes("1").shared_with("t").knows_no_environment());
    let warned = "a warns: the result of `a` is neither taken from the cache nor given to it: \
                  it broke: no tool";
    assert_eq!(told, [&[warned][..], &RAN].concat());
    assert!(results.lock().unwrap().is_empty());

    run(consumes("2").shared_with("t"));
    run(consumes("1"));
    let told = run(consumes("2").shared_with("t").cannot_be_restored());
    let refused = " because refused: it broke: no way";
    let ran = ["a running its inputs changed", "a success"];
    assert_eq!(told, [&[refused][..], &ran].concat());
}
