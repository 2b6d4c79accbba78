//! A VM with the small guest, and its end.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use avocado_events::Silent;
use avocado_testbed::small_guest;
use avocado_testbed::tools::{TestNeed, binary, skip_without};
use avocado_vm::control;
use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::launch::{IdleSettings, VmLaunch};
use avocado_vm::status::{VmState, VmStatus};
use avocado_vm::supervisor::SupervisorError;
use tempfile::TempDir;

use crate::peers::Client;
use crate::processes::{kill, processes_of, working_in};

/// Long enough for anything on a busy machine; nothing waits for it to pass.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn cannot_run(name: &str) -> bool {
    let mut needs = small_guest::needs();
    needs.push(TestNeed::Binary("avocado"));
    skip_without(name, &needs)
}

/// The image, made once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<TempDir> = OnceLock::new();
    let made = IMAGE.get_or_init(|| {
        let place = tempfile::tempdir().unwrap();
        small_guest::image(place.path()).unwrap();
        place
    });
    made.path()
}

/// A state directory and what it starts. One at a time: emulation takes all processors.
pub(crate) struct SmallGuestVm {
    pub(crate) launch: VmLaunch,
    pub(crate) dir: StateDir,
    pub(crate) program: PathBuf,
    pub(crate) place: TempDir,
    _lock: MutexGuard<'static, ()>,
}

impl SmallGuestVm {
    /// One that sleeps only when it is asked to.
    pub(crate) fn new() -> SmallGuestVm {
        SmallGuestVm::of(image())
    }

    /// One with another image.
    pub(crate) fn of(image: &Path) -> SmallGuestVm {
        static QEMU_LOCK: Mutex<()> = Mutex::new(());
        let lock = QEMU_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tempfile::tempdir().unwrap();
        SmallGuestVm {
            launch: VmLaunch {
                image: image.to_owned(),
                cpus: 1,
                memory_mib: 96,
                var_size: 0,
                ssh_port: None,
                last_ssh_port: None,
                ports_of_others: Vec::new(),
                infra_port: None,
                docker_stream: true,
                forward_published: false,
                cmdline_extra: None,
                workspace: None,
                dns: Vec::new(),
                dns_search: Vec::new(),
                idle: IdleSettings {
                    hibernate_after_secs: 0,
                    ..IdleSettings::default()
                },
                qemu: None,
                accelerator: Some("tcg".to_owned()),
                device_tree: None,
                notify: None,
                ready_timeout_secs: 120,
            },
            dir: StateDir::new(place.path().join("vm")),
            program: binary("avocado").unwrap(),
            place,
            _lock: lock,
        }
    }

    pub(crate) fn try_start(&self) -> Result<VmStatus, SupervisorError> {
        control::start(&self.program, &self.dir, &self.launch, &Silent)
    }

    pub(crate) fn start(&self) -> VmStatus {
        self.try_start().unwrap_or_else(|error| self.fail(&error))
    }

    /// Starts it so that `ssh` is the program that only pretends.
    pub(crate) fn start_with_tunnels(&self) -> VmStatus {
        let programs = self.place.path().join("bin");
        fs::create_dir_all(&programs).unwrap();
        small_guest::ssh(&programs).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let path = std::iter::once(programs).chain(std::env::split_paths(&path));
        self.dir.create().unwrap();
        let mut child = Command::new(&self.program)
            .args(["vm", "supervise", "--dir"])
            .arg(self.dir.root())
            .env("PATH", std::env::join_paths(path).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let launch = serde_json::to_vec(&self.launch).unwrap();
        child.stdin.take().unwrap().write_all(&launch).unwrap();
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(
            said.lines().last().unwrap().starts_with("{\"ready\":"),
            "{said}"
        );
        std::thread::spawn(move || child.wait());
        self.status()
    }

    pub(crate) fn fail(&self, error: &SupervisorError) -> ! {
        let log = self.log();
        panic!("{error}\n{error:?}\n--- log\n{log}")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.file(StateFile::SupervisorLog)).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> VmStatus {
        control::status(&self.dir).unwrap_or_else(|error| self.fail(&error))
    }

    pub(crate) fn hibernate(&self) {
        control::hibernate(&self.dir).unwrap_or_else(|error| self.fail(&error));
    }

    pub(crate) fn stop(&self) {
        let stopped = control::stop(&self.program, &self.dir, false, LONG);
        assert!(stopped.unwrap_or_else(|error| self.fail(&error)));
        self.nothing_left();
    }

    /// Waits until the status is as it should be.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&VmStatus) -> bool) -> VmStatus {
        let deadline = Instant::now() + LONG;
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "{what} never came: {status:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the log has this, and gives it.
    pub(crate) fn until_log(&self, text: &str) -> String {
        let deadline = Instant::now() + LONG;
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "{text} never came:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A connection to the user's port, and its banner.
    pub(crate) fn connect(&self) -> Client {
        let port: u16 = self
            .dir
            .read_line(StateFile::SshPort)
            .unwrap()
            .parse()
            .unwrap();
        Client::connect(port).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// No process, no socket, no file that says that there is a VM.
    pub(crate) fn nothing_left(&self) {
        let left: Vec<String> = fs::read_dir(self.dir.root())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| {
                [".sock", ".pid", "-port", ".internal"]
                    .iter()
                    .any(|end| name.ends_with(end))
                    || ["machine.json", "ctl", "ports"].contains(&name.as_str())
                    || name.starts_with("saved")
                    || name.starts_with('.')
            })
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{}", self.log());
        let status = self.status();
        assert_eq!((status.state, status.running), (VmState::Stopped, false));
        // The supervisor lets go of everything just before its own end.
        let deadline = Instant::now() + LONG;
        loop {
            let mut processes = processes_of(self.dir.root());
            processes.extend(working_in(self.dir.root()));
            if processes.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{processes:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for SmallGuestVm {
    fn drop(&mut self) {
        let (named, working) = (processes_of(self.dir.root()), working_in(self.dir.root()));
        for pid in named.into_iter().chain(working) {
            kill(pid, rustix::process::Signal::KILL);
        }
    }
}
