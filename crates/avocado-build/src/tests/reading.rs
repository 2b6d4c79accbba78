//! What a step of the fake backend has read, where it is to make something of it: the files that its
//! request names and the trees that earlier steps left, as real steps do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use avocado_backend::{Job, SOURCE_MOUNT};
use avocado_manifest::{Digest, Name};
use serde_json::{Value, json};
use walkdir::WalkDir;

use crate::layout::Layout;

/// What a step left in a tree of its own.
const LEFT: &str = "what-is-here";

/// All that a step reads, as text.
pub(super) fn read(
    project: &Path,
    layout: &Layout,
    kind: &str,
    request: &Value,
    job: &Job,
    epoch: u64,
) -> Vec<String> {
    let mut seen = Vec::new();
    let mut named = Vec::new();
    named_files(request, job, project, &mut named);
    for path in named {
        seen.push(format!("{} {:?}", path.display(), content_of(&path)));
    }
    let hooks = ["post_build", "post_install", "script", "kernel"];
    let has_hook = hooks.iter().any(|hook| !request[hook]["path"].is_null());
    let compiled = request["compiled"].as_array().into_iter().flatten();
    let compiled: Vec<&Value> = compiled.chain([&request["kernel"]]).collect();
    let mut sections = compiled
        .iter()
        .filter_map(|package| package["section"].as_str());
    // Nobody knows what a script reads.
    if has_hook || compiled.iter().any(|package| !package["install"].is_null()) {
        let told = &job.environment;
        seen.push(format!("{:?} {told:?} {epoch}", content_of(project)));
        seen.push(left(&layout.sdk()));
    }
    seen.extend(
        sections
            .by_ref()
            .map(|section| left(&layout.compile(section))),
    );
    let trees = trees_for(layout, kind, request);
    seen.extend(trees.iter().map(|tree| left(tree)));
    seen
}

/// Notes in the tree of a step what it made.
pub(super) fn leave(layout: &Layout, kind: &str, request: &Value, result: &Value) {
    let tree = match kind {
        "install" => tree_of_install(layout, &request["spec"]["tree"]),
        "compile" => Some(layout.compile(request["section"].as_str().unwrap())),
        "extension_build" => Some(layout.extension(&name(&request["name"]))),
        _ => None,
    };
    if let Some(tree) = tree {
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join(LEFT), result.to_string()).unwrap();
    }
}

/// Why the packages of the feed are not those of the lock.
pub(super) fn differs_from_lock(spec: &Value, header: &str) -> Option<String> {
    let headers: BTreeMap<String, Value> =
        serde_json::from_value(spec["headers"].clone()).unwrap_or_default();
    let other = headers
        .iter()
        .find(|(_, locked)| locked["digest"] != header)?;
    Some(format!("{} is not what is locked", other.0))
}

/// What is installed, by name, and what else shapes the tree.
pub(super) fn installed(
    spec: &Value,
    read: &Value,
    header: &str,
    kernel: &Value,
) -> (Value, Digest) {
    let stated = spec["packages"]["template"].as_object().unwrap();
    let packages = stated.iter().map(|(name, version)| {
        let locked = spec["locked"][name].as_str();
        let version = match (version.as_str().unwrap(), locked) {
            ("*", Some(locked)) => locked.to_owned(),
            ("*", None) => "1-r0.all".to_owned(),
            (stated, _) => format!("{stated}.all"),
        };
        (name.clone(), json!({"version": version, "digest": header}))
    });
    let packages: Value = packages.collect::<serde_json::Map<_, _>>().into();
    let shapes = json!([
        packages,
        spec["packages"],
        spec["weak_dependencies"],
        spec["base_kernel"],
        kernel,
        read,
    ]);
    let digest = Digest::of(shapes.to_string().as_bytes());
    (packages, digest)
}

fn tree_of_install(layout: &Layout, tree: &Value) -> Option<PathBuf> {
    Some(match tree.as_str() {
        Some("sdk") => layout.sdk(),
        Some("target_sysroot") => layout.target_sysroot(),
        Some(_) => return None,
        None => {
            let (kind, of) = tree.as_object()?.iter().next()?;
            let of = name(of);
            match kind.as_str() {
                "extension" => layout.extension_packages(&of),
                "runtime" => layout.work("runtimes").join(of),
                kind => layout.os_tree(kind, &of),
            }
        }
    })
}

