//! What docker's service wrote, as it is the same each time: directories are named by what is in them and
//! not by chance, and what belongs to that one service goes. The files are those of the driver `overlay2`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use avocado_manifest::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde_json::{Map, Value};
use walkdir::WalkDir;

use super::{PARTS, StoredImage};
use crate::error::{At as _, BuildError};
use crate::trees;

/// How long the short name of a layer is, which stands in the options of a mount.
const SHORT_NAME: usize = 26;
/// The letters of one.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A layer of the store.
struct Layer {
    /// Its directory among the data of layers, which is named by the digest of all up to it.
    place: PathBuf,
    name: String,
    /// The names that the service gave its files.
    old_directory: String,
    old_short: String,
}

/// Settles the store at `root`, which was filled since `began` with `images`. Whatever has no time of its
/// image gets `epoch`.
pub(crate) fn settle(
    root: &Path,
    images: &[StoredImage],
    began: SystemTime,
    epoch: u64,
) -> Result<(), BuildError> {
    keep_only(root, &PARTS)?;
    let metadata = root.join("image");
    keep_only(&metadata, &["overlay2"])?;
    let metadata = metadata.join("overlay2");
    keep_only(&metadata, &["imagedb", "layerdb", "repositories.json"])?;
    keep_only(&metadata.join("layerdb"), &["sha256"])?;
    forget_times(&metadata.join("imagedb/metadata/sha256"))?;
    let layers = layers(root, &metadata.join("layerdb/sha256"))?;
    rename(root, &layers)?;
    name_digests(&metadata.join("repositories.json"), images)?;
    set_times(root, began, epoch)
}

fn keep_only(directory: &Path, names: &[&str]) -> Result<(), BuildError> {
    for entry in fs::read_dir(directory).at("read", directory)? {
        let entry = entry.at("read", directory)?;
        if !names.iter().any(|name| entry.file_name() == *name) {
            trees::clear(&entry.path())?;
        }
    }
    Ok(())
}

/// When an image was named last, which says nothing of it.
fn forget_times(directory: &Path) -> Result<(), BuildError> {
    if !directory.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(directory).at("read", directory)? {
        trees::clear(&entry.at("read", directory)?.path().join("lastUpdated"))?;
    }
    Ok(())
}

fn layers(root: &Path, data: &Path) -> Result<Vec<Layer>, BuildError> {
    let mut layers = Vec::new();
    for entry in fs::read_dir(data).at("read", data)? {
        let place = entry.at("read", data)?.path();
        let name = place
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let old_directory = read(&place.join("cache-id"))?;
        if !is_plain(&old_directory) || !is_plain(&name) {
            return Err(unknown(&place));
        }
        let old_short = read(&root.join("overlay2").join(&old_directory).join("link"))?;
        layers.push(Layer {
            place,
            name,
            old_directory,
            old_short,
        });
    }
    layers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(layers)
}

/// What is joined to a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn rename(root: &Path, layers: &[Layer]) -> Result<(), BuildError> {
    let data = root.join("overlay2");
    let shorts: BTreeMap<&str, String> = layers
        .iter()
        .map(|l| (l.old_short.as_str(), short_name(&l.name)))
        .collect();
    let mut kept: Vec<&str> = layers.iter().map(|l| l.old_directory.as_str()).collect();
    kept.push("l");
    keep_only(&data, &kept)?;
    let links = data.join("l");
    trees::fresh(&links)?;
    for layer in layers {
        let (from, to) = (data.join(&layer.old_directory), data.join(&layer.name));
        fs::rename(&from, &to).at("move", &from)?;
        let id = layer.place.join("cache-id");
        fs::write(&id, &layer.name).at("write", &id)?;
        let short = short_name(&layer.name);
        let link = to.join("link");
        fs::write(&link, &short).at("write", &link)?;
        let place = links.join(&short);
        let target = Path::new("..").join(&layer.name).join("diff");
        symlink(target, &place).at("create", &place)?;
        let lower = to.join("lower");
        if lower.exists() {
            let below = read(&lower)?;
            let below = below.split(':').map(|path| {
                let short = path.strip_prefix("l/").and_then(|short| shorts.get(short));
                short
                    .map(|short| format!("l/{short}"))
                    .ok_or_else(|| unknown(&lower))
            });
            let below = below.collect::<Result<Vec<_>, _>>()?.join(":");
            fs::write(&lower, below).at("write", &lower)?;
        }
    }
    Ok(())
}

