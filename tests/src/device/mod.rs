//! A device: a root file system image with systemd as PID 1 in a container of its own, a writable
//! `/var`, loop devices, a network address and ssh.

mod container;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::claim::{self, HostClaim};
use crate::error::file;
use crate::keys::SshKeys;
use crate::tools::ToolCall;
use crate::{HarnessError, cleanup, loops, wait};
use container::Container;

/// How long a device may take to boot; it needs a second or two on an idle machine.
const BOOT: Duration = Duration::from_secs(90);
/// How long a device may take to shut down.
const HALT: Duration = Duration::from_secs(90);
/// How much of the console an error shows, in lines.
const CONSOLE_LINES: usize = 40;

/// What a device is made of.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// The image of the root file system, of any type that the kernel mounts. It stays as it is.
    pub rootfs_image: PathBuf,
    /// What `/var` starts as. The device gets a copy, so it stays as it is.
    pub var: PathBuf,
    /// Where the device keeps what it needs while it lives: the copy of `/var`, its console.
    pub workdir: PathBuf,
    /// The key that opens it, as root.
    pub keys: SshKeys,
    /// How many loop devices it sees at least, counted from 0. All devices and the host share them.
    pub loops: u32,
}

impl DeviceOptions {
    /// A device with 16 loop devices.
    pub fn new(
        rootfs_image: impl Into<PathBuf>,
        var: impl Into<PathBuf>,
        workdir: impl Into<PathBuf>,
        keys: SshKeys,
    ) -> Self {
        DeviceOptions {
            rootfs_image: rootfs_image.into(),
            var: var.into(),
            workdir: workdir.into(),
            keys,
            loops: 16,
        }
    }
}

/// A running device. Dropping it ends it at once and leaves nothing behind.
#[derive(Debug)]
pub struct TestDevice {
    // The container first: it has to end before the claim gives back what it stands on.
    container: Container,
    keys: SshKeys,
    loops: u32,
    claim: HostClaim,
}

/// The PID 1 of a device: another boot is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pid1 {
    /// Its process number on the host.
    pub process: i32,
    /// When it started, in clock ticks after the host's boot.
    pub start: u64,
}

impl TestDevice {
    /// Boots a device and waits until its systemd has started everything and ssh answers. A
    /// service of the image may have failed: see [`TestDevice::state`].
    ///
    /// # Errors
    /// Something that it needs is missing, or it did not come up; then the error has the end of
    /// its console.
    pub fn boot(options: DeviceOptions) -> Result<Self, HarnessError> {
        cleanup::install().map_err(file("handle", "signals"))?;
        claim::reap()?;
        let claim = HostClaim::take(&options.workdir)?;
        prepare(&claim, &options)?;
        let container = start(&claim, options.loops)?;
        let device = TestDevice {
            container,
            keys: options.keys,
            loops: options.loops,
            claim,
        };
        device.wait_ready()?;
        Ok(device)
    }

    /// Shuts the device down in good order, as `poweroff` does.
    ///
    /// # Errors
    /// It did not end in time; then it was ended like a power cut.
    pub fn shutdown(mut self) -> Result<(), HarnessError> {
        self.container.halt(HALT)
    }

    /// Shuts the device down in good order and boots it again, with the same `/var` and address.
    ///
    /// # Errors
    /// It did not end or did not come up again.
    pub fn reboot(&mut self) -> Result<(), HarnessError> {
        self.container.halt(HALT)?;
        self.start_again()
    }

    /// Ends the device without any warning to it, and boots it again with the same `/var`. (What
    /// it wrote is there: the host's page cache lives on.)
    ///
    /// # Errors
    /// It did not come up again.
    pub fn power_cycle(&mut self) -> Result<(), HarnessError> {
        self.container.kill();
        self.start_again()
    }

    /// Stays until the device powers itself off; when it reboots itself, it is booted again with the
    /// same `/var` and address, and `booted` is called.
    ///
    /// # Errors
    /// It did not come up again.
    pub fn stay(&mut self, booted: impl Fn()) -> Result<(), HarnessError> {
        while self.container.wait()? {
            self.start_again()?;
            booted();
        }
        Ok(())
    }