/// The trees that a step of this kind reads.
fn trees_for(layout: &Layout, kind: &str, request: &Value) -> Vec<PathBuf> {
    let members = request["extensions"].as_array().into_iter().flatten();
    let members = members.map(|member| layout.extension(&name(&member["name"])));
    let rootfs = |of: &Value| match of {
        Value::Null => Vec::new(),
        of => vec![layout.os_tree("rootfs", &name(of))],
    };
    match kind {
        "install" => {
            let tree = &request["spec"]["tree"];
            let is_laid_over = !tree["extension"].is_null() || !tree["runtime"].is_null();
            let base = &request["spec"]["base"];
            if is_laid_over {
                rootfs(base)
            } else {
                Vec::new()
            }
        }
        "compile" => vec![layout.sdk(), layout.target_sysroot()],
        "extension_build" => {
            let mut trees = rootfs(&request["base"]);
            if request["packages"] == true {
                trees.push(layout.extension_packages(&name(&request["name"])));
            }
            trees
        }
        "extension_image" => vec![layout.extension(&name(&request["name"]))],
        "os_image" => {
            let part = request["part"].as_str().unwrap();
            vec![layout.os_tree(part, &name(&request["name"]))]
        }
        "runtime_compile" if request["packages"] == true => {
            vec![layout.work("runtimes").join(name(&request["name"]))]
        }
        "runtime_build" => members.chain(rootfs(&request["rootfs_tree"])).collect(),
        "var_image" => members.collect(),
        _ => Vec::new(),
    }
}

fn left(tree: &Path) -> String {
    fs::read_to_string(tree.join(LEFT)).unwrap_or_default()
}

/// The files of the project that a request names.
fn named_files(request: &Value, job: &Job, project: &Path, files: &mut Vec<PathBuf>) {
    match request {
        Value::Object(entries) => {
            let within = entries.get("project").and_then(Value::as_str);
            let within = Path::new(within.unwrap_or(SOURCE_MOUNT));
            let mount = job.mounts.iter().find(|mount| mount.target == within);
            let within = mount.map_or(project, |mount| &mount.source);
            for key in ["path", "dir", "source"] {
                if let Some(path) = entries.get(key).and_then(Value::as_str) {
                    files.push(within.join(path));
                }
            }
            for value in entries.values() {
                named_files(value, job, project, files);
            }
        }
        Value::Array(items) => {
            for item in items {
                named_files(item, job, project, files);
            }
        }
        _ => {}
    }
}

/// What is in a file, or in the files below a directory: bytes, whether they can be executed, and
/// where links lead. What a build leaves in a project does not count.
fn content_of(place: &Path) -> Vec<String> {
    // Nor does the lock, while it is written beside its place too.
    let is_own = |name: &std::ffi::OsStr| {
        name != ".avocado" && !name.to_string_lossy().contains("avocado.lock")
    };
    // A user may name a directory by a link.
    let place = fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
    let walk = WalkDir::new(&place).sort_by_file_name().into_iter();
    let walk = walk.filter_entry(|entry| entry.depth() == 0 || is_own(entry.file_name()));
    let seen = walk.filter_map(|entry| {
        let entry = entry.ok()?;
        let path = entry.path();
        let metadata = entry.metadata().ok()?;
        let content = if metadata.is_symlink() {
            fs::read_link(path).ok()?.display().to_string()
        } else if metadata.is_file() {
            let is_executable = metadata.permissions().mode() & 0o100 != 0;
            format!("{is_executable} {}", Digest::of(&fs::read(path).ok()?))
        } else {
            "directory".to_owned()
        };
        let path = path.strip_prefix(&place).ok()?;
        Some(format!("{} {content}", path.display()))
    });
    seen.collect()
}

fn name(value: &Value) -> Name {
    serde_json::from_value(value.clone()).unwrap()
}