/// As the driver names layers, but the same each time.
fn short_name(layer: &str) -> String {
    let digest = Digest::of(layer.as_bytes()).to_string();
    let bytes = digest.as_bytes().chunks(2).take(SHORT_NAME);
    let letters = bytes.map(|pair| {
        let text = std::str::from_utf8(pair).unwrap_or_default();
        let number = usize::from(u8::from_str_radix(text, 16).unwrap_or_default());
        char::from(LETTERS[number % LETTERS.len()])
    });
    letters.collect()
}

/// A pull leaves the digest of what it was asked for beside the tag, a load does not.
fn name_digests(path: &Path, images: &[StoredImage]) -> Result<(), BuildError> {
    let text = read(path)?;
    let mut document: Value = serde_json::from_str(&text).map_err(|_| unknown(path))?;
    let repositories = document
        .get_mut("Repositories")
        .and_then(Value::as_object_mut);
    let repositories = repositories.ok_or_else(|| unknown(path))?;
    for image in images {
        let name = image.familiar_name();
        let known = repositories.get_mut(name).and_then(Value::as_object_mut);
        let tag = format!("{name}:{}", image.tag);
        let id = |known: &Map<String, Value>| known.get(&tag).cloned();
        let Some((known, id)) = known.and_then(|known| id(known).map(|id| (known, id))) else {
            return Err(BuildError::Invalid(format!(
                "dockerd has no image `{tag}` after it was loaded"
            )));
        };
        known.insert(format!("{name}@sha256:{}", image.digest), id);
    }
    fs::write(path, document.to_string()).at("write", path)
}

