//! The child's side on another machine than its parent's: what it mounts, and by what it sees that its
//! parent lives.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::points;
use super::shares::TEMPORARY;
use crate::host::namespace::{self, NamespaceError};
use crate::protocol::{Failure, NfsShare, RemotePlace};

/// Where tools are, also those that a login of root's finds alone.
const TOOLS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long nothing may come from a parent that lives, which writes every few seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// What belongs to users of that machine, who are no users of this project.
const HOMES: [&str; 2] = ["/home", "/root"];

/// No answer for half a minute is an error. Without this (`hard`) a job would wait for a network that is
/// cut until it is there again, and its end would wait too. Each job has a cache of its own, so it sees
/// what was written here before it began; and files that are not there are looked for again.
const OPTIONS: &str = "vers=4.2,proto=tcp,sec=sys,soft,timeo=100,retrans=2,nosharecache,\
                       lookupcache=positive";

/// A share could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {server}:/{name} over NFS")]
struct ShareError {
    action: &'static str,
    server: SocketAddr,
    name: String,
    #[source]
    source: io::Error,
}

/// PATH for tools here.
pub(crate) fn search_path(stated: &OsStr) -> OsString {
    let mut path = stated.to_owned();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(TOOLS);
    path
}

/// Ends this process, and so all that it started, when nothing has come from the parent for a while or its
/// end has come.
pub(crate) fn end_with(parent: impl Read + Send + 'static) {
    watch(parent, SILENCE, end);
}

#[allow(clippy::exit, reason = "this process has nothing to live for any more")]
fn end() {
    std::process::exit(1);
}

/// Calls `end` once when nothing comes for as long as `silence`, or no more ever.
fn watch(mut parent: impl Read + Send + 'static, silence: Duration, end: fn()) {
    let heard = Arc::new(Mutex::new(Instant::now()));
    let hears = heard.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while matches!(parent.read(&mut buffer), Ok(1..)) {
            *hears.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        end();
    });
    std::thread::spawn(move || {
        let last = || *heard.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(left) = left(last(), Instant::now(), silence) {
            std::thread::sleep(left);
        }
        end();
    });
}

/// How much longer it may be silent, if it may.
fn left(last: Instant, now: Instant, silence: Duration) -> Option<Duration> {
    let left = silence.checked_sub(now.saturating_duration_since(last))?;
    (!left.is_zero()).then_some(left)
}

/// What was mounted for this job, to see at its end that all of it has arrived.
#[derive(Debug, Default)]
pub(crate) struct MountedShares(Vec<(NfsShare, File)>);

impl MountedShares {
    /// Waits until all that was written is with the parent. A tool may not have asked.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        for (share, root) in &self.0 {
            let synced = rustix::fs::syncfs(root.as_fd());
            synced
                .map_err(|e| Failure::of_share(&error("write to the end of", share, e.into())))?;
        }
        Ok(())
    }
}

/// Makes this namespace what the job is to see.
pub(crate) fn enter(place: &RemotePlace) -> Result<MountedShares, Failure> {
    let of_view = |e: NamespaceError| Failure::of_namespace(&e, e.is_refusal());
    // Without this the mounts below would appear outside too.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| Failure::of(&io::Error::from(e)))?;
    let mut view = place.view.clone();
    let home = HOMES.iter().map(PathBuf::from);
    view.hidden.extend(home);
    let targets: Vec<&Path> = view.mounts.iter().map(|m| m.target.as_path()).collect();
    points::make(&targets, &view.hidden).map_err(of_view)?;
    let shares = mount_all(&place.shares).map_err(|e| Failure::of_share(&e))?;
    namespace::enter(&view).map_err(of_view)?;
    // Over there files are the parent's, whoever they are given to.
    if !place.shares.is_empty() {
        let _ = crate::host::owners::keep();
    }
    Ok(shares)
}

