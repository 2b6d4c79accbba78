//! `ext image` beside mksquashfs with the same arguments on the same tree, in time of processors.

use std::fs;
use std::path::Path;
use std::time::Duration;

use avocado_serve::ServeOptions;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, cache_dir};

use crate::cpu_time;
use crate::failure::Failure;
use crate::stats::Sample;

/// How many directories with how many files, of how many bytes.
const TREES: [(usize, usize, usize); 3] = [(1, 20, 1000), (4, 8, 1 << 20), (250, 200, 2000)];
const LIMIT: f64 = 1.05;

pub(crate) fn measure(directory: &Path, rounds: usize) -> Result<(), Failure> {
    println!("\n== ext image, {rounds} rounds, user and system time");
    let feed = SampleFeed::serve(ServeOptions::new(cache_dir().join("feed")))?;
    for (directories, files, bytes) in TREES {
        let place = directory.join((directories * files).to_string());
        let project = project(&place, &feed, &directory.join("keys"))?;
        for number in 0..directories {
            let below = place.join(format!("overlay/usr/share/app/{number}"));
            fs::create_dir_all(&below).map_err(Failure::system("make an overlay"))?;
            for file in 0..files {
                let content = content(number * files + file, bytes);
                fs::write(below.join(file.to_string()), content)
                    .map_err(Failure::system("make an overlay"))?;
            }
        }
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            // Another format, and back: the image alone is made.
            write_config(&project, "erofs")?;
            project.avocado(&["ext", "image", "app"]).ok()?;
            write_config(&project, "squashfs")?;
            ours.push(cpu_time::of(project.avocado(&["ext", "image", "app"]))?);
            peer.push(cpu_time::of(bare(&project, &place))?);
        }
        let made = fs::read(project.state().join("output/extensions/app-1.0.0.raw"));
        let same = made.ok() == fs::read(place.join("bare.raw")).ok();
        if !same {
            return Err(Failure::Wrong("the images are not the same".into()));
        }
        let ours: Sample = ours.into_iter().collect();
        let peer: Sample = peer.into_iter().collect();
        let ratio = ours.ratio(&peer);
        let more = ours.median().saturating_sub(peer.median());
        let verdict = if ratio <= LIMIT { "met" } else { "MISSED" };
        println!(
            "{:>6} files of {bytes} bytes: {:.2} s, mksquashfs {:.2} s: {ratio:.2} times, {} ms more ({verdict})",
            directories * files,
            ours.median().as_secs_f64(),
            peer.median().as_secs_f64(),
            Duration::as_millis(&more),
        );
    }
    Ok(())
}

/// The arguments of `images/squashfs.rs`.
fn bare(project: &TestProject, place: &Path) -> ToolCall {
    ToolCall::new("mksquashfs")
        .arg(project.state().join("extensions/app"))
        .arg(place.join("bare.raw"))
        .args(["-noappend", "-no-xattrs", "-no-sparse", "-all-root"])
        .args(["-reproducible", "-no-progress", "-quiet", "-mkfs-time", "0"])
}

fn project(place: &Path, feed: &SampleFeed, keys: &Path) -> Result<TestProject, Failure> {
    fs::create_dir_all(place).map_err(Failure::system("make a project"))?;
    Ok(TestProject::new(place, &feed.url(), keys)?)
}

fn write_config(project: &TestProject, filesystem: &str) -> Result<(), Failure> {
    let yaml = format!(
        "default_target: qemux86-64\ndistro: {{release: '2024', channel: edge}}\n\
         extensions:\n  app: {{version: 1.0.0, types: [sysext], overlay: overlay, filesystem: {filesystem}}}\n"
    );
    Ok(project.write("avocado.yaml", &yaml)?)
}

/// Text that compresses as text does, another one for each file.
pub(crate) fn content(seed: usize, bytes: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let mut text = Vec::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        text.extend_from_slice(format!("{:x} ", state >> 36).as_bytes());
    }
    text.truncate(bytes);
    text
}
