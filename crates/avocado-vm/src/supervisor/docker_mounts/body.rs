//! Where the bodies of docker's API, and of podman's own, name paths of the machine.

use serde_json::{Map, Value};

use super::json::is_member;

/// What a body describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// A container, for docker's API.
    Container,
    /// A service of a swarm.
    Service,
    /// A volume, which can stand for a directory.
    Volume,
    /// A container or a pod, for podman's own API.
    PodmanSpec,
}

impl BodyKind {
    /// What a request of this target makes; none: nothing that can have a directory.
    pub(super) fn of_target(target: &str) -> Option<BodyKind> {
        let path = target.split('?').next().unwrap_or_default();
        // Also where the address is whole, as a proxy gets it.
        let path = match path.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => path.strip_prefix('/').unwrap_or(path),
        };
        // Engines look for the decoded name.
        let path = decoded(path);
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let is_version = |part: &&str| {
            part.strip_prefix('v')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        if parts.first().is_some_and(is_version) {
            parts.remove(0);
        }
        match parts.as_slice() {
            ["containers", "create"] => Some(BodyKind::Container),
            ["services", "create"] | ["services", _, "update"] => Some(BodyKind::Service),
            ["volumes", "create"] | ["libpod", "volumes", "create"] => Some(BodyKind::Volume),
            ["libpod", "containers" | "pods", "create"] => Some(BodyKind::PodmanSpec),
            _ => None,
        }
    }

    /// Calls `change` with each path of the machine that `body` names. Says whether one was changed; the
    /// first error ends it.
    pub(super) fn change_paths(
        self,
        body: &mut Value,
        change: &mut PathChange<'_>,
    ) -> Result<bool, String> {
        let mut changed = false;
        match self {
            BodyKind::Container => {
                if let Some(volumes) = member(body, "Volumes")? {
                    changed |= change_volume_names(volumes, change)?;
                }
                if let Some(host) = member(body, "HostConfig")? {
                    if let Some(binds) = member(host, "Binds")? {
                        for bind in elements(binds) {
                            changed |= change_bind(bind, change)?;
                        }
                    }
                    changed |= change_mounts(host, change)?;
                }
            }
            BodyKind::Service => {
                if let Some(task) = member(body, "TaskTemplate")?
                    && let Some(container) = member(task, "ContainerSpec")?
                {
                    changed |= change_mounts(container, change)?;
                }
            }
            BodyKind::Volume => {
                for options in ["DriverOpts", "Options"] {
                    if let Some(options) = member(body, options)? {
                        changed |= change_volume_options(options, change)?;
                    }
                }
            }
            BodyKind::PodmanSpec => {
                if let Some(rootfs) = member(body, "rootfs")?
                    && rootfs.as_str() != Some("")
                {
                    changed |= change_path(rootfs, change)?;
                }
                changed |= change_mounts(body, change)?;
                if let Some(volumes) = member(body, "overlay_volumes")? {
                    for volume in elements(volumes) {
                        if let Some(source) = member(volume, "source")? {
                            changed |= change_path(source, change)?;
                        }
                    }
                }
            }
        }
        Ok(changed)
    }
}

/// What becomes of a path that begins with a slash; none: it stays.
pub(super) type PathChange<'a> = dyn FnMut(&str) -> Result<Option<String>, String> + 'a;

/// The member of an object of this name. Where there are several, which of them counts is not known.
fn member<'a>(value: &'a mut Value, name: &str) -> Result<Option<&'a mut Value>, String> {
    let object = value.as_object_mut().into_iter().flatten();
    let mut all = object.filter(|(key, _)| is_member(key, name));
    let first = all.next();
    match all.next() {
        Some(_) => Err(format!("the body of the request has {name} twice")),
        None => Ok(first.map(|(_, value)| value)),
    }
}

fn elements(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().into_iter().flatten()
}

