//! Adding a runtime, beside the least that the same bytes cost with the usual tools.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_testbed::agent::DeviceAgent;
use avocado_testbed::kernel::ProcessIo;
use avocado_testbed::published::PublishedRepository;
use avocado_testbed::tools::find;

use crate::failure::Failure;
use crate::stats::Sample;
use crate::watched_run::WatchedRun;

/// A pipeline that ends with a program that prints a digest.
struct Peer {
    name: &'static str,
    digest: &'static [&'static str],
}

/// The first is the one that a target is stated against. The second has a hash that uses the
/// instructions that the CPU has for it, as ours does.
const PEERS: [Peer; 2] = [
    Peer {
        name: "curl | tee FILE | sha256sum, then sync FILE",
        digest: &["sha256sum"],
    },
    Peer {
        name: "curl | tee FILE | openssl dgst, then sync FILE",
        digest: &["openssl", "dgst", "-sha256", "-r"],
    },
];

/// The target, as a multiple of the first peer's time.
const TARGET: f64 = 1.0;

pub(crate) fn measure(
    program: &Path,
    directory: &Path,
    size: u64,
    rounds: usize,
) -> Result<(), Failure> {
    println!(
        "\n== runtime add, one image of {} MiB, {rounds} rounds",
        size >> 20
    );
    let published = PublishedRepository::create(&directory.join("published"), size)?;
    let server = TestServer::start(ServeOptions::new(&published.directory))?;
    let bench = Bench {
        program,
        directory,
        published: &published,
        url: server.url(),
    };
    let there = |peer: &&Peer| peer.digest.first().is_some_and(|p| find(p).is_some());
    let mut peers: Vec<_> = PEERS
        .iter()
        .filter(there)
        .map(|p| (p, Vec::new()))
        .collect();
    // Once for the page cache, and to see that all of them work.
    bench.ours()?;
    for (peer, _) in &peers {
        bench.peer(peer)?;
    }

    let mut ours = Vec::new();
    let mut cost = Cost::default();
    for round in 0..rounds {
        // In turns, and each of them first as often as last.
        let add = |ours: &mut Vec<Duration>, cost: &mut Cost| -> Result<(), Failure> {
            let before = sent(&server);
            let (time, own) = bench.ours()?;
            ours.push(time);
            *cost = Cost {
                sent: sent(&server) - before,
                ..own
            };
            Ok(())
        };
        if round % 2 == 0 {
            add(&mut ours, &mut cost)?;
        }
        for (peer, times) in &mut peers {
            times.push(bench.peer(peer)?);
        }
        if round % 2 == 1 {
            add(&mut ours, &mut cost)?;
        }
    }

    let ours: Sample = ours.into_iter().collect();
    println!("avocadoctl runtime add                          {ours}");
    for (index, (peer, times)) in peers.into_iter().enumerate() {
        let times: Sample = times.into_iter().collect();
        let ratio = ours.ratio(&times);
        println!("{:<47} {times}", peer.name);
        let verdict = match (index, ratio <= TARGET) {
            (0, true) => format!(" (target: at most {TARGET:.1}, met)"),
            (0, false) => format!(" (target: at most {TARGET:.1}, MISSED)"),
            _ => String::new(),
        };
        println!("  ours is {ratio:.2} of that{verdict}");
    }
    cost.tell(size);
    Ok(())
}

/// The bytes of all answers of the server so far.
fn sent(server: &TestServer) -> u64 {
    server.requests().iter().map(|request| request.sent).sum()
}

/// What one addition cost besides time.
#[derive(Default)]
struct Cost {
    sent: u64,
    io: ProcessIo,
    peak: u64,
    cpu: Duration,
}

