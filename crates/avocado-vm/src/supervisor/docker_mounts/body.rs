//! Where the bodies of docker's API, and of podman's own, name paths of the machine.

use serde_json::Value;

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
        let mut parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
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
    pub(super) fn change_paths<E>(
        self,
        body: &mut Value,
        change: &mut PathChange<'_, E>,
    ) -> Result<bool, E> {
        let mut changed = false;
        match self {
            BodyKind::Container => {
                for host in members(body, "HostConfig") {
                    for binds in members(host, "Binds") {
                        for bind in elements(binds) {
                            changed |= change_bind(bind, change)?;
                        }
                    }
                    changed |= change_mounts(host, change)?;
                }
            }
            BodyKind::Service => {
                for task in members(body, "TaskTemplate") {
                    for container in members(task, "ContainerSpec") {
                        changed |= change_mounts(container, change)?;
                    }
                }
            }
            BodyKind::Volume => {
                for options in ["DriverOpts", "Options"] {
                    for options in members(body, options) {
                        changed |= change_volume_options(options, change)?;
                    }
                }
            }
            BodyKind::PodmanSpec => {
                changed |= change_mounts(body, change)?;
                for volumes in members(body, "overlay_volumes") {
                    for volume in elements(volumes) {
                        for source in members(volume, "source") {
                            changed |= change_path(source, change)?;
                        }
                    }
                }
            }
        }
        Ok(changed)
    }
}

/// What becomes of a path; none: it stays.
pub(super) type PathChange<'a, E> = dyn FnMut(&str) -> Result<Option<String>, E> + 'a;

/// The members of an object of this name. Engines take a name in whatever case, so each counts.
fn members<'a>(value: &'a mut Value, name: &'a str) -> impl Iterator<Item = &'a mut Value> {
    let object = value.as_object_mut().into_iter().flatten();
    object
        .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn elements(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().into_iter().flatten()
}

/// `PATH:DESTINATION[:OPTIONS]`; with a name in the place of the path it is a volume.
fn change_bind<E>(bind: &mut Value, change: &mut PathChange<'_, E>) -> Result<bool, E> {
    let Some((source, rest)) = bind.as_str().and_then(|bind| bind.split_once(':')) else {
        return Ok(false);
    };
    let Some(other) = changed_path(source, change)? else {
        return Ok(false);
    };
    *bind = Value::String(format!("{other}:{rest}"));
    Ok(true)
}

fn change_mounts<E>(value: &mut Value, change: &mut PathChange<'_, E>) -> Result<bool, E> {
    let mut changed = false;
    for mounts in members(value, "Mounts") {
        for mount in elements(mounts) {
            let kind = members(mount, "Type").find_map(|kind| kind.as_str().map(str::to_owned));
            match kind.as_deref() {
                Some("bind") => {
                    for source in members(mount, "Source") {
                        changed |= change_path(source, change)?;
                    }
                }
                Some("volume") => {
                    for options in members(mount, "VolumeOptions") {
                        for driver in members(options, "DriverConfig") {
                            for options in members(driver, "Options") {
                                changed |= change_volume_options(options, change)?;
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(changed)
}

/// `type=none,o=bind,device=PATH` is a volume that stands for a directory.
fn change_volume_options<E>(
    options: &mut Value,
    change: &mut PathChange<'_, E>,
) -> Result<bool, E> {
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

fn change_path<E>(path: &mut Value, change: &mut PathChange<'_, E>) -> Result<bool, E> {
    let other = match path.as_str() {
        Some(text) => changed_path(text, change)?,
        None => None,
    };
    match other {
        Some(other) => *path = Value::String(other),
        None => return Ok(false),
    }
    Ok(true)
}

/// What has no slash in front is no path: a volume, or an error of the engine.
fn changed_path<E>(path: &str, change: &mut PathChange<'_, E>) -> Result<Option<String>, E> {
    if path.starts_with('/') {
        change(path)
    } else {
        Ok(None)
    }
}
