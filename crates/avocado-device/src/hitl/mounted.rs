//! The mounts themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_events::Sink;
use avocado_manifest::Name;
use rustix::mount::UnmountFlags;

use super::record::HitlRecord;
use super::report;
use super::server::HitlServer;
use crate::error::FailureReason;
use crate::merge::release::ExtensionClass;
use crate::merge::state::{HitlLayer, MergedState};
use crate::merge::{mounts, swap};
use crate::paths::DevicePaths;
use crate::tool;

/// How long a mount may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What an extension is mounted with, beside where from. Read-only, and soft: a call to a server
/// that does not answer fails after three times two seconds. What is on the server is asked for
/// again after a second at most, names each time, so that a change is seen soon.
const OPTIONS: &str = "ro,nodev,vers=4.1,proto=tcp,soft,timeo=20,retrans=2,\
                       acregmin=0,acregmax=1,acdirmin=0,acdirmax=1,lookupcache=none";

/// Where an extension is mounted.
pub(super) fn place(paths: &DevicePaths, name: &Name) -> PathBuf {
    directory(paths).join(name.as_str())
}

fn directory(paths: &DevicePaths) -> PathBuf {
    paths.run.join("hitl")
}

/// The extensions that are mounted, with where that is.
pub(crate) fn mounted(paths: &DevicePaths) -> Vec<(HitlLayer, PathBuf)> {
    let record = HitlRecord::load(paths);
    let mounts = record.mounts.into_iter();
    mounts
        .map(|mount| {
            let place = place(paths, &mount.name);
            let layer = HitlLayer {
                name: mount.name,
                mount: mount.id,
                revision: mount.revision,
            };
            (layer, place)
        })
        .collect()
}

/// Mounts an extension, in the place of what was mounted there.
pub(super) fn mount(
    paths: &DevicePaths,
    server: &HitlServer,
    name: &Name,
) -> Result<(), FailureReason> {
    let place = place(paths, name);
    unmount(paths, name)?;
    fs::create_dir_all(&place).map_err(FailureReason::file("create", &place))?;
    let arguments = arguments(server, name, &place);
    let mounted = tool::must_within(&paths.tools.mount, &arguments, LIMIT);
    mounted.map(drop).inspect_err(|_| {
        // Only of use with something mounted on it.
        let _ = fs::remove_dir(&place);
    })
}

/// What `mount` is called with. `-i`: the kernel alone does it, whether the device has a helper for
/// it or not, so that all do the same. It takes the address as an option.
fn arguments(server: &HitlServer, name: &Name, place: &Path) -> Vec<String> {
    let options = format!("{OPTIONS},addr={},port={}", server.address, server.port);
    let source = format!("{}:/{name}", server.host());
    let place = place.display().to_string();
    let fixed = ["-i", "-t", "nfs4", "-o"].map(str::to_owned);
    let rest = [options, "--".to_owned(), source, place];
    fixed.into_iter().chain(rest).collect()
}

/// Unmounts an extension; a success also where nothing is mounted.
pub(super) fn unmount(paths: &DevicePaths, name: &Name) -> Result<(), FailureReason> {
    let place = place(paths, name);
    mounts::unmount(&place)?;
    // Not through what may still hang there: the directory below is our own.
    match fs::remove_dir(&place) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(FailureReason::file("remove", &place)(e))
        }
        _ => Ok(()),
    }
}

/// Takes everything away that would ask servers that are gone: calls that wait fail, and the overlays
/// of which the mounts are a part go, whole, until they are merged again. No program is started for
/// it, for programs are in those overlays.
pub(super) fn cut_off(paths: &DevicePaths, names: &[Name], sink: &dyn Sink) {
    for name in names {
        let place = place(paths, name);
        let flags = UnmountFlags::FORCE | UnmountFlags::NOFOLLOW;
        // It is in use; what counts is that the calls end.
        let _ = rustix::mount::unmount(&place, flags);
    }
    for class in ExtensionClass::BOTH {
        report(sink, swap::take_away(class));
    }
    let merged = MergedState::load(&paths.merged());
    for name in names {
        report(sink, mounts::detach(&place(paths, name)));
        if let Some(extension) = merged.of_server(name) {
            let layer = paths.mounts().join(extension.image.full_name());
            report(sink, mounts::detach(&layer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part of what an edit takes to get here; the others are the server's.
    #[test]
    fn nothing_is_believed_of_a_server_for_longer_than_a_second() {
        let options: Vec<(&str, &str)> = OPTIONS
            .split(',')
            .map(|option| option.split_once('=').unwrap_or((option, "")))
            .collect();
        let value = |name| options.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        for name in ["acregmin", "acregmax", "acdirmin", "acdirmax"] {
            let seconds: u32 = value(name).unwrap().parse().unwrap();
            assert!(seconds <= 1, "{name}={seconds}");
        }
        assert_eq!(value("lookupcache"), Some("none"));
    }

    #[test]
    fn what_mount_is_called_with() {
        let paths = DevicePaths::new("/base");
        let name: Name = "my-ext".parse().unwrap();
        let of = |server: HitlServer| arguments(&server, &name, &place(&paths, &name));
        let v4 = of(HitlServer::new("10.0.2.2".parse().unwrap(), None));
        assert_eq!(v4[..4], ["-i", "-t", "nfs4", "-o"]);
        assert!(v4[4].starts_with("ro,nodev,vers=4.1,"), "{}", v4[4]);
        assert!(v4[4].ends_with(",addr=10.0.2.2,port=12049"), "{}", v4[4]);
        assert_eq!(
            v4[5..],
            ["--", "10.0.2.2:/my-ext", "/run/avocado/hitl/my-ext"]
        );
        let v6 = of(HitlServer::new("fd00::2".parse().unwrap(), Some(1)));
        assert!(v6[4].ends_with(",addr=fd00::2,port=1"), "{}", v6[4]);
        assert_eq!(v6[6], "[fd00::2]:/my-ext");
    }
}
