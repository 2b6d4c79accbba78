//! `avocado vm docker-context`, and how a client of docker reaches the VM.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use avocado_vm::access;
use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::named::outside_name;
use serde_json::json;

use super::state_dir;
use crate::failure::{Context, Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

const INSTALL: &str = "install one: `docker-cli` or `docker.io` of Debian and Ubuntu, `docker-ce-cli` of \
                       docker.com, `docker` of Homebrew";

pub(super) fn run(session: &Session) -> Result<()> {
    let dir = state_dir(session)?;
    let socket = dir.file(StateFile::Docker);
    let name = outside_name(&dir);
    let program = client(session).ok_or_else(|| {
        Failure::new("there is no client of docker on this machine: no `docker` in PATH")
            .hint(INSTALL)
    })?;
    let host = host_of(&socket)?;
    let change = match known_host(&program, &name)? {
        None => Some("create"),
        Some(known) if known == host => None,
        Some(known) => {
            refuse_that_of_another(&dir, &name, &known)?;
            Some("update")
        }
    };
    if let Some(change) = change {
        let endpoint = endpoint(&format!("host={host}"));
        let description = "the development VM of avocado";
        let line = [
            change,
            &name,
            "--description",
            description,
            "--docker",
            &endpoint,
        ];
        let done = ask(&program, &line)?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let what = format!(
                "`{} context {change} {name}` failed: {}",
                program.display(),
                said.trim()
            );
            let instead = format!("without a context: {}", export_line(&socket));
            return Err(Failure::new(what).hint(instead));
        }
    }
    let mut summary = WorkSummary::default();
    summary.fields.insert("context".into(), json!(name));
    summary.fields.insert("host".into(), json!(host));
    summary
        .fields
        .insert("changed".into(), json!(change.is_some()));
    let done = match change {
        None => format!("docker has the context `{name}`"),
        Some("update") => format!("docker's context `{name}` leads to the VM again"),
        Some(_) => format!("docker has the new context `{name}`"),
    };
    summary.closing = format!(
        "{done}: `docker --context {name} …`, or `docker context use {name}` for all commands"
    );
    session.output.complete(summary)
}

/// A VM of `AVOCADO_VM_STATE_DIR` has no name of its own: the context that another one has stays with it.
fn refuse_that_of_another(dir: &StateDir, name: &str, known: &str) -> Result<()> {
    let other = known.strip_prefix("unix://").map(Path::new);
    let socket = dir.file(StateFile::Docker);
    let other = other.filter(|other| other.file_name() == socket.file_name());
    let other = other.and_then(Path::parent).filter(|other| other.is_dir());
    let is_same = |other: &Path| other.canonicalize().ok() == dir.root().canonicalize().ok();
    match other.filter(|other| !is_same(other)) {
        None => Ok(()),
        Some(other) => Err(Failure::new(format!(
            "docker's context `{name}` is that of another VM, in {}",
            other.display()
        ))
        .hint(format!(
            "without a context: {}; or `docker context rm {name}` first",
            export_line(&socket)
        ))),
    }
}

/// Removes the context of a VM that is deleted. Says what is left to do.
pub(super) fn forget(session: &Session, dir: &StateDir) -> Option<String> {
    let program = client(session)?;
    let name = outside_name(dir);
    let host = host_of(&dir.file(StateFile::Docker)).ok()?;
    let known = known_host(&program, &name).ok()??;
    if known != host {
        return None;
    }
    let removed = ask(&program, &["rm", &name]);
    let is_gone = removed.is_ok_and(|removed| removed.status.success());
    (!is_gone).then(|| {
        format!(
            "docker has the context `{name}` still: `docker context rm --force {name}` removes it"
        )
    })
}

/// Where a context leads that docker has.
fn known_host(program: &Path, name: &str) -> Result<Option<String>> {
    let format = "{{.Endpoints.docker.Host}}";
    let known = ask(program, &["inspect", "--format", format, name])?;
    let host = String::from_utf8_lossy(&known.stdout).trim_end().to_owned();
    Ok(known.status.success().then_some(host))
}

/// How to reach the guest's engine, for whoever has just started the VM.
pub(super) fn way_in(session: &Session, socket: &Path) -> String {
    let export = export_line(socket);
    match client(session) {
        Some(_) => format!("docker: {export}, or once `avocado vm docker-context`"),
        None => format!("docker: there is no client here, {INSTALL}; then {export}"),
    }
}

/// What DOCKER_HOST is for this socket.
pub(super) fn host_of(socket: &Path) -> Result<String> {
    let socket = socket.to_str().ok_or_else(|| {
        let what = format!("docker cannot use {}: it is not UTF-8", socket.display());
        Failure::new(what).hint("set AVOCADO_VM_STATE_DIR to another path")
    })?;
    Ok(format!("unix://{socket}"))
}

fn export_line(socket: &Path) -> String {
    let host = access::shell_word(&format!("unix://{}", socket.display()));
    format!("`export DOCKER_HOST={host}`")
}

/// The client of docker that is on PATH.
fn client(session: &Session) -> Option<PathBuf> {
    let path = session.environment.search_path();
    avocado_fs::find_program("docker", std::env::split_paths(&path))
}

fn ask(program: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program);
    command.arg("context").args(arguments).stdin(Stdio::null());
    let cannot = || format!("cannot run {}", program.display());
    command.output().context(cannot)
}

/// An endpoint as docker takes it: with a second `=` in it, it is read as comma-separated values.
fn endpoint(text: &str) -> String {
    if text.matches('=').count() > 1 {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_or_passed_on_is_one_word() {
        let line = export_line(Path::new("/a b/docker.sock"));
        assert_eq!(line, "`export DOCKER_HOST='unix:///a b/docker.sock'`");
        assert_eq!(endpoint("host=unix:///a, b"), "host=unix:///a, b");
        assert_eq!(endpoint("host=a,=\"b"), "\"host=a,=\"\"b\"");
    }
}
