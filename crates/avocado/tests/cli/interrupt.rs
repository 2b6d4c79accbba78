//! Signals that ask for an end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Place;

/// A build that waits for another one, and is sent `signal` meanwhile.
fn told_while_it_waits(env_options: &[&str], signal: Signal) -> (Option<i32>, String) {
    let place = Place::new();
    let feed = "distro: {release: 2024, channel: edge, repo: {url: 'http://localhost:9'}}";
    place.write("avocado.yaml", &format!("default_target: t\n{feed}\n"));
    place.run(&["build"]).ok();
    let lock = File::open(place.path(".avocado/state/.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = Command::new("env");
    command
        .args(env_options)
        .args([env!("CARGO_BIN_EXE_avocado"), "build"]);
    command.current_dir(place.0.path()).stderr(Stdio::piped());
    let mut build = command.spawn().unwrap();
    let mut said = BufReader::new(build.stderr.take().unwrap());
    let mut text = String::new();
    said.read_line(&mut text).unwrap();
    assert!(text.contains("waiting for another avocado"), "{text}");
    kill_process(Pid::from_child(&build), signal).unwrap();
    if env_options.iter().any(|o| o.starts_with("--ignore")) {
        drop(lock);
    }
    said.read_to_string(&mut text).unwrap();
    (build.wait().unwrap().code(), text)
}

#[test]
fn a_request_to_end_is_heard_where_it_is_not_ignored() {
    for (name, signal) in [
        ("INT", Signal::INT),
        ("TERM", Signal::TERM),
        ("HUP", Signal::HUP),
    ] {
        let default = format!("--default-signal={name}");
        let (code, text) = told_while_it_waits(&[&default], signal);
        assert_eq!(code, Some(130), "{name}: {text}");
        assert!(!text.contains("error:"), "{name}: {text}");
    }
    // As `nohup` and a shell's `&` start a program.
    for (name, signal) in [("INT", Signal::INT), ("HUP", Signal::HUP)] {
        let ignored = format!("--ignore-signal={name}");
        let (code, text) = told_while_it_waits(&[&ignored], signal);
        assert_eq!(code, Some(0), "{name}: {text}");
        assert!(text.contains("Nothing to do"), "{name}: {text}");
    }
}
