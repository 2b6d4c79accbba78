//! 20 extensions on two processors beside one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use avocado_serve::ServeOptions;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, cache_dir};

use crate::failure::Failure;
use crate::image::content;
use crate::stats::Sample;

const EXTENSIONS: usize = 20;
const TARGET: f64 = 1.7;

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== {EXTENSIONS} extensions on 2 processors and on 1, {rounds} rounds");
    let feed = SampleFeed::serve(ServeOptions::new(cache_dir().join("feed")))?;
    fs::create_dir_all(directory).map_err(Failure::system("make a project"))?;
    let project = TestProject::new(directory, &feed.url(), &directory.join("keys"))?;
    let mut yaml = "default_target: qemux86-64\n\
         distro: {release: '2024', channel: edge}\nextensions:\n"
        .to_owned();
    for n in 0..EXTENSIONS {
        let _ = writeln!(
            yaml,
            "  ext-{n}: {{version: 1.0.0, types: [sysext], overlay: overlay/{n}, filesystem: squashfs}}"
        );
        for file in 0..4 {
            let text = content(n * 4 + file, 1 << 20);
            let text = String::from_utf8_lossy(&text).into_owned();
            project.write(&format!("overlay/{n}/usr/share/ext-{n}/{file}"), &text)?;
        }
    }
    project.write("avocado.yaml", &yaml)?;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (processors, jobs, took) in [("0", "1", &mut one), ("0,1", "2", &mut two)] {
            let project = project.clone().with_env("AVOCADO_PARALLEL_TASKS", jobs);
            project.avocado(&["clean"]).ok()?;
            let command = project.command(&["ext", "image"]);
            let call = ToolCall::new("taskset").args(["-c", processors]);
            let call = call.arg(command.get_program()).args(command.get_args());
            let call = command
                .get_envs()
                .fold(call.clear_env(), |call, (name, value)| {
                    call.env(name, value.unwrap_or_default())
                });
            let begin = Instant::now();
            call.directory(directory).ok()?;
            took.push(begin.elapsed());
        }
    }
    let one: Sample = one.into_iter().collect();
    let two: Sample = two.into_iter().collect();
    let ratio = one.ratio(&two);
    let verdict = if ratio >= TARGET { "met" } else { "MISSED" };
    println!(
        "one {:.2} s, two {:.2} s: {ratio:.2} times as fast ({verdict}); only a machine that does nothing else can tell",
        one.median().as_secs_f64(),
        two.median().as_secs_f64(),
    );
    Ok(())
}
