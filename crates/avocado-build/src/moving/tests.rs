//! States of small projects, moved within one process.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use avocado_backend::{Backend, BackendError, Capabilities, Job, Processor, ToolQuery};
use avocado_events::{Cancel, Event, Silent, Sink};
use avocado_manifest::{Digest, Name};
use serde::Serialize;
use serde_json::Value;
use tar::{Builder, EntryType, Header};

use super::load::{LoadWish, load_in};
use super::manifest::MANIFEST_FILE;
use super::save::save_in;
use super::{MovedState, PackStateRequest, UnpackStateRequest};
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::layout::Layout;
use crate::run::in_context;
use crate::step_context::StepContext;
use crate::step_request::{StepMessage, StepRequest};
use crate::tests::test_project::TestProject;
use crate::trees::CopyModes;

const PROJECT: &str = "default_target: qemux86-64
supported_targets: [qemux86-64, qemuarm64]
distro: {release: '2024', channel: edge}
extensions:
  app: {version: 1.0.0, packages: {hello: '*'}}
runtimes:
  dev: {extensions: [app], packages: {deploy: '*'}}
";

const TARGET: &str = "qemux86-64";

/// Does the work of the two steps in this process, where the state is.
#[derive(Debug)]
struct HereBackend {
    layout: Layout,
}

impl HereBackend {
    fn work<R: StepRequest>(&self, request: Value) -> Result<Value, BackendError>
    where
        R::Result: Serialize,
    {
        let context = StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: TARGET.parse().unwrap(),
            layout: self.layout.clone(),
            host_layout: self.layout.clone(),
            epoch: 1,
            modes: CopyModes::Keep,
            sink: &Silent,
            loop_mounts: None,
        };
        let request: R = serde_json::from_value(request).unwrap();
        match request.work(&context) {
            Ok(result) => Ok(serde_json::to_value(result).unwrap()),
            Err(error) => Err(BackendError::Failed {
                message: avocado_events::chain(&error),
                kind: None,
                source: None,
            }),
        }
    }
}

impl Backend for HereBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            loop_mounts: false,
            devices: false,
            network: false,
        }
    }

    fn run(&self, job: &Job, _: &Cancel, _: &dyn Sink) -> Result<Value, BackendError> {
        let message: StepMessage<Value> = serde_json::from_value(job.request.clone()).unwrap();
        match message.kind.as_str() {
            PackStateRequest::KIND => self.work::<PackStateRequest>(message.request),
            UnpackStateRequest::KIND => self.work::<UnpackStateRequest>(message.request),
            other => panic!("no such step: {other}"),
        }
    }

    fn tool_identity(&self, _: &ToolQuery) -> Result<Option<String>, BackendError> {
        Ok(None)
    }

    fn emulator_identity(&self, _: Processor) -> Result<Option<String>, BackendError> {
        Ok(None)
    }

    fn processes(&self) -> u64 {
        0
    }
}

fn name(name: &str) -> Name {
    name.parse().unwrap()
}

/// A machine with the project.
struct Machine(TestProject);

impl Machine {
    fn new() -> Self {
        Machine(TestProject::new(PROJECT))
    }

    fn state(&self, path: &str) -> PathBuf {
        self.0.options.project.state_dir().join(path)
    }