/// `PATH:DESTINATION[:OPTIONS]`; with a name in the place of the path it is a volume.
fn change_bind(bind: &mut Value, change: &mut PathChange<'_>) -> Result<bool, String> {
    let other = match bind.as_str() {
        Some(text) => changed_bind(text, change)?,
        None => None,
    };
    let is_other = other.is_some();
    if let Some(other) = other {
        *bind = Value::String(other);
    }
    Ok(is_other)
}

/// The same, among the names of an object: podman takes those as well.
fn change_volume_names(volumes: &mut Value, change: &mut PathChange<'_>) -> Result<bool, String> {
    let Some(names) = volumes.as_object_mut() else {
        return Ok(false);
    };
    let mut changed = false;
    let mut all = Map::new();
    for (name, value) in std::mem::take(names) {
        let other = changed_bind(&name, change)?;
        changed |= other.is_some();
        all.insert(other.unwrap_or(name), value);
    }
    *names = all;
    Ok(changed)
}

fn changed_bind(bind: &str, change: &mut PathChange<'_>) -> Result<Option<String>, String> {
    let Some((source, rest)) = bind.split_once(':') else {
        return Ok(None);
    };
    // Podman takes these for directories of the guest, and seeks them in its own.
    if source.starts_with(['.', '~']) {
        return Err(not_from_the_root(source));
    }
    if !source.starts_with('/') {
        return Ok(None);
    }
    match change(source)? {
        Some(other) if other.contains(':') => Err(format!(
            "the VM cannot mount {source} so: it is {other} there, and a colon ends a path in this form. \
             Use `--mount type=bind`"
        )),
        other => Ok(other.map(|other| format!("{other}:{rest}"))),
    }
}

fn change_mounts(value: &mut Value, change: &mut PathChange<'_>) -> Result<bool, String> {
    let mut changed = false;
    let Some(mounts) = member(value, "Mounts")? else {
        return Ok(false);
    };
    for mount in elements(mounts) {
        let kind = member(mount, "Type")?.and_then(|kind| kind.as_str().map(str::to_owned));
        let options = member(mount, "Options")?;
        let binds = options.is_some_and(|options| {
            elements(options).any(|option| matches!(option.as_str(), Some("bind" | "rbind")))
        });
        if binds || kind.as_deref() == Some("bind") {
            if let Some(source) = member(mount, "Source")? {
                changed |= change_path(source, change)?;
            }
        } else if kind.as_deref() == Some("volume")
            && let Some(options) = member(mount, "VolumeOptions")?
            && let Some(driver) = member(options, "DriverConfig")?
            && let Some(options) = member(driver, "Options")?
        {
            changed |= change_volume_options(options, change)?;
        }
    }
    Ok(changed)
}

/// `type=none,o=bind,device=PATH` is a volume that stands for a directory.
fn change_volume_options(options: &mut Value, change: &mut PathChange<'_>) -> Result<bool, String> {
    let says = |name: &str, words: &[&str]| {
        let value = options.get(name).and_then(Value::as_str);
        value.is_some_and(|value| value.split(',').any(|word| words.contains(&word)))
    };
    let is_bind = says("o", &["bind", "rbind"]) || says("type", &["bind", "rbind", "none"]);
    match options.get_mut("device") {
        Some(device) if is_bind => change_path(device, change),
        _ => Ok(false),
    }
}

/// What can be nothing but a path.
fn change_path(path: &mut Value, change: &mut PathChange<'_>) -> Result<bool, String> {
    let other = match path.as_str() {
        Some(text) if text.starts_with('/') => change(text)?,
        Some(text) => return Err(not_from_the_root(text)),
        None => None,
    };
    match other {
        Some(other) => *path = Value::String(other),
        None => return Ok(false),
    }
    Ok(true)
}

fn not_from_the_root(path: &str) -> String {
    format!("the VM does not know what {path:?} is relative to: name it from the root")
}

/// A path of a request without its `%XX`.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let digits = digits.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
