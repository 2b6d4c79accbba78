//! What is told of a runtime, and a build that does not publish one of which something is.

use avocado_events::{Cancel, Silent};

use super::fake_backend::FakeBackend;
use super::graphs::HELLO;
use super::test_project::TestProject;
use crate::error::BuildError;
use crate::goal::Goal;
use crate::run::{Report, run_with};

fn build(project: &TestProject, findings: &'static [&'static str]) -> Result<Report, BuildError> {
    let mut backend = Box::new(FakeBackend::new(&project.options.project));
    backend.findings = findings;
    let goal = Goal::Build {
        runtime: None,
        var: true,
    };
    run_with(&project.options, backend, &goal, &Cancel::new(), &Silent)
}

#[test]
fn a_strict_build_publishes_nothing_of_which_there_is_something_to_tell() {
    let mut project = TestProject::new(HELLO);
    project.options.strict = true;
    let published = project
        .path(".avocado/state/qemux86-64/output/runtimes/dev/repository/metadata/timestamp.json");
    let told: &[&str] = &["`a` hides /usr/bin/x", "`b` has /srv/y"];
    // The second time nothing but the publication is left to do.
    for _ in 0..2 {
        let error = build(&project, told).unwrap_err().to_string();
        assert!(!published.exists());
        let error = format!("{error} {}", source_of(&build(&project, told).unwrap_err()));
        assert!(
            error.contains("`a` hides /usr/bin/x\n`b` has /srv/y"),
            "{error}"
        );
    }
    project.options.strict = false;
    build(&project, told).unwrap();
    assert!(published.exists());
    // What is up to date is judged as well.
    project.options.strict = true;
    build(&project, told).unwrap_err();
}

#[test]
fn a_strict_build_of_which_there_is_nothing_to_tell_is_like_any_other() {
    let mut project = TestProject::new(HELLO);
    build(&project, &[]).unwrap();
    project.options.strict = true;
    assert!(build(&project, &[]).unwrap().ran.is_empty());
}

fn source_of(error: &BuildError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}
