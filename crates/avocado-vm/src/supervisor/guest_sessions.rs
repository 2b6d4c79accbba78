//! Whether a program runs in a session of ssh in the guest, from what the guest's /proc says.
//!
//! A session is a process of sshd and what it started. A shell that waits at its prompt is no work,
//! and neither is an sftp server; whatever else a session runs is: `ssh … 'sleep 720'`, a build
//! in an open shell, an editor.

use std::collections::{HashMap, HashSet};

/// What lists `/proc/<pid>/stat` of every process. Some end meanwhile, which is no failure.
pub(crate) const LIST_PROCESSES: [&str; 10] = [
    "find",
    "/proc",
    "-maxdepth",
    "2",
    "-path",
    "/proc/[0-9]*/stat",
    "-exec",
    "cat",
    "{}",
    "+",
];

/// What lists who is at the other end of a session, for each process of one.
pub(crate) const LIST_CONNECTIONS: [&str; 12] = [
    "find",
    "/proc",
    "-maxdepth",
    "2",
    "-path",
    "/proc/[0-9]*/environ",
    "-exec",
    "grep",
    "-azsH",
    "^SSH_CONNECTION=",
    "{}",
    "+",
];

/// Deeper than any chain of processes.
const DEPTH_LIMIT: usize = 1000;

/// What waits for its user when it has started nothing.
const WAITING_PROGRAMS: [&str; 8] = [
    "ash",
    "bash",
    "dash",
    "fish",
    "ksh",
    "sftp-server",
    "sh",
    "zsh",
];

struct GuestProcess<'a> {
    parent: u32,
    name: &'a str,
}

/// `uncounted`: the clients' ports of sessions that do not count.
pub(crate) fn runs_program(processes: &str, connections: &str, uncounted: &HashSet<u16>) -> bool {
    let processes: HashMap<u32, GuestProcess<'_>> =
        processes.lines().filter_map(parse_process).collect();
    let ports: HashMap<u32, u16> = connections
        .split('\0')
        .filter_map(parse_connection)
        .collect();
    let parents: HashSet<u32> = processes.values().map(|process| process.parent).collect();
    processes.iter().any(|(id, process)| {
        if parents.contains(id) || is_server(process) || WAITING_PROGRAMS.contains(&process.name) {
            return false;
        }
        let first = first_of_session(&processes, *id);
        first.is_some_and(|first| {
            ports
                .get(&first)
                .is_none_or(|port| !uncounted.contains(port))
        })
    })
}

/// The process that sshd started, with `id` below it or the same.
fn first_of_session(processes: &HashMap<u32, GuestProcess<'_>>, id: u32) -> Option<u32> {
    let mut id = id;
    for _ in 0..DEPTH_LIMIT {
        let parent = processes.get(&id)?.parent;
        if is_server(processes.get(&parent)?) {
            return Some(id);
        }
        id = parent;
    }
    None
}

fn is_server(process: &GuestProcess<'_>) -> bool {
    process.name.starts_with("sshd") || process.name == "dropbear"
}

/// A line such as `7 (sshd-session) S 1 …`. The name may have anything in it. None: it has ended.
fn parse_process(line: &str) -> Option<(u32, GuestProcess<'_>)> {
    let (id, rest) = line.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    (state != "Z").then_some((id.parse().ok()?, GuestProcess { parent, name }))
}

/// Such as `/proc/7/environ:SSH_CONNECTION=10.0.2.2 40412 10.0.2.15 22`: process and port.
fn parse_connection(line: &str) -> Option<(u32, u16)> {
    let (file, value) = line.split_once(":SSH_CONNECTION=")?;
    let id = file.strip_prefix("/proc/")?.strip_suffix("/environ")?;
    let port = value.split(' ').nth(1)?;
    Some((id.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest: sshd, its tunnel to the docker socket, and these besides, `id (name) state parent`.
    fn runs(more: &[&str]) -> bool {
        runs_with(more, "", &[])
    }

    fn runs_with(more: &[&str], connections: &str, uncounted: &[u16]) -> bool {
        let mut all = vec![
            "1 (systemd) S 0",
            "5 (cron) S 1",
            "6 (qemu-ga) S 1",
            "7 (find) S 6",
            "10 (sshd) S 1",
            "11 (sshd-session) S 10",
        ];
        all.extend(more);
        let text: String = all.iter().map(|line| format!("{line} 0 0 0\n")).collect();
        runs_program(&text, connections, &uncounted.iter().copied().collect())
    }

    #[test]
    fn programs_of_sessions_are_work_and_waiting_shells_are_not() {
        let session = "20 (sshd-session) S 10";
        for (processes, expected) in [
            (&[][..], false),
            (&[session][..], false),
            // `ssh vm 'sleep 720'`
            (&[session, "21 (sleep) S 20"][..], true),
            // As a user: one more sshd in between.
            (&[session, "21 (sshd) S 20", "22 (sleep) S 21"][..], true),
            (&[session, "21 (bash) S 20"][..], false),
            (&[session, "21 (bash) S 20", "22 (make) S 21"][..], true),
            (
                &[
                    session,
                    "21 (bash) S 20",
                    "22 (sudo) S 21",
                    "23 (bash) S 22",
                ][..],
                false,
            ),
            (&[session, "21 (bash) S 20", "22 (a (b) c) D 21"][..], true),
            (&[session, "21 (bash) S 20", "22 (make) Z 21"][..], false),
            (&[session, "21 (sftp-server) S 20"][..], false),
            // Left behind by a session, or never in one.
            (&["30 (nohup) S 1", "31 (sleep) S 30"][..], false),
            (&["no line", "40 (x", "41 (sleep) S 41"][..], false),
        ] {
            assert_eq!(runs(processes), expected, "{processes:?}");
        }
        assert!(!runs_program("", "", &HashSet::new()));
    }

    #[test]
    fn sessions_of_lanes_that_do_not_count_do_not_count() {
        let processes = ["20 (sshd-session) S 10", "21 (bash) S 20", "22 (make) S 21"];
        let connections = "/proc/21/environ:SSH_CONNECTION=10.0.2.2 4000 10.0.2.15 22\0\
                           /proc/22/environ:SSH_CONNECTION=10.0.2.2 4000 10.0.2.15 22\0";
        assert!(!runs_with(&processes, connections, &[4000, 1]));
        assert!(runs_with(&processes, connections, &[4001]));
        assert!(runs_with(&processes, "nonsense\0", &[4000]));
    }
}
