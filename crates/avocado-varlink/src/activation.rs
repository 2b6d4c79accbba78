//! Sockets that a service manager opened for this process (`sd_listen_fds(3)`).

use std::os::fd::{FromRawFd, OwnedFd};

/// The first descriptor that is passed.
const FIRST: i32 = 3;

/// More descriptors than any service manager passes.
const MOST: i32 = 64;

/// The variables with which a service manager announces sockets. The caller reads them from the
/// environment.
#[derive(Debug, Clone, Default)]
pub struct ListenVariables {
    /// `LISTEN_PID`: the process that they are meant for.
    pub pid: Option<String>,
    /// `LISTEN_PIDFDID`: the same process, told apart from later ones with its number.
    pub pidfd_id: Option<String>,
    /// `LISTEN_FDS`: how many there are.
    pub fds: Option<String>,
    /// `LISTEN_FDNAMES`: their names, separated by colons.
    pub names: Option<String>,
}

impl ListenVariables {
    /// The numbers of the descriptors that are meant for this process and for varlink: the only
    /// one, or, of several, those named `varlink`.
    pub fn descriptors(&self) -> Vec<i32> {
        let own = rustix::process::getpid();
        if self.pid.as_deref() != Some(own.as_raw_nonzero().to_string().as_str()) {
            return Vec::new();
        }
        if let Some(id) = &self.pidfd_id
            && pidfd_id(own).is_none_or(|own| own.to_string() != *id)
        {
            return Vec::new();
        }
        let count = self
            .fds
            .as_deref()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        if !(0..=MOST).contains(&count) {
            return Vec::new();
        }
        let all = FIRST..FIRST + count;
        if count <= 1 {
            return all.collect();
        }
        let names = self.names.as_deref().unwrap_or_default().split(':');
        all.zip(names)
            .filter(|(_, name)| *name == "varlink")
            .map(|(fd, _)| fd)
            .collect()
    }

    /// Takes the sockets of [`descriptors`](Self::descriptors), each with whether it listens; one
    /// that does not is a connection. Children do not inherit them.
    ///
    /// # Errors
    /// When a descriptor is not an open socket.
    #[allow(unsafe_code)]
    pub fn take(&self) -> std::io::Result<Vec<(OwnedFd, bool)>> {
        let take = |raw| {
            // SAFETY: the service manager opened this descriptor for us and nothing else in this
            // process refers to it; `fcntl` below fails when it is not open after all, and then
            // the number is given up again without being closed.
            let fd = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(raw) });
            rustix::io::fcntl_setfd(&*fd, rustix::io::FdFlags::CLOEXEC)?;
            let fd = std::mem::ManuallyDrop::into_inner(fd);
            let listens = rustix::net::sockopt::socket_acceptconn(&fd)?;
            Ok((fd, listens))
        };
        self.descriptors().into_iter().map(take).collect()
    }
}

/// The number of the file behind a process descriptor, unique over the uptime on Linux 6.9 and
/// later.
fn pidfd_id(pid: rustix::process::Pid) -> Option<u64> {
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    Some(rustix::fs::fstat(fd).ok()?.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_us() {
        let own = std::process::id().to_string();
        let make = |pid: &str, fds: &str, names: &str| ListenVariables {
            pid: Some(pid.into()),
            pidfd_id: None,
            fds: Some(fds.into()),
            names: Some(names.into()),
        };
        for (variables, expected) in [
            (ListenVariables::default(), vec![]),
            (make("1", "1", "varlink"), vec![]),
            (make(&own, "1", "varlink"), vec![3]),
            (make(&own, "1", "anything"), vec![3]),
            (make(&own, "3", "a:varlink:b"), vec![4]),
            (make(&own, "2", "varlink:varlink"), vec![3, 4]),
            (make(&own, "2", ""), vec![]),
            (make(&own, "0", ""), vec![]),
            (make(&own, "-1", ""), vec![]),
            (make(&own, "99999999999", "varlink"), vec![]),
            (make(&own, "100", "varlink"), vec![]),
        ] {
            assert_eq!(variables.descriptors(), expected, "{variables:?}");
        }
        let other = ListenVariables {
            pidfd_id: Some("0".into()),
            ..make(&own, "1", "varlink")
        };
        assert_eq!(other.descriptors(), Vec::<i32>::new());
    }
}
