//! What both routes are told with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, cache_dir, static_binary};

use crate::{Arguments, Result};

/// Where both routes keep what they make.
pub(crate) struct Place {
    directory: PathBuf,
    pub(crate) feed: SampleFeed,
}

impl Place {
    /// With the sample feed, which is served.
    pub(crate) fn new(parts: &mut Parts) -> Result<Self> {
        let directory = cache_dir().join("quickstart");
        fs::create_dir_all(&directory)?;
        let feed = parts.part("the sample feed: two snapshots of RPM packages", || {
            let feed = cache_dir().join("feed");
            let feed = SampleFeed::ensure(&feed, &device_program()?, &cache_dir())?;
            println!("   served at {}", feed.url());
            Ok(feed)
        })?;
        Ok(Place { directory, feed })
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A project in this place, where an earlier run may have left something of it.
    pub(crate) fn project(&self, name: &str) -> Result<TestProject> {
        let project = TestProject::new(&self.at(name), &self.feed.url(), &self.at("signing-keys"))?;
        forget_another_feed(&self.feed, &self.at(&format!("{name}-feed-id")), &project)?;
        Ok(project)
    }
}

/// The program of the device as it is shipped: others that were built may be much slower.
fn device_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent);
    let shipped = target.map(|target| target.join("device/avocadoctl"));
    match shipped.filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Ok(static_binary("avocadoctl")?),
    }
}

/// What took how long.
pub(crate) struct Parts(Vec<(String, Duration)>);

impl Parts {
    /// Does one part of the story under its title.
    pub(crate) fn part<T>(&mut self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {title}");
        let start = Instant::now();
        let result = work();
        self.0.push((title.to_owned(), start.elapsed()));
        result
    }

    /// Begins with what was done before.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let seconds = Duration::from_secs;
        Parts(vec![
            (
                "tools and compilers".into(),
                seconds(arguments.setup_seconds),
            ),
            ("the programs".into(), seconds(arguments.build_seconds)),
        ])
    }

    /// Prints all of them.
    pub(crate) fn print(&self) {
        println!("\n{:<66} {:>9}", "PART", "TIME");
        for (title, time) in &self.0 {
            println!("{title:<66} {:>7.1} s", time.as_secs_f64());
        }
        let total: Duration = self.0.iter().map(|(_, time)| *time).sum();
        println!("{:<66} {:>7.1} s", "", total.as_secs_f64());
    }
}

/// Packages of a feed that was built anew may have the same versions and other contents: the
/// snapshots of the sample are only as frozen as its sources.
fn forget_another_feed(feed: &SampleFeed, known: &Path, project: &TestProject) -> Result<()> {
    let id = fs::read_to_string(feed.directory().join("feed-id"))?;
    if fs::read_to_string(known).is_ok_and(|old| old == id) {
        return Ok(());
    }
    if project.directory().exists() {
        fs::remove_dir_all(project.directory())?;
    }
    Ok(fs::write(known, id)?)
}

/// Copies a project. What an earlier run left in the copy, the lock and the built state, stays,
/// so that nothing is made twice.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let own = [".avocado", "avocado.lock"].iter().any(|own| name == **own);
        if own && to.join(&name).exists() {
            continue;
        }
        ToolCall::new("cp")
            .arg("-a")
            .arg(from.join(&name))
            .arg(to)
            .ok()?;
    }
    Ok(())
}

/// Runs `avocado` where the user can see it.
pub(crate) fn talk(project: &TestProject, arguments: &[&str]) -> Result<()> {
    let status = project.command(arguments).status()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("avocado {} ended with {status}", arguments.join(" ")).into())
}