    fn start_again(&mut self) -> Result<(), HarnessError> {
        self.container = start(&self.claim, self.loops)?;
        self.wait_ready()
    }

    /// Its address, which the host reaches.
    pub fn address(&self) -> Ipv4Addr {
        self.claim.network().device()
    }

    /// The host's address as the device sees it: servers for the device listen there.
    pub fn host_address(&self) -> Ipv4Addr {
        self.claim.network().host()
    }

    /// The device's `/var`, on the host.
    pub fn var(&self) -> PathBuf {
        var(&self.claim)
    }

    /// Which PID 1 it is: equal as long as the device did not restart.
    ///
    /// # Errors
    /// The device stopped.
    pub fn pid1_start(&self) -> Result<Pid1, HarnessError> {
        self.container.pid1()
    }

    /// Runs a program on the device, as root and without going through ssh, and returns its
    /// stdout.
    ///
    /// # Errors
    /// It failed.
    pub fn exec(&self, arguments: &[&str]) -> Result<String, HarnessError> {
        Ok(self.enter(arguments).ok()?.stdout)
    }

    /// The same, for a program that may fail, or wants input, or more time.
    pub fn enter<A: AsRef<OsStr>>(&self, arguments: &[A]) -> ToolCall {
        let leader = self.container.leader();
        ToolCall::new("nsenter")
            .args(["-t", &leader, "-m", "-p", "-u", "-i", "-n", "-C", "--"])
            .args(arguments)
            .clear_env()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
    }

    /// Runs a command on the device over ssh, as root, and returns its stdout. As always with ssh,
    /// the arguments are joined by spaces and read by a shell there.
    ///
    /// # Errors
    /// It failed.
    pub fn ssh(&self, arguments: &[&str]) -> Result<String, HarnessError> {
        Ok(self.ssh_call(arguments).ok()?.stdout)
    }

    /// The same, for a command that may fail, or wants input, or more time.
    pub fn ssh_call<A: AsRef<OsStr>>(&self, arguments: &[A]) -> ToolCall {
        ToolCall::new("ssh")
            .args(self.ssh_options())
            .arg(format!("root@{}", self.address()))
            .arg("--")
            .args(arguments)
    }

    /// What ssh and scp need to reach the device without asking anything.
    pub fn ssh_options(&self) -> Vec<String> {
        let identity = format!("IdentityFile={}", self.keys.private.display());
        [
            identity.as_str(),
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ConnectTimeout=10",
            "LogLevel=ERROR",
        ]
        .iter()
        .flat_map(|option| ["-o".to_owned(), (*option).to_owned()])
        .collect()
    }

    /// Asks `http://DEVICE:port/path` and returns the status and the text of the answer.
    ///
    /// # Errors
    /// There was no answer within ten seconds.
    pub fn http_get(&self, port: u16, path: &str) -> Result<(u16, String), HarnessError> {
        let url = format!("http://{}:{port}{path}", self.address());
        let failed = |source| HarnessError::Http {
            url: url.clone(),
            source: Box::new(source),
        };
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        let mut response = agent.get(&url).call().map_err(failed)?;
        let text = response.body_mut().read_to_string().map_err(failed)?;
        Ok((response.status().as_u16(), text))
    }

    /// What `systemctl is-system-running` says: `running`, or `degraded` when a unit failed.
    ///
    /// # Errors
    /// The device cannot be entered.
    pub fn state(&self) -> Result<String, HarnessError> {
        // It exits with 1 for everything but `running`.
        let output = self.enter(&["systemctl", "is-system-running"]).run()?;
        Ok(output.stdout.trim().to_owned())
    }

    /// The units that failed, as systemctl lists them; empty when all is well.
    ///
    /// # Errors
    /// The device cannot be asked.
    pub fn failed_units(&self) -> Result<String, HarnessError> {
        self.exec(&[
            "systemctl",
            "list-units",
            "--failed",
            "--no-legend",
            "--plain",
        ])
    }

