//! A machine without a kernel, in a directory of its own.

use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_qemu::{
    Accelerator, Architecture, MachineEvent, MachineEvents, MachineSockets, MachineSpec,
    find_binary,
};
use avocado_test_support::skip;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct TestMachine {
    dir: TempDir,
    pub(crate) spec: MachineSpec,
}

impl TestMachine {
    /// None, and a skip that is counted, where there is no QEMU.
    pub(crate) fn new(test: &str) -> Option<TestMachine> {
        TestMachine::of(test, Architecture::X86_64)
    }

    /// The same, of another kind.
    pub(crate) fn of(test: &str, architecture: Architecture) -> Option<TestMachine> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let binary = match find_binary(directories, architecture) {
            Ok(binary) => binary,
            Err(error) => {
                skip(test, error);
                return None;
            }
        };
        // A comma, because QEMU gives it a meaning. A short name, because those of sockets are.
        let dir = tempfile::Builder::new().prefix("q,").tempdir().unwrap();
        let spec = spec(binary, architecture, dir.path());
        Some(TestMachine { dir, spec })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Processes that were started with files of this directory.
    pub(crate) fn processes(&self) -> Vec<u32> {
        // As it appears on a command line.
        let name = self.dir.path().to_str().unwrap().replace(',', ",,");
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&name)
        })
        .collect()
    }
}

impl Drop for TestMachine {
    fn drop(&mut self) {
        // Where a test failed, its machine is still there.
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
    }
}

/// Sends a signal to a process that may be gone.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let _ = kill_process(pid.unwrap(), signal);
}

fn spec(binary: PathBuf, architecture: Architecture, dir: &Path) -> MachineSpec {
    let file = |name: &str| dir.join(name);
    MachineSpec {
        binary,
        architecture,
        accelerator: Accelerator::Tcg,
        cpus: 2,
        memory_mib: 256,
        kernel: None,
        initrd: None,
        cmdline: String::new(),
        drives: vec![],
        workspace: Some(dir.to_owned()),
        sockets: MachineSockets {
            supervisor: file("qmp-supervisor.sock"),
            public: file("qmp.sock"),
            agent: file("qga.sock"),
            control: file("control.sock"),
        },
        serial_log: file("serial.log"),
        error_log: file("qemu.log"),
        pid_file: file("qemu.pid"),
        tpm: None,
        panic_device: true,
        gives_back: true,
        device_tree: None,
    }
}

/// The result of something that must end.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("takes far too long")
}

/// The next event.
pub(crate) async fn event(events: &mut MachineEvents) -> MachineEvent {
    within(events.recv())
        .await
        .expect("there are no more events")
}

/// Another client of QEMU.
pub(crate) struct OtherClient {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl OtherClient {
    pub(crate) fn connect(socket: &Path) -> OtherClient {
        let writer = UnixStream::connect(socket).unwrap();
        let limit = Some(Duration::from_secs(60));
        writer.set_read_timeout(limit).unwrap();
        let reader = BufReader::new(writer.try_clone().unwrap());
        let mut other = OtherClient { reader, writer };
        assert!(other.line().get("QMP").is_some());
        other.execute("qmp_capabilities", json!({}));
        other
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let line = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{line}").unwrap();
        loop {
            let mut answer = self.line();
            assert!(answer.get("error").is_none(), "{command}: {answer}");
            if let Some(result) = answer.get_mut("return") {
                return result.take();
            }
        }
    }
}
