//! The program, as a user starts it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_avocado-test-server"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends the program also when an assertion fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serves_until_a_signal() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "hello").unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let child = program()
            .arg(root.path())
            .args(["--address", "127.0.0.1:0", "--token", "t"])
            .args(["--fault", "503@/file#1"])
            .spawn()
            .unwrap();
        let mut running = Running(child);
        let mut url = String::new();
        BufReader::new(running.0.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        let get = || {
            ureq::get(format!("{}/file", url.trim()))
                .header("Authorization", "Bearer t")
                .call()
        };
        assert!(matches!(get(), Err(ureq::Error::StatusCode(503))));
        assert_eq!(
            get().unwrap().into_body().read_to_string().unwrap(),
            "hello"
        );

        kill_process(Pid::from_child(&running.0), signal).unwrap();
        assert!(running.0.wait().unwrap().success(), "{signal:?}");
        let mut log = String::new();
        let mut stderr = running.0.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        assert!(log.contains("200 GET /file 5 of 5 bytes"), "{log}");
    }
}

#[test]
fn says_what_is_wrong() {
    for (arguments, code, part) in [
        (vec!["/nonexistent-directory"], 1, "/nonexistent-directory"),
        (vec![".", "--fault", "melt@*"], 2, "melt@*"),
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
