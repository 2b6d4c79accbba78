//! What systemd is told: the services of an extension end with its mount.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use super::mounted::place;
use crate::error::FailureReason;
use crate::merge::content::is_unit;
use crate::merge::state::MergedState;
use crate::paths::DevicePaths;
use crate::store::files;

/// The unit by which systemd knows what is mounted at `path`, which is absolute: systemd.unit(5),
/// "string escaping for inclusion in unit names".
pub(super) fn mount_unit(path: &Path) -> String {
    let parts: Vec<&[u8]> = path
        .as_os_str()
        .as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .collect();
    let mut name = String::new();
    if parts.is_empty() {
        name.push('-');
    }
    for (at, byte) in parts.join(&b'/').into_iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b'_' | b'.' | b':' => name.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name.push_str(".mount");
    name
}

/// Lets the services of what is merged from servers need the mounts, and end with them; no other
/// service does any more. Returns what went wrong. It counts from the manager's next reload on.
pub(crate) fn bind_services(paths: &DevicePaths, merged: &MergedState) -> Vec<FailureReason> {
    let mut failed = Vec::new();
    let mut wanted = BTreeSet::new();
    for extension in &merged.extensions {
        let Some(layer) = &extension.image.hitl else {
            continue;
        };
        for service in &extension.services {
            match bind(paths, &layer.name, service) {
                Ok(file) => drop(wanted.insert(file)),
                Err(reason) => failed.push(reason),
            }
        }
    }
    let bound = drop_ins(&paths.systemd).unwrap_or_else(|reason| {
        failed.push(reason);
        Vec::new()
    });
    let stale = bound.into_iter().filter(|file| !wanted.contains(file));
    failed.extend(stale.filter_map(|file| remove(&file).err()));
    failed
}

/// Lets a service need the mount of an extension, and end with it. The name of the service is the
/// server's: one that is none is refused.
fn bind(paths: &DevicePaths, name: &Name, service: &str) -> Result<PathBuf, FailureReason> {
    if !is_unit_name(service) {
        return Err(FailureReason::HitlService {
            extension: name.to_string(),
            service: service.to_owned(),
        });
    }
    let place = place(paths, name);
    let directory = paths.systemd.join(format!("{service}.d"));
    fs::create_dir_all(&directory).map_err(FailureReason::file("create", &directory))?;
    let file = directory.join(file_name(name));
    fs::write(&file, drop_in(&place)).map_err(FailureReason::file("write", &file))?;
    Ok(file)
}

/// The services that [`bind_services`] bound to the mount of an extension.
pub(super) fn bound(paths: &DevicePaths, name: &Name) -> Result<Vec<String>, FailureReason> {
    let files = drop_ins(&paths.systemd)?.into_iter();
    let files = files.filter(|file| file.ends_with(file_name(name)));
    let services = files.filter_map(|file| {
        let directory = file.parent()?.file_name()?.to_str()?;
        directory.strip_suffix(".d").map(str::to_owned)
    });
    Ok(services.collect())
}

/// Ends what [`bind_services`] did for an extension. Returns whether there was anything.
pub(super) fn unbind(paths: &DevicePaths, name: &Name) -> Result<bool, FailureReason> {
    let mut any = false;
    for file in drop_ins(&paths.systemd)? {
        if file.ends_with(file_name(name)) {
            remove(&file)?;
            any = true;
        }
    }
    Ok(any)
}

