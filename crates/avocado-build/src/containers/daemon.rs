//! docker's own service, at work in a step: only it writes its store as it reads it.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use avocado_backend::{LoopMounts, Tool, ToolError, ToolQuery};
use avocado_events::{Cancel, Sink};
use serde::Deserialize;

use crate::error::{At as _, BuildError};

pub(crate) const DOCKERD: ToolQuery = ToolQuery {
    tool: "dockerd",
    arguments: &["--version"],
};

/// Where a step has a directory of its own for such files.
const RUN: &str = "/run/avocado-docker";
/// The driver of the store: the one that every kernel of a device has, and that every docker reads.
const DRIVER: &str = "overlay2";
/// How long it may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether it has ended instead.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The longest answer that is read.
const LONGEST_ANSWER: u64 = 16 << 20;

/// A service with a store of its own, which reaches no network and makes no container.
pub(crate) struct DockerDaemon {
    socket: PathBuf,
}

/// A line of what it says of a load.
#[derive(Debug, Deserialize)]
struct LoadLine {
    error: Option<String>,
}

impl DockerDaemon {
    /// Starts it on the store at `root`, has `work` done with it, and ends it.
    pub(crate) fn run<T>(
        loop_mounts: &LoopMounts,
        root: &Path,
        sink: &dyn Sink,
        work: impl FnOnce(&DockerDaemon) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let run = Path::new(RUN);
        fs::create_dir_all(run).at("create", run)?;
        let (socket, ready) = (run.join("socket"), run.join("ready"));
        let heard = UnixDatagram::bind(&ready).at("listen at", &ready)?;
        heard
            .set_read_timeout(Some(LOOK_INTERVAL))
            .at("listen at", &ready)?;
        let mut host = std::ffi::OsString::from("unix://");
        host.push(&socket);
        let end = Cancel::new();
        let tool = Tool::new(DOCKERD.tool)
            .arg("--data-root")
            .arg(root)
            .arg("--exec-root")
            .arg(run.join("exec"))
            .arg("--pidfile")
            .arg(run.join("pid"))
            // No settings of this machine's own service.
            .arg("--config-file")
            .arg(run.join("none.json"))
            .arg("--host")
            .arg(host)
            .args(["--storage-driver", DRIVER])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false", "--log-level=error"])
            .env("NOTIFY_SOCKET", &ready)
            .cancelled_by(&end);
        let none = run.join("none.json");
        fs::write(&none, "{}").at("write", &none)?;
        let tool = loop_mounts.give_to(tool);
        let done = std::thread::scope(|scope| {
            let running = scope.spawn(|| tool.run(sink));
            // Whatever happens here, it ends.
            let _ended = EndOnDrop(&end);
            if !until_ready(&heard, &ready, &running)? {
                end.cancel();
                let ended = running.join().ok().and_then(Result::err);
                let late = || {
                    BuildError::Invalid(format!(
                        "dockerd is not ready after {} s",
                        START_LIMIT.as_secs()
                    ))
                };
                return Err(ended.map_or_else(late, BuildError::from));
            }
            work(&DockerDaemon { socket })
        })?;
        // It has no time to do that itself.
        loop_mounts.unmount_below(root)?;
        Ok(done)
    }

    /// Adds the images of an archive.
    pub(crate) fn load(&self, archive: &Path) -> Result<(), BuildError> {
        let failed = |error: io::Error| {
            let what = format!(
                "dockerd did not take the image {}: {error}",
                archive.display()
            );
            BuildError::Invalid(what)
        };
        let mut file = File::open(archive).at("open", archive)?;
        let length = file.metadata().at("look at", archive)?.len();
        let mut stream = UnixStream::connect(&self.socket).at("connect to", &self.socket)?;
        let head = format!(
            "POST /images/load?quiet=1 HTTP/1.0\r\nHost: docker\r\nContent-Type: application/x-tar\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).map_err(failed)?;
        // One that refuses it may say so before it has all of it.
        let sent = io::copy(&mut file, &mut stream);
        let answer = read_answer(&stream).map_err(failed)?;
        let refused = answer_error(&answer);
        match (refused, sent) {
            (Some(said), _) => Err(failed(io::Error::other(said))),
            (None, Err(error)) => Err(failed(error)),
            (None, Ok(_)) => Ok(()),
        }
    }
}

/// Ends the service by its flag.
struct EndOnDrop<'a>(&'a Cancel);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Waits until the service says that it is there; answers whether it does.
fn until_ready(
    heard: &UnixDatagram,
    place: &Path,
    running: &ScopedJoinHandle<'_, Result<(), ToolError>>,
) -> Result<bool, BuildError> {
    let deadline = Instant::now() + START_LIMIT;
    let mut message = [0; 4096];
    loop {
        match heard.recv(&mut message) {
            Ok(length) => {
                let said = message.get(..length).unwrap_or_default();
                if said
                    .split(|byte| *byte == b'\n')
                    .any(|line| line == b"READY=1")
                {
                    return Ok(true);
                }
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(e) => return Err(e).at("listen at", place),
        }
        if running.is_finished() || Instant::now() > deadline {
            return Ok(false);
        }
    }
}

fn read_answer(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Why an image was not taken, by the answer to a load; nothing where it was.
fn answer_error(answer: &[u8]) -> Option<String> {
    let mut lines = BufReader::new(answer).split(b'\n').map_while(Result::ok);
    let status = lines.next().unwrap_or_default();
    let status = String::from_utf8_lossy(&status).trim().to_owned();
    let is_good = status.split(' ').nth(1) == Some("200");
    let body: Vec<Vec<u8>> = lines
        .skip_while(|line| !line.trim_ascii().is_empty())
        .collect();
    // Where it fails half way the status is long gone.
    let said = body.iter().find_map(|line| {
        let line: LoadLine = serde_json::from_slice(line.trim_ascii()).ok()?;
        line.error
    });
    match (said, is_good) {
        (Some(said), _) => Some(said),
        (None, true) => None,
        (None, false) => {
            let text = String::from_utf8_lossy(&body.concat()).trim().to_owned();
            Some(format!("{status} {text}").trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_says_of_a_load_is_understood() {
        for (answer, error) in [
            (
                "HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"stream\":\"Loaded image: a:1\\n\"}\r\n",
                None,
            ),
            (
                "HTTP/1.0 200 OK\r\n\r\n{\"stream\":\"x\"}\r\n{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n",
                Some("no"),
            ),
            (
                "HTTP/1.0 500 Internal Server Error\r\n\r\n{\"message\":\"full\"}\n",
                Some("HTTP/1.0 500 Internal Server Error {\"message\":\"full\"}"),
            ),
            ("", Some("")),
        ] {
            assert_eq!(
                answer_error(answer.as_bytes()).as_deref(),
                error,
                "{answer}"
            );
        }
    }
}
