use proptest::prelude::*;
use serde_json::json;

use std::path::PathBuf;

use serde_json::Value;

use super::document::ConfigDocument;
use super::*;
use crate::error::VmError;

const SAMPLE: &str = "\
# ours
runtime:
  cpus: 2 # two
  future: {deep: [1, ~]}

network:
  dns: # at home
    - 192.0.2.1
desktop:
  theme: dark
";

struct Place(tempfile::TempDir);

impl Place {
    fn with(text: &str) -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::write(place.path(), text).unwrap();
        place
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("config.yaml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn set(&self, key: &str, words: &[&str]) -> Result<Value, String> {
        let words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
        VmConfigFile::set(&self.path(), key, &words).map_err(chain)
    }
}

fn chain(error: VmError) -> String {
    let source = std::error::Error::source(&error).map(|e| format!(": {e}"));
    let file = error.to_string();
    let name = file.rsplit('/').next().unwrap_or_default();
    format!("{name}{}", source.unwrap_or_default())
}

#[test]
fn a_missing_file_is_empty_and_is_made_by_the_first_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm/config.yaml");
    assert_eq!(
        VmConfigFile::load(&path).unwrap().config(),
        &VmConfig::default()
    );
    assert!(!VmConfigFile::unset(&path, "runtime.cpus").unwrap());
    assert!(!path.exists());
    VmConfigFile::set(&path, "runtime.cpus", &["3".into()]).unwrap();
    let file = VmConfigFile::load(&path).unwrap();
    assert_eq!(file.config().cpus, Some(3));
    assert_eq!(file.list(), [("runtime.cpus".to_owned(), &json!(3))]);
}

#[test]
fn every_key_has_a_default_that_it_takes() {
    for key in KEYS {
        let Some(default) = default_of(key) else {
            assert!(key.starts_with("network."), "{key} has no default");
            continue;
        };
        let place = Place::with("");
        assert_eq!(place.set(key, &[&default.to_string()]).unwrap(), default);
    }
}

#[test]
fn a_change_leaves_the_rest_as_it_is() {
    let place = Place::with(SAMPLE);
    place.set("runtime.cpus", &["8"]).unwrap();
    place.set("runtime.memory_mib", &["2048"]).unwrap();
    place
        .set("network.dns", &["9.9.9.9", "2620:fe::fe"])
        .unwrap();
    place.set("idle.containers_keep_awake", &["true"]).unwrap();
    let expected = "\
# ours
runtime:
  cpus: 8 # two
  future: {deep: [1, ~]}
  memory_mib: 2048

network:
  dns: # at home
    - 9.9.9.9
    - 2620:fe::fe
desktop:
  theme: dark
idle:
  containers_keep_awake: true
";
    let text = place.text();
    // How the list is written is the editor's choice; what it says and what is around it is not.
    assert_eq!(
        ConfigDocument::parse(text.clone()).unwrap().tree(),
        ConfigDocument::parse(expected.into()).unwrap().tree()
    );
    for line in [
        "# ours",
        "  cpus: 8 # two",
        "  future: {deep: [1, ~]}",
        "  theme: dark",
    ] {
        assert!(
            text.lines().any(|l| l == line),
            "{line} is gone from\n{text}"
        );
    }
    for key in ["runtime.memory_mib", "idle.containers_keep_awake"] {
        assert!(VmConfigFile::unset(&place.path(), key).unwrap());
        assert!(!VmConfigFile::unset(&place.path(), key).unwrap());
    }
    assert!(
        place
            .text()
            .contains("  cpus: 8 # two\n  future: {deep: [1, ~]}\n")
    );
}

#[test]
fn a_map_goes_with_its_last_key() {
    for (text, key, expected) in [
        ("a:\n  b: 1\nc: 2\n", "a.b", json!({"c": 2})),
        ("c: 2\na:\n  b:\n    d: 1\n", "a.b.d", json!({"c": 2})),
        ("a: {b: {d: 1}, e: ~}\n", "a.b.d", json!({"a": {"e": null}})),
        (
            "a: {b: {d: 1, e: 2}}\n",
            "a.b.d",
            json!({"a": {"b": {"e": 2}}}),
        ),
        ("a:\n  # why\n  b: 1\n", "a.b", json!({})),
        ("a: 1\n", "a", json!({})),
        // What was empty before is not ours to remove.
        ("a: {}\nb: {c: 1}\n", "b.c", json!({"a": {}})),
    ] {
        let place = Place::with(text);
        assert!(VmConfigFile::unset(&place.path(), key).unwrap(), "{text}");
        let file = VmConfigFile::load(&place.path()).unwrap();
        assert_eq!(file.tree(), &expected, "{text}became\n{}", place.text());
        assert!(!VmConfigFile::unset(&place.path(), key).unwrap(), "{text}");
    }
}

