//! A device in a temporary directory, and the built program.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

pub mod publisher;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use avocado_manifest::Manifest;
pub use avocado_tuf::testing::{extension, image_name, runtime};
use avocado_varlink::client::{VarlinkAddress, VarlinkClient};

pub struct Device {
    directory: tempfile::TempDir,
    private: bool,
}

impl Device {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("ctl").tempdir().unwrap();
        let device = Device {
            directory,
            private: false,
        };
        device.configure("");
        device
    }

    /// A device whose programs see an empty `/run`, so that they may activate.
    pub fn private() -> Self {
        Device {
            private: true,
            ..Device::new()
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn base(&self) -> PathBuf {
        self.path("base")
    }

    pub fn configure(&self, more: &str) {
        let (base, socket) = (self.base(), self.path("sock"));
        let (base, socket) = (base.display(), socket.display());
        let text =
            format!("[avocado]\nruntimes_dir = \"{base}\"\nsocket = \"unix:{socket}\"\n{more}");
        fs::write(self.path("conf"), text).unwrap();
    }

    /// The program with this device's configuration and a clean environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_avocadoctl");
        let mut command = if self.private {
            let mut command = Command::new("unshare");
            if !rustix::process::getuid().is_root() {
                command.args(["--user", "--map-root-user"]);
            }
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/private-run.sh");
            command.args(["--mount", "--"]).arg(script).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("--config").arg(self.path("conf")).args(args);
        for name in [
            "AVOCADO_BASE_DIR",
            "AVOCADO_LOG",
            "AVOCADO_TUF_AUTH_TOKEN",
            "NO_COLOR",
            "LISTEN_PID",
            "JOURNAL_STREAM",
        ] {
            command.env_remove(name);
        }
        command
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a run looks like on the screen, without what differs from run to run.
    pub fn show(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.replace(&self.directory.path().display().to_string(), "[DIR]")
        };
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let code = output.status.code().unwrap();
        format!(
            "$ avocadoctl {}\n{out}--- stderr\n{err}--- exit code {code}\n",
            text(args.join(" ").as_bytes()).escape_debug()
        )
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.run(&[args, &["-o", "json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{args:?}: {e}: {output:?}"))
    }

    /// Starts the service, and returns when it listens.
    pub fn serve(&self) -> Service {
        self.serve_logging("info")
    }

    /// As [`Device::serve`], with a filter for the log.
    pub fn serve_logging(&self, filter: &str) -> Service {
        let mut command = self.command(&["serve"]);
        command.env("AVOCADO_LOG", filter);
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.starts_with("listening on unix:"), "{first}");
        let log = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Service {
            child,
            log: Some(log),
            address: VarlinkAddress::of(self.path("sock")),
        }
    }

    pub fn put_image(&self, bytes: &[u8]) {
        let images = self.base().join("images");
        fs::create_dir_all(&images).unwrap();
        fs::write(images.join(image_name(bytes)), bytes).unwrap();
    }

    /// Puts a runtime into the store as a provisioned device has it.
    pub fn put_runtime(&self, manifest: &Manifest) {
        let directory = self.base().join("runtimes").join(&manifest.id);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    }

    pub fn make_active(&self, id: &str) {
        let target = Path::new("runtimes").join(id);
        std::os::unix::fs::symlink(target, self.base().join("active")).unwrap();
    }

    /// Writes a manifest outside of the store.
    pub fn manifest_file(&self, name: &str, manifest: &Manifest) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, manifest.to_json().unwrap()).unwrap();
        path
    }
}

pub struct Service {
    child: Child,
    log: Option<std::thread::JoinHandle<Vec<String>>>,
    pub address: VarlinkAddress,
}

impl Service {
    pub fn client(&self) -> VarlinkClient {
        VarlinkClient::connect(&self.address).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the service to stop; its exit code and what it logged.
    pub fn stop(mut self) -> (Option<i32>, Vec<String>) {
        self.terminate();
        let status = self.child.wait().unwrap();
        (status.code(), self.log.take().unwrap().join().unwrap())
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// As [`runtime`], with an id of the old kind.
pub fn named(id: &str, mut manifest: Manifest) -> Manifest {
    manifest.id = id.parse().unwrap();
    manifest
}