    /// The console, which has the journal since the boot.
    pub fn logs(&self) -> String {
        fs::read_to_string(console(&self.claim)).unwrap_or_default()
    }

    fn wait_ready(&self) -> Result<(), HarnessError> {
        let alive = || self.container.alive(&tail(&self.claim));
        let detail = || format!("; its console:\n{}", tail(&self.claim));
        let started = || {
            alive()?;
            let state = self.state()?;
            Ok(matches!(state.as_str(), "running" | "degraded").then_some(()))
        };
        wait::until("the device's start", BOOT, started, detail)?;
        let answers = || {
            alive()?;
            Ok(self.ssh_answers().then_some(()))
        };
        wait::until("an answer of the device's ssh", BOOT, answers, detail)
    }

    fn ssh_answers(&self) -> bool {
        let limit = Duration::from_secs(2);
        let address = SocketAddr::from((self.address(), 22));
        let mut greeting = String::new();
        // The whole line: a reset in the middle of it would be an error in the device's log.
        let read = TcpStream::connect_timeout(&address, limit).and_then(|stream| {
            stream.set_read_timeout(Some(limit))?;
            BufReader::new(stream.take(256)).read_line(&mut greeting)
        });
        read.is_ok() && greeting.starts_with("SSH-")
    }
}

impl Drop for TestDevice {
    fn drop(&mut self) {
        self.container.kill();
        if std::thread::panicking() {
            // The test that fails is the last one to see it.
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "--- console\n{}\n---", tail(&self.claim));
        }
    }
}

fn root(claim: &HostClaim) -> PathBuf {
    claim.work().join("rootfs")
}

fn var(claim: &HostClaim) -> PathBuf {
    claim.work().join("var")
}

fn console(claim: &HostClaim) -> PathBuf {
    claim.work().join("console.log")
}

/// The end of the console.
fn tail(claim: &HostClaim) -> String {
    let log = fs::read(console(claim)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(CONSOLE_LINES)..)
        .unwrap_or_default()
        .join("\n")
}

/// Makes what all boots of the device have in common: the mounted image and `/var`.
fn prepare(claim: &HostClaim, options: &DeviceOptions) -> Result<(), HarnessError> {
    let (root, var) = (root(claim), var(claim));
    fs::create_dir(&root).map_err(file("make", &root))?;
    fs::create_dir(&var).map_err(file("make", &var))?;
    ToolCall::new("cp")
        .args(["-a", "--reflink=auto", "--sparse=auto", "--"])
        .args([&options.var.join("."), &var])
        .limit(Duration::from_secs(300))
        .ok()?;
    authorize(&var, &options.keys)?;
    let _lock = claim.lock_claims()?;
    ToolCall::new("mount")
        .args(["-o", "loop,ro", "--"])
        .args([&options.rootfs_image, &root])
        .ok()?;
    Ok(())
}

/// Lets the owner of `keys` in: where the image's sshd looks for root's keys.
fn authorize(var: &Path, keys: &SshKeys) -> Result<(), HarnessError> {
    let directory = var.join("lib/ssh/authorized_keys.d");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&directory)
        .map_err(file("make", &directory))?;
    let path = directory.join("root");
    fs::File::options()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(&path)
        .and_then(|mut file| writeln!(file, "{}", keys.public.trim_end()))
        .map_err(file("write", &path))
}

fn start(claim: &HostClaim, loops: u32) -> Result<Container, HarnessError> {
    let _lock = claim.lock_claims()?;
    // Each merge on a device takes away some. Then the kernel offers others that exist, so a device
    // needs the nodes of all of them.
    let highest = loops::existing().last().map_or(0, |number| number + 1);
    let loops = loops.max(highest);
    let _held = loops::open_all(0..loops)?;
    Container::start(
        claim.name(),
        &root(claim),
        &var(claim),
        &console(claim),
        &claim.network().path(),
        loops,
    )
}
