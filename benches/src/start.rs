//! What every command begins with: being started, and reading and resolving the project. Beside
//! `git --version`, in time of processors.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use avocado_testbed::project::TestProject;
use avocado_testbed::tools::ToolCall;

use crate::cpu_time;
use crate::failure::Failure;

const RUNS: u32 = 100;
const LINES: usize = 2000;
const LIMIT: Duration = Duration::from_millis(10);

pub(crate) fn measure(directory: &Path) -> Result<(), Failure> {
    println!(
        "\n== starting, and reading a project of {LINES} lines; {RUNS} runs, user and system time"
    );
    fs::create_dir_all(directory).map_err(Failure::system("make a project"))?;
    let project = TestProject::new(directory, "http://127.0.0.1:9", &directory.join("keys"))?;
    project.write("avocado.yaml", &yaml())?;
    let peer = cpu_time::of_each(RUNS, || ToolCall::new("git").arg("--version"))?;
    for (what, arguments) in [
        ("--help", &["--help"][..]),
        ("config check", &["config", "check"]),
    ] {
        let ours = cpu_time::of_each(RUNS, || project.avocado(arguments))?;
        println!(
            "{what:>14}  {:.1} ms, git --version {:.1} ms: {:.1} times ({})",
            ours.as_secs_f64() * 1e3,
            peer.as_secs_f64() * 1e3,
            ours.as_secs_f64() / peer.as_secs_f64().max(1e-4),
            if ours <= LIMIT { "met" } else { "MISSED" },
        );
    }
    Ok(())
}

/// A project in which every extension has templates, packages and an override.
fn yaml() -> String {
    let mut yaml = "default_target: qemux86-64\nsupported_targets: [qemux86-64, other]\n\
                    distro: {release: '2024', channel: edge}\nextensions:\n"
        .to_owned();
    let mut number = 0;
    while yaml.lines().count() < LINES {
        let _ = write!(
            yaml,
            "  ext-{number}:\n    version: 1.0.{number}\n    types: [sysext, confext]\n    packages:\n      \
             a-{number}: '*'\n      b: '{{{{ avocado.target }}}}-1'\n    enable_services: [a.service]\n    \
             target-other:\n      packages:\n        c: '*'\n"
        );
        number += 1;
    }
    yaml
}