fn mount_all(shares: &[NfsShare]) -> Result<MountedShares, ShareError> {
    let mut mounted = Vec::new();
    if let Some(first) = shares.first() {
        // What the machine has in there stays as it is.
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        mount("tmpfs", TEMPORARY, "tmpfs", flags, Some(c"mode=1777"))
            .map_err(|e| error("make a place for", first, e.into()))?;
    }
    for share in shares {
        fs::create_dir_all(&share.point).map_err(|e| error("make a place for", share, e))?;
        let root = mount_one(share).map_err(|e| error("mount", share, e))?;
        mounted.push((share.clone(), root));
    }
    Ok(MountedShares(mounted))
}

fn mount_one(share: &NfsShare) -> io::Result<File> {
    let (source, options) = words(share);
    let options = CString::new(options).map_err(io::Error::other)?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount(
        source,
        &share.point,
        "nfs4",
        flags,
        Some(options.as_c_str()),
    )?;
    File::open(&share.point)
}

/// What the kernel's client is told: what is mounted, and how. See nfs(5); `addr` is what mount.nfs finds
/// out.
fn words(share: &NfsShare) -> (String, String) {
    let ip = share.server.ip();
    let host = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let port = share.server.port();
    (
        format!("{host}:/{}", share.name),
        format!("{OPTIONS},port={port},addr={ip}"),
    )
}

fn error(action: &'static str, share: &NfsShare, source: io::Error) -> ShareError {
    ShareError {
        action,
        server: share.server,
        name: share.name.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn the_client_is_told_where_the_server_is() {
        for (server, source, end) in [
            (
                "10.0.0.1:12050",
                "10.0.0.1:/src",
                ",port=12050,addr=10.0.0.1",
            ),
            (
                "[fd00::1]:12051",
                "[fd00::1]:/src",
                ",port=12051,addr=fd00::1",
            ),
        ] {
            let (found, options) = words(&NfsShare {
                server: server.parse().unwrap(),
                name: "src".to_owned(),
                point: "/tmp/x".into(),
            });
            assert_eq!(found, source);
            assert!(options.ends_with(end), "{options}");
            assert!(options.contains(",soft,"), "{options}");
        }
    }

    #[test]
    fn tools_of_root_are_found_too() {
        assert_eq!(search_path("".as_ref()), TOOLS);
        let path = search_path("/opt/bin".as_ref());
        assert!(
            path.to_str()
                .unwrap()
                .starts_with("/opt/bin:/usr/local/sbin:")
        );
    }

    fn until(is: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is() {
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_parent_that_is_silent_is_as_good_as_gone() {
        static ENDS: AtomicU32 = AtomicU32::new(0);
        let (parent, child) = UnixStream::pair().unwrap();
        watch(child, Duration::from_millis(20), || {
            ENDS.fetch_add(1, Ordering::Relaxed);
        });
        until(|| ENDS.load(Ordering::Relaxed) > 0);
        drop(parent);
    }

    #[test]
    fn silence_counts_from_the_last_that_came() {
        let seconds = Duration::from_secs;
        let begin = Instant::now();
        let left_after = |last: u64, now: u64| {
            let at = |second| begin + seconds(second);
            left(at(last), at(now), seconds(30))
        };
        assert_eq!(left_after(0, 0), Some(seconds(30)));
        // What came one second after it began counts no longer than 30 seconds.
        assert_eq!(left_after(1, 30), Some(seconds(1)));
        assert_eq!(left_after(1, 31), None);
        assert_eq!(left_after(1, 60), None);
        assert_eq!(left_after(5, 4), Some(seconds(30)));
    }

    #[test]
    fn one_that_closes_is_gone_at_once() {
        static ENDS: AtomicU32 = AtomicU32::new(0);
        let (mut parent, child) = UnixStream::pair().unwrap();
        watch(child, Duration::from_secs(3600), || {
            ENDS.fetch_add(1, Ordering::Relaxed);
        });
        parent.write_all(b"\n").unwrap();
        assert_eq!(ENDS.load(Ordering::Relaxed), 0);
        drop(parent);
        until(|| ENDS.load(Ordering::Relaxed) > 0);
    }
}
