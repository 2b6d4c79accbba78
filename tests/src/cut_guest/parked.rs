//! The machine's memory, where its kernel is up and nothing of its disks was looked at. To start from there takes
//! a tenth of the time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::HarnessError;
use crate::error::file;
use crate::wait::until;

/// How long it may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Lets QEMU write the memory of its guest to a file, and end.
pub(super) fn park(monitor: &Path, memory: &Path) -> Result<(), HarnessError> {
    let stream = UnixStream::connect(monitor).map_err(file("connect to", monitor))?;
    let mut talk = Monitor {
        path: monitor,
        answers: BufReader::new(stream),
    };
    let uri = format!("file:{}", memory.display());
    talk.ask("qmp_capabilities", &json!({}))?;
    talk.ask("migrate", &json!({"uri": uri}))?;
    let mut written = || {
        let answer = talk.ask("query-migrate", &json!({}))?;
        match answer["status"].as_str() {
            Some("completed") => Ok(Some(())),
            Some("failed" | "cancelled") => Err(talk.failed(&answer.to_string())),
            _ => Ok(None),
        }
    };
    until("the memory of a guest", LIMIT, &mut written, String::new)?;
    talk.ask("quit", &json!({})).map(drop)
}

struct Monitor<'a> {
    path: &'a Path,
    answers: BufReader<UnixStream>,
}

impl Monitor<'_> {
    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value, HarnessError> {
        let question = json!({"execute": command, "arguments": arguments});
        let written = self
            .answers
            .get_mut()
            .write_all(format!("{question}\n").as_bytes());
        written.map_err(file("write to", self.path))?;
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line);
            if read.map_err(file("read from", self.path))? == 0 {
                return Err(self.failed("it ended"));
            }
            // Events and the greeting are in between.
            let mut answer: Value = serde_json::from_str(&line).unwrap_or_default();
            if answer.get("error").is_some() {
                return Err(self.failed(&line));
            }
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    fn failed(&self, why: &str) -> HarnessError {
        file("use", self.path)(std::io::Error::other(why.to_owned()))
    }
}