    fn work<T>(
        &self,
        cancel: &Cancel,
        sink: &dyn Sink,
        work: impl FnOnce(&BuildContext<'_>) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let options = &self.0.options;
        let layout = Layout::new(&options.project.state_dir(), &options.project.target);
        in_context(
            options,
            || Ok(Box::new(HereBackend { layout })),
            cancel,
            sink,
            work,
        )
    }

    fn save(&self, targets: &[&str]) -> Result<(Vec<u8>, MovedState), BuildError> {
        let targets: Vec<Name> = targets.iter().copied().map(name).collect();
        let mut file = Vec::new();
        let saved = self.work(&Cancel::new(), &Silent, |context| {
            save_in(context, &targets, &mut file, &Silent)
        })?;
        assert!(!self.state(".moving").exists());
        Ok((file, saved))
    }

    fn load(&self, file: &[u8], wish: &LoadWish<'_>) -> Result<MovedState, BuildError> {
        let loaded = self.work(&Cancel::new(), &Silent, |context| {
            load_in(context, wish, &mut &file[..], &Silent)
        });
        assert!(!self.state(".moving").exists());
        loaded
    }

    /// What files there are in the state, without those that every machine has of its own.
    fn files(&self) -> Vec<String> {
        let root = self.state("");
        let files = walkdir::WalkDir::new(&root).sort_by_file_name();
        let files = files.into_iter().map(|entry| entry.unwrap().into_path());
        let files = files.filter(|path| !path.is_dir());
        let files = files.map(|path| path.strip_prefix(&root).unwrap().display().to_string());
        files.filter(|file| !file.starts_with('.')).collect()
    }
}

const FORCE: LoadWish<'_> = LoadWish {
    only: None,
    replaces: true,
    sha256: None,
};

#[test]
fn another_machine_with_the_same_sources_has_nothing_to_do() {
    let first = Machine::new();
    assert!(first.0.build().len() > 5);
    for path in [
        "hitl/secret",
        "hitl.lock",
        "kernel.lock",
        "cache/0/1",
        "kept",
    ] {
        let path = first.state(TARGET).join(".work").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let (file, saved) = first.save(&[TARGET]).unwrap();
    assert_eq!(saved.sha256, Digest::of(&file));
    assert_eq!(saved.size, file.len() as u64);
    assert_eq!(first.save(&[TARGET]).unwrap().0, file);

    let second = Machine::new();
    fs::copy(first.0.path("avocado.lock"), second.0.path("avocado.lock")).unwrap();
    // The key that signed is another way to the other machine.
    let keys = fs::read_dir(first.0.path("keys")).unwrap();
    fs::create_dir_all(second.0.path("keys")).unwrap();
    for key in keys.map(Result::unwrap) {
        fs::copy(key.path(), second.0.path("keys").join(key.file_name())).unwrap();
    }
    let loaded = second.load(&file, &LoadWish::default()).unwrap();
    assert_eq!(loaded, saved);
    let mut expected = first.files();
    expected.retain(|path| !path.contains("/.work/hitl/") && !path.contains("/.work/cache/"));
    expected.retain(|path| !path.ends_with(".lock"));
    assert_eq!(second.files(), expected);
    assert!(second.files().contains(&format!("{TARGET}/.work/kept")));
    assert_eq!(second.0.build(), [""; 0]);
}

#[test]
fn a_state_that_is_there_stays_unless_it_is_to_go() {
    let first = Machine::new();
    fs::create_dir_all(first.state(TARGET)).unwrap();
    fs::write(first.state("qemux86-64/new"), "new").unwrap();
    let (file, _) = first.save(&[TARGET]).unwrap();

    let second = Machine::new();
    fs::create_dir_all(second.state(TARGET)).unwrap();
    fs::write(second.state("qemux86-64/old"), "old").unwrap();
    let error = second.load(&file, &LoadWish::default()).unwrap_err();
    assert!(matches!(&error, BuildError::StateThere { target, .. } if target == TARGET));
    assert!(error.hint().unwrap().contains("--force"));
    assert_eq!(second.files(), ["qemux86-64/old"]);
    second.load(&file, &FORCE).unwrap();
    assert_eq!(second.files(), ["qemux86-64/new"]);
    // The directory of one that was never built is none.
    let third = Machine::new();
    fs::create_dir_all(third.state(TARGET)).unwrap();
    third.load(&file, &LoadWish::default()).unwrap();
}

#[test]
fn one_of_several_targets_or_all_of_them() {
    let first = Machine::new();
    for target in [TARGET, "qemuarm64"] {
        fs::create_dir_all(first.state(target)).unwrap();
        fs::write(first.state(target).join("f"), target).unwrap();
    }
    fs::create_dir_all(first.state("qemuarm64/sdk/aarch64")).unwrap();
    let (both, saved) = first.save(&["qemuarm64", TARGET]).unwrap();
    assert_eq!(saved.targets[0].architectures, ["aarch64"]);
    let all = ["qemuarm64/f", "qemux86-64/f"];
    for (only, files) in [
        (None, &all[..]),
        (Some("qemuarm64"), &all[..1]),
        (Some(TARGET), &all[1..]),
    ] {
        let second = Machine::new();
        let only = only.map(name);
        let wish = LoadWish {
            only: only.as_ref(),
            ..LoadWish::default()
        };
        second.load(&both, &wish).unwrap();
        assert_eq!(second.files(), files);
    }
    let other = name("other");
    let wish = LoadWish {
        only: Some(&other),
        ..FORCE
    };
    let error = Machine::new().load(&both, &wish).unwrap_err().to_string();
    assert!(error.contains("no state of target other (it has qemuarm64, qemux86-64)"));
}

#[test]
fn signing_keys_go_to_nobody_wherever_they_are_kept() {
    let mut first = Machine::new();
    let keys = first.state(TARGET).join("of mine/keys");
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join("a.key"), "s3cret").unwrap();
    fs::write(keys.join("../kept"), "kept").unwrap();
    let link = first.0.path("link");
    symlink(&keys, &link).unwrap();
    for keyring in [keys, link] {
        first.0.options.keyring = Some(keyring);
        let (file, _) = first.save(&[TARGET]).unwrap();
        let second = Machine::new();
        second.load(&file, &LoadWish::default()).unwrap();
        assert_eq!(second.files(), ["qemux86-64/of mine/kept"]);
    }
}