fn remove(file: &Path) -> Result<(), FailureReason> {
    files::remove(file)?;
    if let Some(directory) = file.parent() {
        // Another extension may have something there.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

/// All files that [`bind`] wrote.
fn drop_ins(systemd: &Path) -> Result<Vec<PathBuf>, FailureReason> {
    let mut all = Vec::new();
    for directory in drop_in_directories(systemd)? {
        let names = files::names(&directory)?.into_iter();
        let ours = names.filter(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        all.extend(ours.map(|name| directory.join(name)));
    }
    Ok(all)
}

/// What the names of our files begin and end with.
const PREFIX: &str = "10-hitl-";
const SUFFIX: &str = ".conf";

fn drop_in_directories(systemd: &Path) -> Result<Vec<PathBuf>, FailureReason> {
    if !systemd.exists() {
        return Ok(Vec::new());
    }
    let names = files::names(systemd)?.into_iter();
    let names = names.filter(|name| name.ends_with(".d"));
    Ok(names.map(|name| systemd.join(name)).collect())
}

fn file_name(name: &Name) -> String {
    format!("{PREFIX}{name}{SUFFIX}")
}

fn drop_in(place: &Path) -> String {
    let unit = mount_unit(place);
    // `%` begins a specifier. (A name of ours has no space and no quote.)
    let path = place.display().to_string().replace('%', "%%");
    let escaped = unit.replace('%', "%%");
    format!(
        "[Unit]\nRequiresMountsFor={path}\nBindsTo={escaped}\nAfter={escaped} remote-fs.target\n"
    )
}

/// Whether a text is the name of a unit that can have a service in it: characters as in
/// systemd.unit(5), and no path.
fn is_unit_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    is_unit(text) && !text.starts_with('.') && text.len() < 256 && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `systemd-escape --path --suffix=mount` says of the same.
    #[test]
    fn units_are_named_as_systemd_names_them() {
        for (path, unit) in [
            ("/", "-.mount"),
            ("/run/avocado/hitl/app", "run-avocado-hitl-app.mount"),
            (
                "/run/avocado/hitl/my-ext",
                r"run-avocado-hitl-my\x2dext.mount",
            ),
            ("//run///x/", "run-x.mount"),
            ("/.a/.b", r"\x2ea-.b.mount"),
            ("/a b/c%d", r"a\x20b-c\x25d.mount"),
            ("/a_b:c.d", "a_b:c.d.mount"),
            ("/a+b@c~d", r"a\x2bb\x40c\x7ed.mount"),
            ("/ä", r"\xc3\xa4.mount"),
            (r"/back\slash", r"back\x5cslash.mount"),
        ] {
            assert_eq!(mount_unit(Path::new(path)), unit, "{path}");
        }
    }

    #[test]
    fn services_come_and_go_with_what_is_merged() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = DevicePaths::new(dir.path());
        paths.systemd = dir.path().join("units");
        let (app, other): (Name, Name) = ("my-app".parse().unwrap(), "other".parse().unwrap());
        let merged = |all: &[(&Name, &[&str])]| {
            let extensions = all.iter().map(|(name, services)| {
                serde_json::json!({
                    "name": name, "file": "", "link": "", "sysext": true, "confext": false,
                    "services": services, "hitl": {"name": name, "mount": 1},
                })
            });
            let extensions: Vec<_> = extensions.collect();
            let state = serde_json::json!({"extensions": extensions});
            let state: MergedState = serde_json::from_value(state).unwrap();
            assert!(bind_services(&paths, &state).is_empty());
        };
        merged(&[]);
        assert!(!unbind(&paths, &app).unwrap());
        merged(&[
            (&app, &["a.service", "b@1.socket"]),
            (&other, &["a.service"]),
        ]);
        let written = paths.systemd.join("a.service.d/10-hitl-my-app.conf");
        assert_eq!(
            fs::read_to_string(written).unwrap(),
            "[Unit]\nRequiresMountsFor=/run/avocado/hitl/my-app\n\
             BindsTo=run-avocado-hitl-my\\x2dapp.mount\n\
             After=run-avocado-hitl-my\\x2dapp.mount remote-fs.target\n"
        );
        let mut services = bound(&paths, &app).unwrap();
        services.sort();
        assert_eq!(services, ["a.service", "b@1.socket"]);
        // What is of others is not ours.
        let foreign = paths.systemd.join("a.service.d/20-other.conf");
        fs::write(&foreign, "").unwrap();
        merged(&[(&app, &["c.service"])]);
        assert_eq!(bound(&paths, &app).unwrap(), ["c.service"]);
        assert_eq!(bound(&paths, &other).unwrap(), [""; 0]);
        assert!(unbind(&paths, &app).unwrap());
        assert_eq!(files::names(&paths.systemd).unwrap(), ["a.service.d"]);
        assert!(foreign.exists());
    }

    #[test]
    fn a_service_of_the_server_is_no_path() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = DevicePaths::new(dir.path());
        paths.systemd = dir.path().join("units");
        let name: Name = "app".parse().unwrap();
        for bad in [
            "",
            "..",
            "../x.service",
            "/etc/x.service",
            "a/b.service",
            ".service",
            ".x.service",
            "x",
            "x.slice",
            "a b.service",
            "a\n.service",
        ] {
            assert!(bind(&paths, &name, bad).is_err(), "{bad:?}");
        }
        assert!(!paths.systemd.exists());
    }
}
