//! The documents in `docs/` that follow from the program: `avocado schema` and
//! `avocado manual --markdown docs/reference` write them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Place;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn the_schema_in_the_repository_is_the_present_one() {
    let place = Place::new();
    let shown = place.run(&["schema"]).ok().stdout;
    let kept = fs::read_to_string(docs().join("avocado.schema.json")).unwrap();
    let how = "cargo run -p avocado -- schema >docs/avocado.schema.json";
    assert!(shown == kept, "the schema in docs/ is an old one: {how}");
}

#[test]
fn the_reference_in_the_repository_is_the_present_one() {
    let place = Place::new();
    place.run(&["manual", "--markdown", "reference"]).ok();
    let pages = |directory: &Path| -> BTreeMap<String, String> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        let page = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        };
        entries.map(page).collect()
    };
    let (made, kept) = (
        pages(&place.path("reference")),
        pages(&docs().join("reference")),
    );
    let names = made.keys().chain(kept.keys());
    let differ: Vec<&String> = names
        .filter(|name| made.get(*name) != kept.get(*name))
        .collect();
    let how = "cargo run -p avocado -- manual --markdown docs/reference";
    assert!(
        differ.is_empty(),
        "{differ:?} in docs/reference are old: {how}"
    );
}