#[test]
fn a_state_with_a_device_or_behind_a_link_goes_to_nobody() {
    let machine = Machine::new();
    fs::create_dir_all(machine.state(TARGET).join("rootfs/dev")).unwrap();
    symlink("/etc", machine.state(TARGET).join("output")).unwrap();
    let error = machine.save(&[TARGET]).unwrap_err().to_string();
    assert!(error.contains("is a symbolic link"), "{error}");
    fs::remove_file(machine.state(TARGET).join("output")).unwrap();
    machine.save(&[TARGET]).unwrap();
    let disk = machine.state(TARGET).join("rootfs/dev/sda");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &disk,
        rustix::fs::FileType::BlockDevice,
        rustix::fs::Mode::from_raw_mode(0o600),
        rustix::fs::makedev(8, 0),
    );
    // Not every user can make one.
    if made.is_ok() {
        let error = machine.save(&[TARGET]).unwrap_err();
        let error = avocado_events::chain(&error);
        assert!(error.contains("rootfs/dev/sda is a device"), "{error}");
    }
}

/// The name and the content of each file of a saved state, to be changed.
type StateParts = Vec<(String, Vec<u8>)>;

fn parts(file: &[u8]) -> StateParts {
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    entries.collect()
}

fn file_of(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in parts {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The same state with another archive of the target, about which everything said is right.
fn with_archive(file: &[u8], bytes: u64, archive: Vec<u8>) -> Vec<u8> {
    let mut parts = parts(file);
    let compressed = zstd::encode_all(&archive[..], 1).unwrap();
    let mut manifest: Value = serde_json::from_slice(&parts[0].1).unwrap();
    let target = &mut manifest["targets"][0];
    target["archive"]["sha256"] = Digest::of(&compressed).to_string().into();
    target["archive"]["size"] = compressed.len().into();
    target["content"]["bytes"] = bytes.into();
    parts[0].1 = manifest.to_string().into_bytes();
    parts[1].1 = compressed;
    file_of(&parts)
}

fn small_state() -> Vec<u8> {
    let first = Machine::new();
    fs::create_dir_all(first.state(TARGET).join("d")).unwrap();
    fs::write(first.state(TARGET).join("d/f"), "12345").unwrap();
    first.save(&[TARGET]).unwrap().0
}

#[test]
fn what_is_damaged_or_hostile_changes_nothing() {
    let good = small_state();
    let changed = |change: &dyn Fn(&mut StateParts)| {
        let mut parts = parts(&good);
        change(&mut parts);
        file_of(&parts)
    };
    let described = |change: &dyn Fn(&mut Value)| {
        changed(&|parts| {
            let mut manifest = serde_json::from_slice(&parts[0].1).unwrap();
            change(&mut manifest);
            parts[0].1 = manifest.to_string().into_bytes();
        })
    };
    let tree = |kind, path: &str, link: &str, size: usize| {
        let mut builder = Builder::new(Vec::new());
        let mut header = |kind, path: &str, link: &str, size: usize| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(size as u64);
            header.set_device_major(8).unwrap();
            header.set_device_minor(0).unwrap();
            let gnu = header.as_gnu_mut().unwrap();
            gnu.name[..path.len()].copy_from_slice(path.as_bytes());
            gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            let content = vec![b'x'; size];
            builder.append(&header, &content[..]).unwrap();
        };
        header(EntryType::Directory, "tree", "", 0);
        header(kind, path, link, size);
        with_archive(&good, 5, builder.into_inner().unwrap())
    };
    let mut flipped = good.clone();
    let [described_by, archive] = [0, 1].map(|nth| parts(&good)[nth].1.len());
    flipped[512 + described_by.next_multiple_of(512) + 512 + archive / 2] ^= 1;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "it has no avocado-state.json"),
        ("something else", b"x".repeat(4096), "it cannot be read"),
        (
            "another archive",
            tree_of_others(),
            "where avocado-state.json belongs",
        ),
        ("cut", good[..good.len() / 2].to_vec(), "cannot"),
        ("one bit", flipped, "qemux86-64.tar.zst is damaged"),
        (
            "another length",
            changed(&|parts| parts[1].1.push(0)),
            "qemux86-64.tar.zst is damaged",
        ),
        (
            "no target",
            changed(&|parts| drop(parts.pop())),
            "it has no qemux86-64.tar.zst",
        ),
        (
            "more than it says",
            changed(&|parts| parts.push(("more".to_owned(), vec![]))),
            "it has more in it than",
        ),
        (
            "another name",
            changed(&|parts| parts[1].0 = "../x".replace("..", "up")),
            "it has up/x where qemux86-64.tar.zst belongs",
        ),
        (
            "a second archive behind it",
            [&good[..], &vec![b'x'; 2 << 20]].concat(),
            "it goes on after its end",
        ),
        (
            "a later format",
            described(&|m| m["format"] = 2.into()),
            "it has format 2",
        ),
        (
            "a target that leads elsewhere",
            described(&|m| m["targets"][0]["target"] = "../../x".into()),
            "cannot be understood",
        ),
        (
            "a target of another project",
            described(&|m| m["targets"][0]["target"] = "other".into()),
            "which the project is not for",
        ),
        (
            "more than any disk has",
            described(&|m| m["targets"][0]["content"]["disk_bytes"] = u64::MAX.into()),
            "cannot load the state to",
        ),
        (
            "a manifest without an end",
            changed(&|parts| parts[0].1.resize(2 << 20, b' ')),
            "is too large",
        ),
        (
            "a file above it",
            tree(EntryType::Regular, "tree/../../x", "", 1),
            "path out of it",
        ),
        (
            "a disk",
            tree(EntryType::Block, "tree/sda", "", 0),
            "a device in it: sda",
        ),
        (
            "a file of the host",
            tree(EntryType::Link, "tree/f", "/etc/passwd", 0),
            "a link out of it",
        ),
        (
            "more than it says it has",
            tree(EntryType::Regular, "tree/f", "", 6),
            "more in it than it should",
        ),
        (
            "a link where a build writes",
            tree(EntryType::Symlink, "tree/output", "/etc", 0),
            "is a symbolic link",
        ),
        (
            "no tree",
            with_archive(&good, 5, vec![0; 1024]),
            "has nothing in it",
        ),
    ];
    let machine = Machine::new();
    fs::create_dir_all(machine.state(TARGET)).unwrap();
    fs::write(machine.state("qemux86-64/old"), "old").unwrap();
    for (case, file, said) in cases {
        let error = machine.load(&file, &FORCE).expect_err(case);
        let error = avocado_events::chain(&error);
        assert!(error.contains(said), "{case}: {error}");
        assert_eq!(machine.files(), ["qemux86-64/old"], "{case}");
    }
    assert_eq!(fs::metadata("/etc/passwd").unwrap().nlink(), 1);
    machine.load(&good, &FORCE).unwrap();
    assert_eq!(machine.files(), ["qemux86-64/d/f"]);
}

