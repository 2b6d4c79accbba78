//! Copying files into the guest and out of it, with the `scp` of OpenSSH.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::dir::{StateDir, StateFile};
use crate::named;

/// What a path in the guest begins with.
pub const GUEST: &str = "guest:";

/// Why a copy is none between the guest and this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopySidesError {
    /// A path is empty.
    #[error("a path of the copy is empty")]
    Empty,
    /// No path is in the guest.
    #[error("no path of the copy is in the guest")]
    NoGuest,
    /// Sources and destination are in the guest.
    #[error("both sides of the copy are in the guest")]
    BothGuest,
    /// Some sources are in the guest, others are not.
    #[error("of several sources some are in the guest and some are not")]
    Mixed,
}

/// The arguments of `scp` for a copy of `sources` to `destination`, one side of which is in the guest
/// (`guest:PATH`). Every path is taken as it is, whatever characters it has.
///
/// # Errors
/// Not exactly one side is in the guest, or a path is empty.
pub fn scp_arguments(
    dir: &StateDir,
    sources: &[OsString],
    destination: &OsStr,
    recursive: bool,
) -> Result<Vec<OsString>, CopySidesError> {
    // Most likely a variable that is not set; this directory with everything in it is not meant.
    if destination.is_empty() || sources.iter().any(|path| path.is_empty()) {
        return Err(CopySidesError::Empty);
    }
    let in_guest = sources
        .iter()
        .filter(|path| guest_path(path).is_some())
        .count();
    let to_guest = guest_path(destination);
    match (in_guest, &to_guest) {
        (0, None) => return Err(CopySidesError::NoGuest),
        (0, Some(_)) => {}
        (count, _) if count < sources.len() => return Err(CopySidesError::Mixed),
        (_, Some(_)) => return Err(CopySidesError::BothGuest),
        (_, None) => {}
    }
    let host = named::outside_name(dir);
    let mut all: Vec<OsString> = vec!["-F".into(), dir.file(StateFile::SshConfig).into()];
    // Without it scp before 9.0 lets a shell of the guest read each path; before 8.7 there is none, and it fails.
    all.push("-s".into());
    if recursive {
        all.push("-r".into());
    }
    all.push("--".into());
    // scp looks for names that match a source in the guest; a destination it takes as it is.
    all.extend(sources.iter().map(|path| match guest_path(path) {
        Some(path) => remote(&host, &without_patterns(path)),
        None => local(path),
    }));
    all.push(match to_guest {
        Some(path) => remote(&host, path),
        None => local(destination),
    });
    Ok(all)
}

/// The path in the guest that this means, if it means one.
fn guest_path(path: &OsStr) -> Option<&[u8]> {
    path.as_bytes().strip_prefix(GUEST.as_bytes())
}

fn remote(host: &str, path: &[u8]) -> OsString {
    let mut all = format!("{host}:").into_bytes();
    // `~` alone and `~/` are the home directory; `~name` would be that of another user.
    if path.starts_with(b"~") && path != b"~" && !path.starts_with(b"~/") {
        all.extend(b"./");
    }
    all.extend(path);
    OsString::from_vec(all)
}

/// A path of this machine that scp cannot take for one elsewhere, or for an option.
fn local(path: &OsStr) -> OsString {
    if path.as_bytes().starts_with(b"/") {
        return path.to_owned();
    }
    let mut all = OsString::from("./");
    all.push(path);
    all
}

/// A path that as a pattern matches itself alone.
fn without_patterns(path: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(path.len());
    for byte in path {
        if b"*?[]\\".contains(byte) {
            all.push(b'\\');
        }
        all.push(*byte);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(paths: &[&str], recursive: bool) -> Result<Vec<String>, CopySidesError> {
        arguments_in("/s", paths, recursive)
    }

    fn arguments_in(
        dir: &str,
        paths: &[&str],
        recursive: bool,
    ) -> Result<Vec<String>, CopySidesError> {
        let dir = StateDir::new(dir);
        let paths: Vec<OsString> = paths.iter().map(Into::into).collect();
        let (destination, sources) = paths.split_last().unwrap();
        let all = scp_arguments(&dir, sources, destination, recursive)?;
        Ok(all
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect())
    }

    #[test]
    fn paths_stay_paths() {
        let paths = |paths: &[&str]| arguments(paths, false).unwrap().split_off(4);
        assert_eq!(
            arguments(&["-r", "/b", "guest:/c"], true).unwrap(),
            [
                "-F",
                "/s/ssh-config",
                "-s",
                "-r",
                "--",
                "./-r",
                "/b",
                "avocado-vm:/c"
            ]
        );
        assert_eq!(paths(&["host:a", "guest:"]), ["./host:a", "avocado-vm:"]);
        assert_eq!(
            paths(&["a", "guest:/[x] *'$(y)\\"]),
            ["./a", "avocado-vm:/[x] *'$(y)\\"]
        );
        assert_eq!(
            paths(&["guest:/[x] *'$(y)\\", "guest:~/a", "guest:~a", "."]),
            [
                r"avocado-vm:/\[x\] \*'$(y)\\",
                "avocado-vm:~/a",
                "avocado-vm:./~a",
                "./."
            ]
        );
        // Not at its beginning it is a name like others.
        assert_eq!(
            paths(&["./guest:a", "guest:b"]),
            ["././guest:a", "avocado-vm:b"]
        );
    }

    #[test]
    fn the_host_is_that_of_the_ssh_configuration() {
        let place = tempfile::tempdir().unwrap();
        for (dir, name) in [
            ("vm", "avocado-vm"),
            ("vms/web", "avocado-vm-web"),
            ("x", "avocado-vm"),
        ] {
            let root = place.path().join(dir);
            let dir = StateDir::new(&root);
            dir.create().unwrap();
            crate::access::write_ssh_config(&dir, 2222).unwrap();
            let config = std::fs::read_to_string(dir.file(StateFile::SshConfig)).unwrap();
            assert_eq!(config.lines().next().unwrap(), format!("Host {name}"));
            let root = root.to_str().unwrap();
            let there = arguments_in(root, &["a", "guest:b"], false).unwrap();
            assert_eq!(there.last().unwrap(), &format!("{name}:b"));
            let back = arguments_in(root, &["guest:b", "a"], false).unwrap();
            assert_eq!(back[4], format!("{name}:b"));
        }
    }

    #[test]
    fn one_side_is_the_guest() {
        for (paths, expected) in [
            (&["", "guest:a"][..], CopySidesError::Empty),
            (&["guest:a", ""], CopySidesError::Empty),
            (&["", ""], CopySidesError::Empty),
            (&["a", "b"], CopySidesError::NoGuest),
            (&["guest:a", "guest:b"], CopySidesError::BothGuest),
            (&["guest:a", "b", "c"], CopySidesError::Mixed),
            (&["guest:a", "b", "guest:c"], CopySidesError::Mixed),
        ] {
            assert_eq!(arguments(paths, false).unwrap_err(), expected, "{paths:?}");
        }
    }
}