fn set_times(root: &Path, began: SystemTime, epoch: u64) -> Result<(), BuildError> {
    let time = Timespec {
        tv_sec: i64::try_from(epoch).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    // What is within a directory first: to write there would change its time again.
    for entry in WalkDir::new(root).contents_first(true) {
        let entry = entry.map_err(io::Error::from).at("read", root)?;
        let found = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", entry.path())?;
        let modified = found.modified().at("look at", entry.path())?;
        if modified >= began || !is_of_image(root, entry.path()) {
            let set = utimensat(CWD, entry.path(), &times, AtFlags::SYMLINK_NOFOLLOW);
            set.map_err(io::Error::from)
                .at("set the time of", entry.path())?;
        }
    }
    Ok(())
}

/// Whether it is a file in a layer: `overlay2/<layer>/diff/…`.
fn is_of_image(root: &Path, path: &Path) -> bool {
    let below = path
        .strip_prefix(root)
        .ok()
        .and_then(|below| below.strip_prefix("overlay2").ok());
    let mut parts = below.into_iter().flat_map(Path::components).skip(1);
    parts.next().is_some_and(|part| part.as_os_str() == "diff") && parts.next().is_some()
}

fn read(path: &Path) -> Result<String, BuildError> {
    fs::read_to_string(path).at("read", path)
}

fn unknown(path: &Path) -> BuildError {
    BuildError::Invalid(format!(
        "{} is not as this version knows stores of docker: tell which version dockerd has \
         (`dockerd --version`)",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TAGGED: &str = "{\"Repositories\":{\"app\":{\"app:1\":\"sha256:aa\"}}}";

    /// A store of two layers, one over the other, with names by chance.
    fn write(root: &Path, names: [&str; 2], shorts: [&str; 2]) {
        let put = |path: String, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (nth, chain) in ["c0", "c1"].into_iter().enumerate() {
            let (name, short) = (names[nth], shorts[nth]);
            put(
                format!("image/overlay2/layerdb/sha256/{chain}/cache-id"),
                name,
            );
            put(format!("image/overlay2/layerdb/sha256/{chain}/size"), "1");
            put(format!("overlay2/{name}/diff/etc/f{nth}"), "x");
            put(format!("overlay2/{name}/link"), short);
            put(format!("overlay2/l/{short}"), "");
        }
        put(
            format!("overlay2/{}/lower", names[1]),
            &format!("l/{}", shorts[0]),
        );
        put("overlay2/backingFsBlockDev".into(), "");
        put("image/overlay2/imagedb/content/sha256/aa".into(), "{}");
        put(
            "image/overlay2/imagedb/metadata/sha256/aa/lastUpdated".into(),
            "now",
        );
        put("image/overlay2/repositories.json".into(), TAGGED);
        put("image/overlay2/layerdb/tmp/x".into(), "");
        put("engine-id".into(), "by chance");
        put("network/files/local-kv.db".into(), "");
    }

    fn image() -> StoredImage {
        StoredImage {
            name: "docker.io/library/app".into(),
            tag: "1".into(),
            digest: Digest::of(b"1"),
        }
    }

    /// Everything in a tree: its path, its time, and what it is.
    fn listed(root: &Path) -> Vec<String> {
        let walk = WalkDir::new(root).sort_by_file_name();
        let lines = walk.into_iter().map(|entry| {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            let content = if found.is_file() {
                fs::read_to_string(entry.path()).unwrap()
            } else if found.is_symlink() {
                fs::read_link(entry.path()).unwrap().display().to_string()
            } else {
                String::new()
            };
            let time = found
                .modified()
                .unwrap()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            let path = entry
                .path()
                .strip_prefix(root)
                .unwrap()
                .display()
                .to_string();
            format!("{path} {} {content}", time.as_secs())
        });
        lines.collect()
    }

    #[test]
    fn the_same_images_make_the_same_store() {
        let began = SystemTime::now() - Duration::from_secs(60);
        let made =
            [(["xa", "xb"], ["AA", "AB"]), (["yb", "ya"], ["CB", "CD"])].map(|(names, shorts)| {
                let directory = tempfile::tempdir().unwrap();
                write(directory.path(), names, shorts);
                settle(directory.path(), &[image()], began, 1000).unwrap();
                listed(directory.path())
            });
        assert_eq!(made[0], made[1]);
        let has = |text: &str| made[0].iter().filter(|line| line.contains(text)).count();
        assert_eq!(has("overlay2/c1/diff/etc/f1 1000 x"), 1);
        let digest = format!("app@sha256:{}", Digest::of(b"1"));
        assert_eq!((has("app:1"), has(&digest)), (1, 1));
        for gone in [
            "engine-id",
            "network",
            "lastUpdated",
            "layerdb/tmp",
            "backingFsBlockDev",
        ] {
            assert_eq!(has(gone), 0, "{gone}");
        }
        let short = short_name("c0");
        assert_eq!(short.len(), SHORT_NAME);
        assert_eq!(has(&format!("overlay2/c1/lower 1000 l/{short}")), 1);
        assert_eq!(has(&format!("overlay2/l/{short} 1000 ../c0/diff")), 1);
    }

    #[test]
    fn files_of_an_image_keep_the_times_that_it_gives_them() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), ["xa", "xb"], ["AA", "AB"]);
        let began = SystemTime::now() + Duration::from_secs(60);
        let file = directory.path().join("overlay2/xa/diff/etc/f0");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(5000);
        fs::File::options()
            .append(true)
            .open(file)
            .unwrap()
            .set_modified(time)
            .unwrap();
        settle(directory.path(), &[image()], began, 1000).unwrap();
        let listed = listed(directory.path());
        assert!(
            listed
                .iter()
                .any(|line| line == "overlay2/c0/diff/etc/f0 5000 x"),
            "{listed:?}"
        );
        assert!(
            listed.iter().any(|line| line == "overlay2/c0/diff 1000 "),
            "{listed:?}"
        );
    }

    #[test]
    fn a_store_of_another_kind_is_told() {
        for (path, text) in [
            ("overlay2/xb/lower", "l/OTHER"),
            ("image/overlay2/layerdb/sha256/c0/cache-id", "../../x"),
            ("image/overlay2/repositories.json", "{}"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), ["xa", "xb"], ["AA", "AB"]);
            fs::write(directory.path().join(path), text).unwrap();
            let error = settle(directory.path(), &[image()], SystemTime::now(), 1).unwrap_err();
            assert!(
                error.to_string().contains("dockerd --version"),
                "{path}: {error}"
            );
        }
    }
}
