use std::fs;
use std::path::{Path, PathBuf};

use avocado_test_support::skip;

use crate::Place;

/// Where projects that people have are, beside this repository.
fn shared_projects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/projects")
}

/// The targets that a project is for, by its text alone; a common one where it is for all.
fn targets(text: &str) -> Vec<String> {
    let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let mut lines = text.lines();
    let mut targets: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("default_target:"))
        .map(unquoted)
        .collect();
    let listed = lines.find_map(|line| line.strip_prefix("supported_targets:"));
    let listed = listed.map(str::trim).unwrap_or_default();
    if let Some(inline) = listed.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
        targets.extend(inline.split(',').map(unquoted));
    } else if listed.is_empty() {
        let items = lines.map_while(|line| line.trim_start().strip_prefix("- "));
        targets.extend(items.map(unquoted));
    }
    if targets.is_empty() {
        targets.push("qemux86-64".to_owned());
    }
    targets.sort();
    targets.dedup();
    targets
}

#[test]
fn what_people_have_is_read() {
    let Ok(projects) = fs::read_dir(shared_projects()) else {
        let place = shared_projects();
        skip(
            "public_projects",
            format!("{} is not there", place.display()),
        );
        return;
    };
    let place = Place::new();
    let mut read = 0;
    for project in projects {
        let config = project.unwrap().path().join("avocado.yaml");
        let Ok(text) = fs::read_to_string(&config) else {
            continue;
        };
        let config = config.to_str().unwrap();
        for target in targets(&text) {
            let args = ["-C", config, "-t", &target, "ext", "list"];
            let listed = place.run(&args).ok();
            let names = listed.stdout.lines().count();
            assert!(names > 1, "{config} for {target}: {}", listed.stdout);
            // Nothing in them is a typo.
            assert!(!listed.stderr.contains("unknown key"), "{}", listed.stderr);
            for name in ["avocado-ext-dev", "avocado-ext-sshd-dev"] {
                if text.contains(&format!("  {name}:\n    source:")) {
                    let is_it = |line: &&str| line.starts_with(&format!("{name} "));
                    let line = listed.stdout.lines().find(is_it).unwrap_or_default();
                    assert!(line.contains("(not fetched)"), "{config}: {line}");
                }
            }
        }
        read += 1;
    }
    assert!(read >= 28, "{read} projects");
}