impl Cost {
    fn tell(&self, size: u64) {
        let more = |bytes: u64| i128::from(bytes) - i128::from(size);
        let ProcessIo { read, written, .. } = self.io;
        println!("the last addition, in bytes beyond the image's {size}:");
        println!("  {:+} came from the server", more(self.sent));
        println!("  {:+} written by the program (wchar)", more(written));
        println!("  {read} read by the program, all of it (rchar; sockets do not count there)");
        println!(
            "  {} KiB of memory at most, as far as it was seen",
            self.peak >> 10
        );
        println!("  {:.3} s of CPU time", self.cpu.as_secs_f64());
    }
}

struct Bench<'a> {
    program: &'a Path,
    directory: &'a Path,
    published: &'a PublishedRepository,
    url: String,
}

impl Bench<'_> {
    /// A directory that is empty, on a file system that has nothing left to write.
    fn clean(&self) -> Result<PathBuf, Failure> {
        let place = self.directory.join("round");
        match fs::remove_dir_all(&place) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::system("remove what the last round left")(e));
            }
            _ => {}
        }
        fs::create_dir_all(&place).map_err(Failure::system("make a directory"))?;
        let directory = File::open(&place).map_err(Failure::system("open a directory"))?;
        rustix::fs::syncfs(directory).map_err(Failure::system("sync the file system"))?;
        Ok(place)
    }

    fn ours(&self) -> Result<(Duration, Cost), Failure> {
        let agent = DeviceAgent::create(self.program, &self.clean()?, &self.published.anchor)?;
        let said = self.directory.join("said");
        let WatchedRun {
            time,
            io,
            peak,
            cpu,
        } = WatchedRun::of(
            agent.command(&["runtime", "add", "--url", &self.url]),
            &said,
        )?;
        let manifest = agent
            .base()
            .join("runtimes")
            .join(&self.published.manifest.id)
            .join("manifest.json");
        if !manifest.exists() {
            let said = fs::read_to_string(said).unwrap_or_default();
            return Err(Failure::Wrong(format!("avocadoctl: {said}")));
        }
        let cost = Cost {
            io,
            peak,
            cpu,
            sent: 0,
        };
        Ok((time, cost))
    }

    fn peer(&self, peer: &Peer) -> Result<Duration, Failure> {
        let file = self.clean()?.join("image.raw");
        let url = format!("{}/{}", self.url, self.published.image_path());
        let started = Failure::system("start a pipeline");
        let start = Instant::now();
        let pipeline = || -> std::io::Result<(Vec<Child>, String)> {
            let mut curl = Command::new("curl")
                .args(["--silent", "--show-error", "--fail"])
                .arg(url)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?;
            let mut tee = Command::new("tee")
                .arg(&file)
                .stdin(pipe(curl.stdout.take()))
                .stdout(Stdio::piped())
                .spawn()?;
            let (program, arguments) = peer.digest.split_first().unwrap_or((&"true", &[]));
            let mut digest = Command::new(program)
                .args(arguments)
                .stdin(pipe(tee.stdout.take()))
                .stdout(Stdio::piped())
                .spawn()?;
            let mut said = String::new();
            if let Some(mut out) = digest.stdout.take() {
                out.read_to_string(&mut said)?;
            }
            Ok((vec![curl, tee, digest], said))
        };
        let (children, said) = pipeline().map_err(started)?;
        for mut child in children {
            let status = child
                .wait()
                .map_err(Failure::system("wait for a pipeline"))?;
            if !status.success() {
                return Err(Failure::Wrong(format!("{}: {status}", peer.name)));
            }
        }
        let synced = Command::new("sync")
            .arg(&file)
            .status()
            .map_err(Failure::system("start sync"))?;
        let time = start.elapsed();
        if !synced.success() || !said.starts_with(&self.published.digest.to_string()) {
            return Err(Failure::Wrong(format!("{}: {said}", peer.name)));
        }
        Ok(time)
    }
}

fn pipe(output: Option<impl Into<Stdio>>) -> Stdio {
    output.map_or_else(Stdio::null, Into::into)
}
