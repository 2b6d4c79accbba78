//! Earlier versions of the format.

use super::*;

#[test]
fn what_was_migrated_can_be_read_again() {
    let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    let mut deepest = 0;
    for n in 80..140 {
        let deep = nested(n);
        let text =
            format!(r#"{{"version": 1, "targets": {{"t": {{"runtimes/r": {{"x": {deep}}}}}}}}}"#);
        let dir = directory(&text);
        match LockFile::load(dir.path()) {
            Ok(mut lock) => {
                lock.save().unwrap();
                assert!(!LockFile::load(dir.path()).unwrap().save().unwrap());
                deepest = n;
            }
            Err(error) => {
                let said = chain(&error);
                assert!(said.contains("recursion limit exceeded"), "{said}");
                assert!(deepest >= 80, "{said}");
            }
        }
    }
}

#[test]
fn migrations() {
    let current = |target: Value| json!({"version": 7, "targets": {"t": target}});
    for (old, expected) in [
        (
            json!({"version": 1, "targets": {"t": {
                "sdk": {"gcc": "1"}, "sdk/x86_64": {"gcc": "1"},
                "rootfs": {"a": "1"}, "target-sysroot": {"s": "1"},
                "extensions/app": {"b": "1"}, "runtimes/dev": {"c": "1"}}}}),
            current(json!({"rootfs": {"a": "1"}, "target-sysroot": {"s": "1"},
                "extensions": {"app": {"packages": {"b": "1"}}},
                "runtimes": {"dev": {"packages": {"c": "1"}}}})),
        ),
        (
            json!({"version": 2, "targets": {"t": {
                "sdk": {"x86_64": {"gcc": "1"}},
                "extensions": {"app": {"b": "1"}},
                "fetched-extensions": {"bsp": {"avocado-bsp": "2"}, "app": {"app": "3"}},
                "runtimes": {"dev": {"c": "1"}}}}}),
            current(json!({"sdk": {"x86_64": {"gcc": "1"}},
                "extensions": {
                    "app": {"packages": {"b": "1"},
                            "source": {"type": "package", "package": "app", "version": "3"}},
                    "bsp": {"packages": {},
                            "source": {"type": "package", "package": "avocado-bsp", "version": "2"}}},
                "runtimes": {"dev": {"packages": {"c": "1"}}}})),
        ),
        (
            json!({"version": 3, "distro_release": "2024", "targets": {"t": {
                "extensions": {"app": {"packages": {"b": "1"}}}, "runtimes": {"dev": {"c": "1"}}}}}),
            json!({"version": 7, "distro_release": "2024", "targets": {"t": {
                "extensions": {"app": {"packages": {"b": "1"}}},
                "runtimes": {"dev": {"packages": {"c": "1"}}}}}}),
        ),
        (
            json!({"version": 4, "targets": {"t": {"kernel-versions": {"rootfs": "6.6"}}}}),
            current(json!({"kernel-versions": {"rootfs": "6.6"}})),
        ),
        (
            json!({"version": 5, "targets": {"t": {"runtimes": {"dev": {"c": "1"}}}}}),
            current(json!({"runtimes": {"dev": {"packages": {"c": "1"}}}})),
        ),
        (
            json!({"version": 6, "targets": {"t": {
                "runtimes": {"dev": {"packages": {"c": "1"}, "extensions": {"app": {}}}}}}}),
            current(
                json!({"runtimes": {"dev": {"packages": {"c": "1"}, "extensions": {"app": {}}}}}),
            ),
        ),
    ] {
        assert_eq!(rewritten(&old), expected, "{old}");
        // What was migrated stays.
        assert_eq!(rewritten(&expected), expected);
    }
}
