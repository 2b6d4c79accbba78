//! The JSON of the lock file, both ways. Empty parts are not written.

use std::collections::BTreeMap;

use super::json::{Json, Map};
use super::target::Scope;
use super::{LOCK_VERSION, LockFile, Snapshot, TargetLock};
use crate::model::Packages;

/// Something is not what it should be.
#[derive(Debug)]
pub(super) struct Misfit {
    /// Where, for example `targets.qemux86-64.rootfs`.
    pub(super) at: String,
    pub(super) expected: &'static str,
}

/// `distro_release`, the targets, and everything else.
pub(super) type Parts = (Option<String>, BTreeMap<String, TargetLock>, Map);

/// Reads a document of the current version.
pub(super) fn read(mut root: Map) -> Result<Parts, Misfit> {
    root.remove("version");
    let release = text(root.remove("distro_release"), "distro_release")?;
    let targets = each(root.remove("targets"), "targets", target)?;
    Ok((release, targets, root))
}

/// The document.
pub(super) fn write(lock: &LockFile) -> Json {
    let mut root = lock.other.clone();
    root.insert("version".to_owned(), Json::Number(LOCK_VERSION.to_string()));
    if let Some(release) = &lock.distro_release {
        root.insert("distro_release".to_owned(), Json::Text(release.clone()));
    }
    let targets = lock.targets.iter();
    let targets = targets.map(|(name, target)| (name.clone(), write_target(target)));
    root.insert("targets".to_owned(), targets.collect());
    Json::Map(root)
}

fn target(value: Json, at: &str) -> Result<TargetLock, Misfit> {
    let mut map = map(value, at)?;
    let mut part = |key: &str| (map.remove(key), format!("{at}.{key}"));
    let mut packages_of = |key: &str| {
        let (value, at) = part(key);
        packages(value, &at)
    };
    let rootfs = packages_of("rootfs")?;
    let initramfs = packages_of("initramfs")?;
    let target_sysroot = packages_of("target-sysroot")?;
    let kernel_versions = packages_of("kernel-versions")?;
    let mut maps_of = |key: &str| {
        let (value, at) = part(key);
        each(value, &at, |value, at| packages(Some(value), at))
    };
    let sdk = maps_of("sdk")?;
    let rootfs_named = maps_of("rootfs-named")?;
    let initramfs_named = maps_of("initramfs-named")?;
    let kernels = maps_of("kernels")?;
    let mut scopes_of = |key: &str| {
        let (value, at) = part(key);
        each(value, &at, scope)
    };
    let extensions = scopes_of("extensions")?;
    let runtimes = scopes_of("runtimes")?;
    let (snapshot, at) = part("repo-snapshot");
    let snapshot = match snapshot {
        Some(Json::Null) | None => None,
        Some(value) => Some(read_snapshot(value, &at)?),
    };
    Ok(TargetLock {
        sdk,
        rootfs,
        initramfs,
        rootfs_named,
        initramfs_named,
        target_sysroot,
        extensions,
        runtimes,
        kernel_versions,
        kernels,
        boot: map.remove("boot"),
        snapshot,
        other: map,
    })
}

fn write_target(target: &TargetLock) -> Json {
    let mut root = target.other.clone();
    let mut put = |key: &str, value: Json| {
        if !matches!(&value, Json::Map(map) if map.is_empty()) {
            root.insert(key.to_owned(), value);
        }
    };
    let flat = |packages: &Packages| {
        let packages = packages.iter();
        Json::from_iter(packages.map(|(name, version)| (name.clone(), Json::Text(version.clone()))))
    };
    let nested = |maps: &BTreeMap<String, Packages>| {
        let full = maps.iter().filter(|(_, packages)| !packages.is_empty());
        Json::from_iter(full.map(|(name, packages)| (name.clone(), flat(packages))))
    };
    let scopes = |scopes: &BTreeMap<String, Scope>| {
        let full = scopes
            .iter()
            .filter(|(_, scope)| **scope != Scope::default());
        Json::from_iter(full.map(|(name, scope)| {
            let mut map = scope.other.clone();
            map.insert("packages".to_owned(), flat(&scope.packages));
            (name.clone(), Json::Map(map))
        }))
    };
    put("rootfs", flat(&target.rootfs));
    put("initramfs", flat(&target.initramfs));
    put("target-sysroot", flat(&target.target_sysroot));
    put("kernel-versions", flat(&target.kernel_versions));
    put("sdk", nested(&target.sdk));
    put("rootfs-named", nested(&target.rootfs_named));
    put("initramfs-named", nested(&target.initramfs_named));
    put("kernels", nested(&target.kernels));
    put("extensions", scopes(&target.extensions));
    put("runtimes", scopes(&target.runtimes));
    if let Some(boot) = &target.boot {
        put("boot", boot.clone());
    }
    if let Some(snapshot) = &target.snapshot {
        put("repo-snapshot", write_snapshot(snapshot));
    }
    Json::Map(root)
}

fn scope(value: Json, at: &str) -> Result<Scope, Misfit> {
    let mut map = map(value, at)?;
    let packages = packages(map.remove("packages"), &format!("{at}.packages"))?;
    Ok(Scope {
        packages,
        other: map,
    })
}

fn read_snapshot(value: Json, at: &str) -> Result<Snapshot, Misfit> {
    let mut map = map(value, at)?;
    let mut optional = |key: &str| text(map.remove(key), &format!("{at}.{key}"));
    let mut required = |key: &str| {
        optional(key)?.ok_or_else(|| Misfit {
            at: format!("{at}.{key}"),
            expected: "there",
        })
    };
    Ok(Snapshot {
        release: required("release")?,
        channel: required("channel")?,
        snapshot: required("snapshot")?,
        repo_url: optional("repo_url")?,
        created: optional("created")?,
    })
}

fn write_snapshot(snapshot: &Snapshot) -> Json {
    let fields = [
        ("release", Some(&snapshot.release)),
        ("channel", Some(&snapshot.channel)),
        ("snapshot", Some(&snapshot.snapshot)),
        ("repo_url", snapshot.repo_url.as_ref()),
        ("created", snapshot.created.as_ref()),
    ];
    let fields = fields.into_iter();
    let fields =
        fields.filter_map(|(key, value)| Some((key.to_owned(), Json::Text(value?.clone()))));
    Json::from_iter(fields)
}

/// Each entry of a map; absent and null have none.
fn each<T>(
    value: Option<Json>,
    at: &str,
    mut read: impl FnMut(Json, &str) -> Result<T, Misfit>,
) -> Result<BTreeMap<String, T>, Misfit> {
    let mut out = BTreeMap::new();
    if let Some(value) = value.filter(|value| !value.is_null()) {
        for (key, value) in map(value, at)? {
            let entry = read(value, &format!("{at}.{key}"))?;
            out.insert(key, entry);
        }
    }
    Ok(out)
}

fn packages(value: Option<Json>, at: &str) -> Result<Packages, Misfit> {
    each(value, at, |value, at| match value {
        Json::Text(version) => Ok(version),
        _ => Err(Misfit {
            at: at.to_owned(),
            expected: "text",
        }),
    })
}

fn map(value: Json, at: &str) -> Result<Map, Misfit> {
    match value {
        Json::Map(map) => Ok(map),
        _ => Err(Misfit {
            at: at.to_owned(),
            expected: "an object",
        }),
    }
}

fn text(value: Option<Json>, at: &str) -> Result<Option<String>, Misfit> {
    match value {
        Some(Json::Null) | None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Misfit {
            at: at.to_owned(),
            expected: "text",
        }),
    }
}
