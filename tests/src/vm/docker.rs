//! A container engine behind a docker socket, and an image that is small enough for an emulated
//! guest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::http::{HttpAnswer, request};
use crate::HarnessError;
use crate::error::file;
use crate::feed::debian_parts;
use crate::tools::ToolCall;

/// The image that [`DockerEngine::import`] makes.
const IMAGE: &str = "tiny:1";

/// The engine.
#[derive(Debug, Clone)]
pub struct DockerEngine {
    socket: PathBuf,
}

impl DockerEngine {
    /// The engine behind `socket`. Nothing is asked yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        DockerEngine {
            socket: socket.into(),
        }
    }

    /// Asks, and takes every answer but a good one for an error.
    ///
    /// # Errors
    /// There is no answer, or it is no good one.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<HttpAnswer, HarnessError> {
        let body = body.map(Value::to_string);
        let body = body.as_ref().map(|b| ("application/json", b.as_bytes()));
        self.checked(method, path, body)
    }

    fn checked(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<HttpAnswer, HarnessError> {
        let answer = request(&self.socket, method, path, body)?;
        if (200..400).contains(&answer.status) {
            return Ok(answer);
        }
        let text = format!("{method} {path}: {} {}", answer.status, answer.text());
        Err(file("use", &self.socket)(io::Error::other(text)))
    }

    /// Gives it an image with busybox and nothing else.
    ///
    /// # Errors
    /// There is no busybox in the cache of the sample feed, or the engine does not want it.
    pub fn import(&self, scratch: &Path) -> Result<(), HarnessError> {
        let root = scratch.join("tiny");
        let bin = root.join("bin");
        fs::create_dir_all(&bin).map_err(file("make", &bin))?;
        let busybox = busybox()?;
        fs::copy(&busybox, bin.join("busybox")).map_err(file("copy", &busybox))?;
        let archive = scratch.join("tiny.tar");
        let pack = ToolCall::new("tar").args(["--owner=0", "--group=0", "-cf"]);
        pack.arg(&archive).arg("-C").arg(&root).arg("bin").ok()?;
        let bytes = fs::read(&archive).map_err(file("read", &archive))?;
        let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
        let path = format!("/v1.41/images/create?fromSrc=-&repo={name}&tag={tag}");
        self.checked("POST", &path, Some(("application/x-tar", &bytes)))?;
        Ok(())
    }

    /// Starts a container of that image; answers with its id.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn start(&self, command: &[&str]) -> Result<String, HarnessError> {
        self.start_with(&[], command)
    }

    /// The same with directories, each as `docker run -v` takes it.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn start_with(&self, binds: &[&str], command: &[&str]) -> Result<String, HarnessError> {
        let mut line = vec!["/bin/busybox"];
        line.extend(command);
        let container = json!({
            "Image": IMAGE,
            "Cmd": line,
            // So that its output is not cut into frames.
            "Tty": true,
            "HostConfig": { "NetworkMode": "none", "Binds": binds },
        });
        let made = self.ask("POST", "/v1.41/containers/create", Some(&container))?;
        let made = made.json();
        let id = made["Id"].as_str().unwrap_or_default().to_owned();
        self.ask("POST", &format!("/v1.41/containers/{id}/start"), None)?;
        Ok(id)
    }

    /// Waits for its end; answers with its exit code and what it said.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn wait(&self, id: &str) -> Result<(i64, String), HarnessError> {
        let end = self.ask("POST", &format!("/v1.41/containers/{id}/wait"), None)?;
        let code = end.json()["StatusCode"].as_i64().unwrap_or(-1);
        let logs = format!("/v1.41/containers/{id}/logs?stdout=1&stderr=1");
        Ok((code, self.ask("GET", &logs, None)?.text()))
    }

    /// How many containers run.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn running(&self) -> Result<usize, HarnessError> {
        let all = self.ask("GET", "/v1.41/containers/json", None)?.json();
        Ok(all.as_array().map_or(0, Vec::len))
    }

    /// Ends a container and forgets it.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn remove(&self, id: &str) -> Result<(), HarnessError> {
        // It would be asked first, and has no reason to listen.
        let _ = self.ask("POST", &format!("/v1.41/containers/{id}/kill"), None);
        let path = format!("/v1.41/containers/{id}?force=1");
        self.ask("DELETE", &path, None).map(drop)
    }
}

/// The static busybox among the parts of the sample feed.
fn busybox() -> Result<PathBuf, HarnessError> {
    let busybox = |parts: PathBuf| parts.join("busybox/usr/bin/busybox");
    let not_there = |missing: PathBuf| file("find busybox in", missing)(io::ErrorKind::NotFound);
    debian_parts().map(busybox).map_err(not_there)
}
