//! systemd-nspawn, and the PID 1 that it starts.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::file;
use crate::tools::{ends_within, find};
use crate::{HarnessError, cgroup, wait};

/// How long systemd-nspawn may take to start the device's PID 1, and to notice its end.
const MOMENT: Duration = Duration::from_secs(20);

/// How systemd-nspawn ends, where it stays in the unit of its caller, when the device asks for a
/// reboot: whoever started it is to start it again.
const REBOOT: i32 = 133;

/// A running systemd-nspawn.
#[derive(Debug)]
pub(crate) struct Container {
    name: String,
    child: Child,
    pid1: super::Pid1,
    /// Nothing of it is left; the control group may be that of the next one.
    ended: bool,
}

impl Container {
    /// Starts the tree `root` with `var` as its `/var`, in a control group `name`.
    pub(crate) fn start(
        name: &str,
        root: &Path,
        var: &Path,
        console: &Path,
        network: &Path,
        loops: u32,
    ) -> Result<Self, HarnessError> {
        let output = File::options().append(true).create(true).open(console);
        let output = output.map_err(file("open", console))?;
        let group = cgroup::create(name)?;
        let both = output.try_clone().map_err(file("open", console))?;

        let program = find("systemd-nspawn").unwrap_or_else(|| "systemd-nspawn".into());
        let mut command = Command::new(program);
        command
            .args(["--quiet", "--boot", "--read-only", "--register=no"])
            .args(["--keep-unit", "--console=read-only", "--link-journal=no"])
            .args(["--resolv-conf=off", "--timezone=off"])
            .arg(format!("--machine={name}"))
            .arg(option("--directory=", root, ""))
            .arg(option("--bind=", var, ":/var"))
            .arg(option("--network-namespace-path=", network, ""))
            .arg("--bind=/dev/loop-control")
            .args((0..loops).map(|number| format!("--bind=/dev/loop{number}")))
            // For PID 1, which takes it for the kernel's command line.
            .arg("systemd.journald.forward_to_console=1")
            .args(["systemd.show_status=false", "systemd.log_color=false"])
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(both)
            .stderr(output)
            // Ctrl-C is for the owner, who ends the device in good order.
            .process_group(0);
        let join = move || Ok(rustix::io::write(&group, b"0").map(|_| ())?);
        #[allow(unsafe_code)]
        // SAFETY: between fork and exec only async-signal-safe things may be done, and this is one
        // write to a file that is open already.
        unsafe {
            command.pre_exec(join)
        };
        let mut child = command.spawn().map_err(|source| HarnessError::Start {
            command: "systemd-nspawn".into(),
            source,
        })?;
        match wait_pid1(name, &mut child, console) {
            Ok(pid1) => Ok(Container {
                name: name.to_owned(),
                child,
                pid1,
                ended: false,
            }),
            Err(error) => {
                finish(name, &mut child);
                Err(error)
            }
        }
    }

    /// The process number of the device's PID 1, for nsenter.
    pub(crate) fn leader(&self) -> String {
        self.pid1.process.to_string()
    }

    pub(crate) fn pid1(&self) -> Result<super::Pid1, HarnessError> {
        let now = pid1_of(self.pid1.process);
        now.filter(|now| *now == self.pid1)
            .ok_or_else(|| HarnessError::Gone {
                what: "run".into(),
                console: String::new(),
            })
    }

    /// Fails, with `console`, when the device has stopped.
    pub(crate) fn alive(&self, console: &str) -> Result<(), HarnessError> {
        if pid1_of(self.pid1.process).as_ref() == Some(&self.pid1) {
            return Ok(());
        }
        Err(HarnessError::Gone {
            what: "start".into(),
            console: console.to_owned(),
        })
    }

    /// Waits until the device ends by itself. Says whether it wants to boot again.
    pub(crate) fn wait(&mut self) -> Result<bool, HarnessError> {
        let status = self.child.wait().map_err(|source| HarnessError::Start {
            command: "systemd-nspawn".into(),
            source,
        })?;
        finish(&self.name, &mut self.child);
        self.ended = true;
        Ok(status.code() == Some(REBOOT))
    }

    /// Asks PID 1 to shut down and waits for it; kills it when that takes longer than `limit`.
    pub(crate) fn halt(&mut self, limit: Duration) -> Result<(), HarnessError> {
        if self.ended {
            return Ok(());
        }
        // systemd-nspawn hands it on as the signal that means a shutdown to a PID 1.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let ended = ends_within(&self.child, limit);
        finish(&self.name, &mut self.child);
        self.ended = true;
        if ended {
            return Ok(());
        }
        Err(HarnessError::Late {
            what: "the device's shutdown".into(),
            limit,
            detail: String::new(),
        })
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if self.ended {
            return;
        }
        let ours = pid1_of(self.pid1.process).as_ref() == Some(&self.pid1);
        if let Some(pid) = Pid::from_raw(self.pid1.process).filter(|_| ours) {
            let _ = kill_process(pid, Signal::KILL);
            // systemd-nspawn cleans up after itself when it sees the end of its child.
            ends_within(&self.child, MOMENT);
        }
        finish(&self.name, &mut self.child);
        self.ended = true;
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes sure that nothing of it is left.
fn finish(name: &str, child: &mut Child) {
    cgroup::kill(name);
    // It was killed, or was gone before.
    let _ = child.wait();
    cgroup::remove(name);
}

/// The PID 1 of the container: the process that is number 1 in another namespace.
fn wait_pid1(name: &str, child: &mut Child, console: &Path) -> Result<super::Pid1, HarnessError> {
    let log = || fs::read_to_string(console).unwrap_or_default();
    let look = || {
        if !matches!(child.try_wait(), Ok(None)) {
            return Err(HarnessError::Gone {
                what: "start".into(),
                console: log(),
            });
        }
        let is_pid1 = |process: &i32| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let mut numbers = numbers.unwrap_or_default().split_whitespace();
            numbers.clone().count() > 1 && numbers.next_back() == Some("1")
        };
        let found = cgroup::processes(name).into_iter().find(is_pid1);
        Ok(found.and_then(pid1_of))
    };
    let detail = || format!("; its console:\n{}", log());
    wait::until("the start of PID 1", MOMENT, look, detail)
}

fn pid1_of(process: i32) -> Option<super::Pid1> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may have anything in it; the start is the 20th field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // A zombie is no running PID 1.
    fields.next().filter(|state| *state != "Z")?;
    let start = fields.nth(18)?.parse().ok()?;
    Some(super::Pid1 { process, start })
}

fn option(name: &str, path: &Path, rest: &str) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(path);
    option.push(rest);
    option
}