fn tree_of_others() -> Vec<u8> {
    file_of(&[("README".to_owned(), b"hello".to_vec())])
}

#[test]
fn only_the_file_that_was_meant() {
    let good = small_state();
    let machine = Machine::new();
    let with = |sha256| LoadWish {
        sha256: Some(sha256),
        ..LoadWish::default()
    };
    let error = machine
        .load(&good, &with(Digest::of(b"another")))
        .unwrap_err();
    assert!(error.to_string().contains("its digest is"), "{error}");
    assert_eq!(machine.files(), [""; 0]);
    machine.load(&good, &with(Digest::of(&good))).unwrap();
}

#[test]
fn a_load_that_is_to_stop_changes_nothing() {
    let good = small_state();
    let machine = Machine::new();
    // Wherever it is then: each time one event later.
    for nth in 0.. {
        let cancel = Cancel::new();
        let left = std::sync::atomic::AtomicUsize::new(nth);
        let sink = |_: Event| {
            let before = left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            if before == 0 {
                cancel.cancel();
            }
        };
        let loaded = machine.work(&cancel, &sink, |context| {
            load_in(context, &LoadWish::default(), &mut &good[..], &sink)
        });
        if !cancel.is_cancelled() {
            loaded.unwrap();
            assert!(nth >= 4, "{nth}");
            break;
        }
        assert!(loaded.unwrap_err().is_cancelled(), "{nth}");
        assert_eq!(machine.files(), [""; 0], "{nth}");
    }
    assert_eq!(machine.files(), ["qemux86-64/d/f"]);
}