#[test]
fn what_was_typed_becomes_what_the_key_takes() {
    let place = Place::with("");
    for (key, words, value) in [
        ("runtime.cpus", &["4"][..], json!(4)),
        ("idle.containers_keep_awake", &["false"], json!(false)),
        ("network.dns", &["1.1.1.1"], json!(["1.1.1.1"])),
        (
            "network.dns",
            &["[1.1.1.1, 8.8.8.8]"],
            json!(["1.1.1.1", "8.8.8.8"]),
        ),
        (
            "network.dns",
            &["1.1.1.1", "8.8.8.8"],
            json!(["1.1.1.1", "8.8.8.8"]),
        ),
        ("network.dns_search", &["7"], json!(["7"])),
        ("network.dns_search", &["~."], json!(["~."])),
        ("desktop.theme", &["dark"], json!("dark")),
        ("desktop.scale", &["1.5"], json!(1.5)),
        ("desktop.many", &["a", "2"], json!(["a", 2])),
        ("desktop.text", &["a: b"], json!("a: b")),
        ("desktop.yes", &["yes"], json!("yes")),
        ("idle.hibernate_after_secs", &["0"], json!(0)),
    ] {
        assert_eq!(place.set(key, words).unwrap(), value, "{key} {words:?}");
        let file = VmConfigFile::load(&place.path()).unwrap();
        assert_eq!(
            file.get(key).unwrap(),
            Some(&value),
            "{key}\n{}",
            place.text()
        );
    }
}

#[test]
fn a_refused_change_leaves_the_file_untouched() {
    let place = Place::with(SAMPLE);
    for (key, words, message) in [
        (
            "runtime.cpus",
            &["many"][..],
            "config.yaml: `runtime.cpus` is `many`, not a whole number from 1 to 1024",
        ),
        (
            "runtime.cpus",
            &["0"],
            "config.yaml: `runtime.cpus` is `0`, not a whole number from 1 to 1024",
        ),
        (
            "runtime.cpus",
            &["1", "2"],
            "config.yaml: `runtime.cpus` is `[1,2]`, not a whole number from 1 to 1024",
        ),
        (
            "network.dns",
            &["home"],
            "config.yaml: `network.dns` is `home`, not a list of IP addresses",
        ),
        (
            "network.dns_search",
            &["a b"],
            "config.yaml: `network.dns_search` is `a b`, not a list of domains",
        ),
        (
            "runtime",
            &["5"],
            "config.yaml: `runtime` is `5`, not a map",
        ),
        (
            "runtime.cpus.x",
            &["5"],
            "config.yaml: `runtime.cpus` is set to a value, not a map",
        ),
        (
            "runtime..cpus",
            &["5"],
            "config.yaml: `runtime..cpus` is no key: write words with dots between them, such as `idle.hibernate_after_secs`",
        ),
        (
            "a[0]",
            &["5"],
            "config.yaml: `a[0]` is no key: write words with dots between them, such as `idle.hibernate_after_secs`",
        ),
    ] {
        assert_eq!(place.set(key, words).unwrap_err(), message);
        assert_eq!(place.text(), SAMPLE);
    }
}

#[test]
fn a_bad_file_is_named_with_its_key() {
    for (text, message) in [
        (
            "runtime: {cpus: a lot}\n",
            "`runtime.cpus` is `a lot`, not a whole number from 1 to 1024",
        ),
        ("runtime: 5\n", "`runtime` is `5`, not a map"),
        (
            "- 1\n",
            "this is not valid YAML: the whole file has to be a map",
        ),
        (
            "a: 1\n---\nb: 1\n",
            "this is not valid YAML: there is a second document",
        ),
        (
            "idle:\n  containers_keep_awake: 'true'\n",
            "`idle.containers_keep_awake` is `true`, not true or false",
        ),
    ] {
        let place = Place::with(text);
        let error = VmConfigFile::load(&place.path())
            .map_err(chain)
            .unwrap_err();
        assert_eq!(error, format!("config.yaml: {message}"));
    }
    for text in ["a: [\n", "a: \"x\n", "a: 1\na: 2\n", &"[".repeat(100_000)] {
        let place = Place::with(text);
        let error = VmConfigFile::load(&place.path())
            .map_err(chain)
            .unwrap_err();
        assert!(
            error.starts_with("config.yaml: this is not valid YAML: "),
            "{error}"
        );
    }
}

#[test]
fn comments_alone_are_kept() {
    for text in [
        "# nothing yet",
        "# one\n\n# two\n",
        "---\n",
        "runtime:\n",
        "{}\n",
    ] {
        let place = Place::with(text);
        place.set("runtime.cpus", &["4"]).unwrap();
        let changed = place.text();
        let file = VmConfigFile::load(&place.path()).unwrap();
        assert_eq!(file.config().cpus, Some(4), "{changed}");
        for comment in text.lines().filter(|line| line.starts_with('#')) {
            assert!(changed.contains(comment), "{changed}");
        }
    }
}

#[test]
fn changes_at_the_same_time_all_arrive() {
    let place = Place::with(SAMPLE);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let place = &place;
            scope.spawn(move || place.set(&format!("desktop.k{n}"), &["1"]).unwrap());
        }
    });
    let file = VmConfigFile::load(&place.path()).unwrap();
    for n in 0..8 {
        assert!(file.get(&format!("desktop.k{n}")).unwrap().is_some(), "{n}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-c:\\-\\[\\]{}#'\"~&*!|>0-9 \n\t,.]{0,60}") {
        if let Ok(document) = ConfigDocument::parse(text) {
            _ = schema::decode(document.tree());
            if let Ok(changed) = document.set(&["a", "b"], &json!(["x", 1])) {
                prop_assert_eq!(&changed.tree()["a"]["b"], &json!(["x", 1]));
            }
            _ = document.remove(&["a"]);
        }
    }

    #[test]
    fn any_word_comes_back(word in "\\PC{0,30}") {
        let place = Place::with(SAMPLE);
        let value = place.set("desktop.word", &[&word]).unwrap();
        let file = VmConfigFile::load(&place.path()).unwrap();
        prop_assert_eq!(file.get("desktop.word").unwrap().unwrap_or(&Value::Null), &value);
    }
}
