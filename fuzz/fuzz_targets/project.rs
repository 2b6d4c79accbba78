//! avocado.yaml: a project or diagnostics with places that exist.
#![no_main]

use std::fs;

use avocado_fuzz::{scratch, told};
use avocado_project::{LoadOptions, ProjectError, Severity, load};
use libfuzzer_sys::fuzz_target;

fn variable(name: &str) -> Option<String> {
    match name {
        "X" => Some("x".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let place = scratch();
    let config = place.join("avocado.yaml");
    fs::write(&config, bytes).unwrap();
    // YAML ends lines with a lone carriage return as well.
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    for target in [None, Some("qemux86-64")] {
        let found = match load(&LoadOptions {
            text: None,
            config: &config,
            target,
            env: &variable,
            cli_version: "0.41.0",
        }) {
            Ok(loaded) => {
                // The whole of it can be looked at.
                assert!(!format!("{:?}", loaded.project).is_empty());
                assert!(
                    loaded
                        .warnings
                        .iter()
                        .all(|d| d.severity == Severity::Warning)
                );
                loaded.warnings
            }
            Err(ProjectError::Invalid { diagnostics }) => {
                assert!(diagnostics.iter().any(|d| d.severity == Severity::Error));
                diagnostics
            }
            Err(error) => panic!("{}", told(&error)),
        };
        for diagnostic in found {
            assert!(diagnostic.line as usize <= lines + 1, "{diagnostic}");
            assert!(!diagnostic.render().is_empty());
        }
    }
});
