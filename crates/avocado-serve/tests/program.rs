//! The program, as a user starts it.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_avocado-serve"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program, which ends also when an assertion fails.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    /// Starts it, and waits until it says where it listens.
    fn start(command: &mut Command) -> Self {
        let child = command.args(["--address", "127.0.0.1:0"]).spawn();
        let mut running = Running {
            child: child.unwrap(),
            url: String::new(),
        };
        let stdout = running.child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut running.url).unwrap();
        running.url.truncate(running.url.trim_end().len());
        running
    }

    fn get(&self, path: &str, token: &str) -> Result<String, ureq::Error> {
        let request = ureq::get(format!("{}/{path}", self.url));
        let response = request
            .header("Authorization", format!("Bearer {token}"))
            .call();
        response?.into_body().read_to_string()
    }

    /// Ends it, and gives what it said on its standard error.
    fn end(mut self, signal: Signal) -> String {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        assert!(self.child.wait().unwrap().success(), "{signal:?}");
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serves_until_a_signal() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "hello").unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let running = Running::start(program().arg(root.path()).args(["--token", "t"]));
        assert_eq!(running.get("file", "t").unwrap(), "hello");
        let _ = running.get("x%1b%5b2J%0a200%20GET%20/y%e2%80%ae", "other");
        let log = running.end(signal);
        assert!(log.contains("200 GET /file 5 of 5 bytes"), "{log}");
        // What a client asks for cannot move the cursor, and makes no lines.
        assert!(
            log.contains("401 GET /x\\u{1b}[2J\\n200 GET /y\\u{202e} "),
            "{log}"
        );
        assert_eq!(log.lines().count(), 2, "{log}");
    }
}

#[test]
fn a_token_in_a_file_is_in_no_list_of_processes() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), "hello").unwrap();
    let token = place.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    std::fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    let started = || Running::start(program().arg(&root).arg("--token-file").arg(&token));
    let running = started();
    let pid = running.child.id();
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&words).contains("s3cret"));
    assert_eq!(running.get("file", "s3cret").unwrap(), "hello");
    for wrong in ["", "s3cret\n", "other"] {
        assert!(running.get("file", wrong).is_err(), "{wrong:?}");
    }
    let said = running.end(Signal::TERM);
    assert!(!said.contains("warning"), "{said}");
    std::fs::set_permissions(&token, Permissions::from_mode(0o644)).unwrap();
    let said = started().end(Signal::TERM);
    assert!(said.contains("chmod 600"), "{said}");
}

#[test]
fn a_key_that_others_can_read_is_told() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(path("cert"), made.cert.pem()).unwrap();
    std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    for (mode, told) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(path("key"), Permissions::from_mode(mode)).unwrap();
        let mut command = program();
        command.arg(root.path()).arg("--tls-cert").arg(path("cert"));
        let running = Running::start(command.arg("--tls-key").arg(path("key")));
        let log = running.end(Signal::TERM);
        let way_out = format!("chmod 600 {}", path("key").display());
        assert_eq!(log.contains(&way_out), told, "{log}");
    }
}

#[test]
fn says_what_is_wrong() {
    for (arguments, code, part) in [
        (vec!["/nonexistent-directory"], 1, "/nonexistent-directory"),
        (vec![".", "--tls-cert", "x"], 2, "--tls-key"),
        (vec![".", "--tls-cert", "/x", "--tls-key", "/y"], 1, "/x"),
        // Never served to everybody instead.
        (vec![".", "--token-file", "/x"], 1, "/x"),
        (vec![".", "--token-file", "/dev/null"], 1, "a token"),
        (
            vec![".", "--token-file", "/x", "--token", "t"],
            2,
            "--token",
        ),
    ] {
        let output = program()
            .args(&arguments)
            .args(["--address", "127.0.0.1:0"])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}
