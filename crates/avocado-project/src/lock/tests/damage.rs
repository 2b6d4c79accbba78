//! Files that cannot be used.

use super::*;

#[test]
fn damage_is_named() {
    for (text, expected) in [
        (
            "{\n \"version\": 7,\n oops\n}",
            "avocado.lock:3:2: the lock file is damaged: it is not JSON",
        ),
        (
            "",
            "avocado.lock:1:1: the lock file is damaged: it is not JSON",
        ),
        (
            "[]",
            "damaged at `the document`; … invalid type: sequence, expected a map",
        ),
        ("{}", "`version` is not a version number"),
        ("{\"version\": \"7\"}", "`version` is not a version number"),
        ("{\"version\": 0}", "`version` is not a version number"),
        (
            "{\"version\": 8}",
            "has lock version 8, and this program knows versions up to 7; use a newer avocado",
        ),
        (
            "{\"version\": 7, \"targets\": []}",
            "damaged at `targets`; … invalid type: sequence, expected a map",
        ),
        (
            "{\"version\": 7, \"targets\": {\"t\": {\"rootfs\": {\"a\": 1}}}}",
            "damaged at `targets.t.rootfs.a`; … invalid type: integer `1`, expected a string",
        ),
        (
            "{\"version\": 6, \"targets\": {\"t\": {\"runtimes\": {\"r\": {\"packages\": []}}}}}",
            "damaged at `targets.t.runtimes.r.packages`; … invalid type: sequence, expected a map",
        ),
        (
            "{\"version\": 7, \"targets\": {\"t\": {\"package-headers\": {\"rootfs\": {\"a\": \"1\"}}}}}",
            "damaged at `targets.t.package-headers.rootfs.a`; … invalid type: string",
        ),
        (
            "{\"version\": 7, \"targets\": {\"t\": {\"repo-snapshot\": {\"release\": \"r\"}}}}",
            "damaged at `targets.t.repo-snapshot`; … missing field `channel`",
        ),
    ] {
        let said = chain(&error(text));
        // What is to be done stands between the place and the cause.
        for part in expected.split(" … ") {
            assert!(said.contains(part), "{text}\n{said}");
        }
    }
}

#[test]
fn the_marks_of_a_merge_are_told_as_such() {
    let text = "{\n  \"version\": 7,\n<<<<<<< HEAD\n  \"targets\": {}\n=======\n  \"targets\": {\"t\": {}}\n\
                >>>>>>> other\n}\n";
    let error = error(text);
    assert!(
        matches!(&error, LockFileError::MergeConflict { line: 3, .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(
        said.contains("avocado.lock:3:1: ") && said.contains("--theirs"),
        "{said}"
    );
    // Half of a choice.
    let error = self::error("{\"version\": 7}\n>>>>>>> other\n");
    assert!(
        matches!(&error, LockFileError::MergeConflict { line: 2, .. }),
        "{error:?}"
    );
    let error = self::error("{\"version\": 7,\n \"x\": \"\n=======\"}\n");
    assert!(
        matches!(&error, LockFileError::MergeConflict { .. }),
        "{error:?}"
    );
    // Text is text.
    let dir = directory("{\"version\": 7, \"note\": \"<<<<<<< HEAD\"}");
    LockFile::load(dir.path()).unwrap();
}