#[test]
fn what_another_version_saved_is_told() {
    let mut parts = parts(&small_state());
    let mut manifest: Value = serde_json::from_slice(&parts[0].1).unwrap();
    manifest["avocado"] = "0.0.1".into();
    manifest["targets"][0]["architectures"] = serde_json::json!(["riscv64"]);
    parts[0].1 = manifest.to_string().into_bytes();
    assert_eq!(parts[0].0, MANIFEST_FILE);
    let said = std::sync::Mutex::new(Vec::new());
    let sink = |event: Event| said.lock().unwrap().push(event.message);
    let machine = Machine::new();
    let file = file_of(&parts);
    machine
        .work(&Cancel::new(), &sink, |context| {
            load_in(context, &LoadWish::default(), &mut &file[..], &sink)
        })
        .unwrap();
    let said = said.into_inner().unwrap();
    for wanted in ["avocado 0.0.1 saved it", "is for riscv64"] {
        assert!(said.iter().any(|text| text.contains(wanted)), "{said:?}");
    }
}

#[test]
fn what_devices_are_shown_is_not_replaced() {
    let machine = Machine::new();
    machine.0.build();
    let (file, _) = machine.save(&[TARGET]).unwrap();
    let files = || {
        let files = machine.files().into_iter();
        let files = files.filter(|path| !path.ends_with(".lock"));
        files.collect::<Vec<_>>()
    };
    let before = files();
    let lock = machine.state(TARGET).join(".work/hitl.lock");
    let server = avocado_fs::LockPlace::file(&lock).try_lock().unwrap();
    assert!(server.is_some());
    let error = machine.load(&file, &FORCE).unwrap_err();
    assert!(matches!(error, BuildError::Served { .. }), "{error}");
    drop(server);
    machine.load(&file, &FORCE).unwrap();
    assert_eq!(files(), before);
}
