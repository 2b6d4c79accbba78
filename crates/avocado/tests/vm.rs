//! `avocado vm` from outside, as far as it goes without a running guest.

#[path = "vm/autostart.rs"]
mod autostart;
#[path = "vm/commands.rs"]
mod commands;
#[path = "vm/config.rs"]
mod config;
#[path = "vm/docker_context.rs"]
mod docker_context;
#[path = "vm/named.rs"]
mod named;
#[path = "vm/publish.rs"]
mod publish;
#[path = "vm/update.rs"]
mod update;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use avocado_manifest::{Digest, UpdatePolicy, VmArtifact, VmImage, VmRole};
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use serde_json::{Value, json};

/// A home to play in, and the program in surroundings that hold nothing else.
struct Place(tempfile::TempDir);

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn vm(&self, name: &str) -> PathBuf {
        self.path("home/.avocado/vm").join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.avocado(&["vm"]);
        command.args(args);
        command
    }

    fn avocado(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_avocado"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("AVOCADO_NO_UPDATE_CHECK", "1")
            .current_dir(self.0.path())
            .args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.end(&mut self.command(args))
    }

    fn end(&self, command: &mut Command) -> Ended {
        let output = command.output().unwrap();
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(self.0.path().to_str().unwrap(), "[PLACE]")
        };
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.run(&args).ok().stdout).unwrap()
    }

    /// Writes an image whose files hold `<role> of <version>`.
    fn image(&self, name: &str, version: &str) -> VmImage {
        let dir = self.path(name);
        fs::create_dir_all(&dir).unwrap();
        let mut image = VmImage::new("avocado-qemux86-64".into(), "x86_64", "quiet".into());
        image.version = Some(version.into());
        for role in VmRole::ALL {
            let bytes = format!("{role} of {version}").into_bytes();
            let file = format!("{role}.img");
            fs::write(dir.join(&file), &bytes).unwrap();
            let artifact = VmArtifact {
                file: file.parse().unwrap(),
                sha256: Digest::of(&bytes),
                size: Some(bytes.len() as u64),
                update_policy: match role {
                    VmRole::Var => UpdatePolicy::SeedOnly,
                    _ => UpdatePolicy::Replace,
                },
                kind: None,
                role_link: None,
            };
            image.artifacts.insert(role.as_str().into(), artifact);
        }
        fs::write(dir.join("manifest.json"), image.to_json().unwrap()).unwrap();
        image
    }

    /// Publishes an image in a channel.
    fn publish(&self, version: &str, more: Value) {
        self.image(&format!("www/{version}"), version);
        let mut index = json!({
            "channel": "stable",
            "version": version,
            "released_at": "2026-06-01T00:00:00Z",
            "platforms": {"avocado-qemux86-64": {
                "manifest_url": format!("{version}/manifest.json"),
                "base_url": version,
            }},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            index[key] = value.clone();
        }
        fs::write(self.path("www/stable.json"), index.to_string()).unwrap();
    }

    fn serve(&self) -> TestServer {
        fs::create_dir_all(self.path("www")).unwrap();
        TestServer::start(ServeOptions::new(self.path("www"))).unwrap()
    }

    fn update(&self, server: &TestServer, args: &[&str]) -> Ended {
        self.end(&mut self.update_command(&server.url(), args))
    }

    fn update_command(&self, url: &str, args: &[&str]) -> Command {
        let mut command = self.command(&["update"]);
        command.env("AVOCADO_VM_CHANNEL_URL_BASE", url).args(args);
        command
    }

    /// A record of a machine, as the supervisor writes it, run by the process `identity`.
    fn record(&self, identity: &Value) -> Value {
        json!({
            "identity": identity,
            "spec": {
                "binary": "/x", "architecture": "x86_64", "accelerator": "tcg",
                "cpus": 1, "memory_mib": 128, "cmdline": "", "drives": [],
                "sockets": {"supervisor": "/x", "public": "/x", "agent": "/x", "control": "/x"},
                "serial_log": "/x", "error_log": "/x", "pid_file": "/x",
            },
            "qemu": {"path": "/x", "mtime": 1, "size": 2},
            "image": {"platform": "p", "architecture": "x86_64", "digests": {}},
            "launch": {
                "image": self.path("image"), "cpus": 1, "memory_mib": 128, "var_size": 0,
                "docker_stream": false, "dns": [], "dns_search": [],
                "idle": {
                    "hibernate_after_secs": 0, "release_memory_after_secs": 0,
                    "silent_connection_secs": 0, "containers_keep_awake": false,
                },
                "ready_timeout_secs": 1,
            },
        })
    }

    /// As a supervisor leaves it that was killed after it had saved the guest's memory.
    fn save_memory(&self) {
        fs::create_dir_all(self.vm("")).unwrap();
        let record = self.record(&Value::Null);
        let saved = json!({"record": record, "files": []});
        fs::write(self.vm("machine.json"), record.to_string()).unwrap();
        fs::write(self.vm("saved.json"), saved.to_string()).unwrap();
        fs::write(self.vm("saved-memory"), "memory").unwrap();
        assert_eq!(self.json(&["status"])["reason"], "saved");
    }

    /// A supervisor as far as the commands need it for a VM that runs: it tells the status whatever
    /// it is asked. Gives what was asked.
    #[cfg(unix)]
    fn pretend_to_run(&self) -> std::sync::mpsc::Receiver<String> {
        let mut status = self.json(&["status"]);
        status["running"] = json!(true);
        status["state"] = json!("running");
        self.pretend(&status)
    }

    /// The same with this status.
    #[cfg(unix)]
    fn pretend(&self, status: &Value) -> std::sync::mpsc::Receiver<String> {
        use std::io::{BufRead, BufReader, Write};
        fs::create_dir_all(self.vm("")).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(self.vm("supervisor.sock")).unwrap();
        let answer = json!({ "result": status }).to_string() + "\n";
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut asked = String::new();
                BufReader::new(&client).read_line(&mut asked).unwrap();
                client.write_all(answer.as_bytes()).unwrap();
                let _ = sender.send(asked);
            }
        });
        lines
    }

    fn installed(&self) -> String {
        let text = fs::read(self.vm("install/manifest.json")).unwrap();
        VmImage::parse(&text).unwrap().version.unwrap()
    }
}

impl Ended {
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    fn failed(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }

    fn documents(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
