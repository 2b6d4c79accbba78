//! An OS that is written to its slot while it is downloaded, beside the least that the same bytes cost with the usual
//! tools.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use avocado_manifest::Digest;
use avocado_manifest::os_bundle::OS_BUNDLE_CHUNK;
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_testbed::agent::DeviceAgent;
use avocado_testbed::published::PublishedRepository;
use avocado_testbed::published_os::{PublishedOs, ROOTFS};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::stats::Sample;
use crate::watched_run::WatchedRun;

/// The target, as a multiple of the peer's time.
const TARGET: f64 = 1.05;

/// The most memory that is wanted, in bytes.
const MEMORY: u64 = 12 << 20;

const PEER: &str = "curl | dd oflag=direct conv=fsync, then dd iflag=direct";

/// An OS of `size` bytes that nothing can compress, published, and the disk that it goes to.
struct Bench<'a> {
    program: &'a Path,
    directory: &'a Path,
    published: PublishedRepository,
    size: u64,
    sha256: Digest,
}

pub(crate) fn measure(
    program: &Path,
    directory: &Path,
    size: u64,
    rounds: usize,
) -> Result<(), Failure> {
    println!(
        "\n== runtime add of an OS of {} MiB that is written to its slot meanwhile, {rounds} rounds",
        size >> 20
    );
    let bench = Bench::create(program, directory, size)?;
    let server = TestServer::start(ServeOptions::new(&bench.published.directory))?;
    let url = server.url();
    bench.ours(&url)?;
    bench.peer(&url)?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    let mut last = None;
    for round in 0..rounds {
        // Each of them first as often as last.
        if round % 2 == 0 {
            peers.push(bench.peer(&url)?);
        }
        let run = bench.ours(&url)?;
        ours.push(run.time);
        last = Some(run);
        if round % 2 == 1 {
            peers.push(bench.peer(&url)?);
        }
    }
    let ours: Sample = ours.into_iter().collect();
    let peers: Sample = peers.into_iter().collect();
    let ratio = ours.ratio(&peers);
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    println!("{:<55} {ours}", "avocadoctl runtime add");
    println!("{PEER:<55} {peers}");
    println!(
        "  ours is {ratio:.2} of that (target: at most {TARGET:.2}, {})",
        verdict(ratio <= TARGET)
    );
    if let Some(run) = last {
        println!(
            "  {} KiB of memory at most, as far as it was seen (target: at most {}, {}); {:.3} s of CPU time",
            run.peak >> 10,
            MEMORY >> 10,
            verdict(run.peak <= MEMORY),
            run.cpu.as_secs_f64()
        );
    }
    Ok(())
}

impl<'a> Bench<'a> {
    fn create(program: &'a Path, directory: &'a Path, size: u64) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(Failure::system("make a directory"))?;
        let rootfs = noise(size);
        let sha256 = Digest::of(&rootfs);
        let os = PublishedOs {
            version: "1.0.0",
            build: "new",
            description: description(&directory.join("disk"), size, sha256),
            rootfs: &rootfs,
            now: jiff::Timestamp::now(),
        };
        let published = directory.join("published");
        fs::create_dir_all(&published).map_err(Failure::system("make a directory"))?;
        let published = os.publish(&published)?;
        Ok(Bench {
            program,
            directory,
            published,
            size,
            sha256,
        })
    }

    fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// A disk on which nothing was written. It has its place on the file system, as a partition has on a disk.
    fn fresh_disk(&self) -> Result<(), Failure> {
        let zeros = vec![0; OS_BUNDLE_CHUNK];
        let write = || -> std::io::Result<()> {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .create(true)
                .truncate(false)
                .write(true)
                .open(self.disk())?;
            for _ in 0..(2 * self.size).div_ceil(zeros.len() as u64) {
                file.write_all(&zeros)?;
            }
            file.sync_all()
        };
        write().map_err(Failure::system("make a disk"))
    }

    fn ours(&self, url: &str) -> Result<WatchedRun, Failure> {
        self.fresh_disk()?;
        let place = self.directory.join("round");
        let _ = fs::remove_dir_all(&place);
        let agent = DeviceAgent::create(self.program, &place, &self.published.anchor)?;
        let configure = || {
            let mut file = fs::OpenOptions::new().append(true).open(agent.config())?;
            file.write_all(b"[avocado.update]\nstream_os_to_partition = true\n")
        };
        configure().map_err(Failure::system("configure the device"))?;
        let add = agent.command(&["runtime", "add", "--url", url]);
        let run = WatchedRun::of(add, &self.directory.join("said"))?;
        let written = File::open(self.disk()).and_then(|mut disk| {
            disk.seek(SeekFrom::Start(self.size))?;
            Digest::of_reader(disk)
        });
        let (digest, _) = written.map_err(Failure::system("read the slot"))?;
        if digest != self.sha256 {
            return Err(Failure::Wrong("the slot does not have the OS".into()));
        }
        Ok(run)
    }

    fn peer(&self, url: &str) -> Result<Duration, Failure> {
        self.fresh_disk()?;
        let url = format!("{url}/{}", self.published.image_path());
        let disk = self.disk();
        let failed = Failure::system("run curl and dd");
        let start = Instant::now();
        let run = || -> std::io::Result<bool> {
            let mut curl = Command::new("curl")
                .args(["--silent", "--show-error", "--fail", &url])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?;
            let from_curl = curl.stdout.take().map_or_else(Stdio::null, Stdio::from);
            let wrote = Command::new("dd")
                .args([
                    "bs=1M",
                    "iflag=fullblock",
                    "oflag=direct",
                    "conv=fsync,notrunc",
                ])
                .arg(format!("of={}", disk.display()))
                .stdin(from_curl)
                .stderr(Stdio::null())
                .status()?;
            let came = curl.wait()?;
            let read = Command::new("dd")
                .args(["bs=1M", "iflag=direct", "of=/dev/null"])
                .arg(format!("count={}", self.size >> 20))
                .arg(format!("if={}", disk.display()))
                .stderr(Stdio::null())
                .status()?;
            Ok(wrote.success() && came.success() && read.success())
        };
        let good = run().map_err(failed)?;
        let time = start.elapsed();
        if !good {
            return Err(Failure::Wrong(format!("{PEER} failed")));
        }
        Ok(time)
    }
}

/// Bytes without a pattern.
fn noise(size: u64) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let words = words.take(usize::try_from(size / 8).unwrap_or_default());
    words.flatten().collect()
}

/// Two slots on one disk, and programs in the place of a boot loader.
fn description(disk: &Path, size: u64, sha256: Digest) -> Value {
    let call = |slot: &str| json!([{"type": "command", "command": ["/bin/true", slot]}]);
    json!({
        "format_version": 1, "platform": "bench", "architecture": std::env::consts::ARCH,
        "os_build_id": "new",
        "update": {
            "strategy": "uboot-ab",
            "slot_detection": {"type": "command", "command": ["/bin/echo", "a"]},
            "artifacts": [{
                "name": "rootfs", "file": format!("images/{ROOTFS}"), "sha256": sha256, "size": size,
                "slot_targets": {"a": {"partition": "bench-a"}, "b": {"partition": "bench-b"}},
            }],
            "activate": call("{inactive_slot}"),
            "rollback": call("{previous_slot}"),
        },
        "layout": {"device": disk, "partitions": [
            {"name": "bench-a", "offset": 0, "size": size},
            {"name": "bench-b", "offset": size, "size": size},
        ]},
    })
}
