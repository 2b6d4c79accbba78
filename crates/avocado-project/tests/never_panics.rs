//! Whatever avocado.yaml and the lock file hold, the answer is a project or an error.

mod common;

use avocado_project::{LockFile, ProjectError};
use common::Site;
use proptest::prelude::*;

const SAMPLE: &str = r#"cli_requirement: ">=0.41.0"
distro: {release: 2024, channel: edge}
base: &base {version: 0.1.0, packages: {curl: "*"}}
extensions:
  "app-{{ avocado.target }}":
    <<: *base
    overlay: {dir: overlay, mode: merge}
    on_merge: ["echo {{ env.X }}", 'b']
    target-qemux86-64:
      var_files: [var/lib/**]
runtimes:
  dev:
    extensions: [app-qemux86-64, {x: {enabled: false}}]
    version: "{{ config.distro.release }}"
permissions:
  users: {root: {uid: 0, password: ''}}
  groups: [{name: g, gid: 0x10}]
rootfs:
  permissions: default
text: |
  {{ avocado.runtime }}
  ü
"#;

const LOCK: &str = r#"{"version": 7, "distro_release": "2024", "targets": {"t": {
 "sdk": {"x86_64": {"a": "1"}}, "rootfs": {"b": "2"}, "extensions": {"e": {"packages": {"c": "3"}}},
 "repo-snapshot": {"release": "2024", "channel": "edge", "snapshot": "s"}}}}"#;

/// Pieces that mean something to YAML or to templates.
const PIECES: [&str; 31] = [
    "{{", "}}", "{", "}", "[", "]", ": ", ":", "- ", "? ", "\n", "\n  ", "\n\t", "&a ", "*a",
    "*base", "<<: ", "!t ", "\"", "'", "|", ">-\n", "---\n", "#", "%", "~", "\u{feff}", "ü", "\0",
    "\r", "target-x",
];

/// What a reader's answer must be: diagnostics have places that exist.
fn check(site: &Site, yaml: &[u8]) -> Result<(), TestCaseError> {
    let lines = yaml.split(|b| matches!(b, b'\n' | b'\r')).count();
    let found = match site.load(yaml) {
        Ok(loaded) => loaded.warnings,
        Err(ProjectError::Invalid { diagnostics }) => {
            prop_assert!(
                diagnostics
                    .iter()
                    .any(|d| d.severity == avocado_project::Severity::Error)
            );
            diagnostics
        }
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    };
    for diagnostic in found {
        prop_assert!(diagnostic.line as usize <= lines + 1, "{}", diagnostic);
        prop_assert!(!diagnostic.render().is_empty());
    }
    Ok(())
}

/// `text` with `piece` in place of `len` characters at `at`.
fn mutate(text: &str, edits: &[(prop::sample::Index, usize, usize)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, len, piece) in edits {
        let at = at.index(chars.len() + 1);
        let end = (at + len).min(chars.len());
        chars.splice(at..end, PIECES[piece % PIECES.len()].chars());
    }
    chars.into_iter().collect()
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, usize)>> {
    prop::collection::vec(
        (any::<prop::sample::Index>(), 0..6_usize, 0..PIECES.len()),
        1..6,
    )
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&Site::new(), &bytes)?;
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = pieces.into_iter().map(|p| PIECES[p]).collect();
        check(&Site::new(), text.as_bytes())?;
    }

    #[test]
    fn a_changed_project(edits in edits()) {
        check(&Site::new(), mutate(SAMPLE, &edits).as_bytes())?;
    }

    #[test]
    fn a_changed_lock(edits in edits()) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("avocado.lock"), mutate(LOCK, &edits)).unwrap();
        if let Ok(mut lock) = LockFile::load(dir.path()) {
            lock.save().unwrap();
            LockFile::load(dir.path()).unwrap();
        }
    }
}

#[test]
fn the_samples_are_good() {
    let loaded = Site::new().load(SAMPLE);
    // `x` is not an extension: that is the only thing wrong.
    let error = loaded.unwrap_err();
    let errors = error.to_string();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("`x` does not exist"), "{errors}");
}
