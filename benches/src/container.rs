//! Builds in containers beside those of this host, of the same project.

use std::path::Path;
use std::time::{Duration, Instant};

use avocado_serve::ServeOptions;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::sdk_image::SdkImage;
use avocado_testbed::tools::cache_dir;

use crate::failure::Failure;
use crate::stats::Sample;

const LIMIT: f64 = 1.3;

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== builds in containers beside those of this host, {rounds} rounds");
    let feed = SampleFeed::serve(ServeOptions::new(cache_dir().join("feed")))?;
    let image = SdkImage::ensure()?;
    let mut projects = Vec::new();
    for backend in ["host", "container"] {
        let place = directory.join(backend);
        std::fs::create_dir_all(&place).map_err(Failure::system("make a project"))?;
        let project = TestProject::new(&place, &feed.url(), &directory.join("keys"))?
            .with_env("CONTAINERS_CONF", image.configuration())
            .with_env("AVOCADO_SDK", backend);
        project.write("avocado.yaml", &configuration(image.name()))?;
        project.write("overlay/etc/app.conf", "0")?;
        project.avocado(&["build", "--no-var"]).ok()?;
        projects.push(project);
    }
    let builds: [(&str, &[&str]); 2] = [
        ("one line of an overlay", &["build", "--no-var"]),
        ("every step", &["--no-stamps", "build", "--no-var"]),
    ];
    for (what, arguments) in builds {
        let mut took = [const { Vec::new() }; 2];
        for round in 0..rounds {
            for (project, took) in projects.iter().zip(&mut took) {
                project.write("overlay/etc/app.conf", &format!("{what} {round}"))?;
                took.push(time(project, arguments)?);
            }
        }
        let [host, container] = took.map(|took| took.into_iter().collect::<Sample>());
        let ratio = container.ratio(&host);
        let verdict = if ratio <= LIMIT { "met" } else { "MISSED" };
        println!(
            "{what:<24} host {:>6.0} ms, container {:>6.0} ms: {ratio:.2} times ({verdict})",
            host.median().as_secs_f64() * 1e3,
            container.median().as_secs_f64() * 1e3,
        );
    }
    Ok(())
}

fn configuration(image: &str) -> String {
    format!(
        "default_target: qemux86-64\n\
         distro: {{release: '2024', channel: edge}}\n\
         sdk: {{image: '{image}', packages: {{avocado-sdk-toolchain: '*'}}}}\n\
         runtimes: {{dev: {{extensions: [app]}}}}\n\
         extensions:\n  app: {{version: 1.0.0, types: [sysext, confext], overlay: overlay}}\n"
    )
}

fn time(project: &TestProject, arguments: &[&str]) -> Result<Duration, Failure> {
    let begin = Instant::now();
    project.avocado(arguments).ok()?;
    Ok(begin.elapsed())
}
