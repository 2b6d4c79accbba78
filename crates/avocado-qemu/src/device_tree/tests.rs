//! With the real QEMU, where there is one.

use std::fs;

use avocado_test_support::skip;

use super::*;
use crate::{Accelerator, Architecture, MachineSockets, find_binary};

pub(super) fn spec(binary: &Path) -> MachineSpec {
    let unused = PathBuf::from("/nonexistent");
    MachineSpec {
        binary: binary.to_owned(),
        architecture: Architecture::Aarch64,
        accelerator: Accelerator::Tcg,
        cpus: 2,
        memory_mib: 256,
        kernel: None,
        initrd: None,
        cmdline: String::new(),
        drives: Vec::new(),
        workspace: None,
        sockets: MachineSockets {
            supervisor: unused.clone(),
            public: unused.clone(),
            agent: unused.clone(),
            control: unused.clone(),
        },
        serial_log: unused.clone(),
        error_log: unused.clone(),
        pid_file: unused,
        tpm: None,
        panic_device: true,
        gives_back: true,
        device_tree: None,
    }
}

/// A machine for the QEMU on PATH; none if there is none.
fn real(test: &str) -> Option<MachineSpec> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match find_binary(std::env::split_paths(&path), Architecture::Aarch64) {
        Ok(binary) => Some(spec(&binary)),
        Err(error) => {
            skip(test, error);
            None
        }
    }
}

#[tokio::test]
async fn a_patched_tree_is_made_once() {
    let Some(spec) = real("a_patched_tree_is_made_once") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    // Commas are special to QEMU.
    let place = directory.path().join("a,b");
    let make = |spec| prepare(spec, IdleStatesChoice::Always, &place);
    let path = make(&spec).await.unwrap().unwrap();
    let made = fs::read(&path).unwrap();
    assert!(made.len() < 20_000, "{}", made.len());
    let mut tree = DeviceTree::parse(&made).unwrap();
    let cpus = tree.root.child("cpus").unwrap();
    for cpu in ["cpu@0", "cpu@1"] {
        assert!(cpus.child(cpu).unwrap().cell("cpu-idle-states").is_some());
    }
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1);

    // Another machine has another tree.
    let larger = MachineSpec {
        cpus: 3,
        ..spec.clone()
    };
    let other = make(&larger).await.unwrap().unwrap();
    assert_ne!(other, path);
    let cpus = DeviceTree::parse(&fs::read(&other).unwrap()).unwrap();
    assert!(cpus.root.child("cpus").unwrap().child("cpu@2").is_some());

    // What is in the cache is taken, if it is whole.
    tree.root.set_text("model", "from the cache");
    let marked = tree.to_bytes().unwrap();
    fs::write(&path, &marked).unwrap();
    assert_eq!(make(&spec).await.unwrap().as_ref(), Some(&path));
    assert_eq!(fs::read(&path).unwrap(), marked);
    for damaged in [&marked[..marked.len() - 1], b"", b"garbage"] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(make(&spec).await.unwrap().as_ref(), Some(&path));
        let tree = DeviceTree::parse(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(tree.root.texts("model").next(), Some("linux,dummy-virt"));
    }
}

#[tokio::test]
async fn the_version_decides_and_is_asked_once() {
    let Some(spec) = real("the_version_decides_and_is_asked_once") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let cache = DeviceTreeCache::open(directory.path()).unwrap();
    let identity = BinaryIdentity::of(&spec.binary).unwrap();
    let asked = version::qemu_version(&spec.binary, &identity, &cache)
        .await
        .unwrap();
    assert!(version::parse(&asked).is_some(), "{asked}");
    // This program could not be asked.
    let gone = Path::new("/nonexistent/qemu");
    let again = version::qemu_version(gone, &identity, &cache)
        .await
        .unwrap();
    assert_eq!(again, asked);

    let under_hvf = MachineSpec {
        accelerator: Accelerator::Hvf,
        ..spec.clone()
    };
    let key = cache::version_key(&identity);
    cache.keep(&key, b"QEMU emulator version 11.0.1").unwrap();
    let good = prepare(&under_hvf, IdleStatesChoice::Automatic, directory.path());
    assert_eq!(good.await.unwrap(), None);

    // QEMU is asked for a tree now, but there is no HVF outside of macOS.
    if cfg!(not(target_os = "macos")) {
        cache.keep(&key, b"QEMU emulator version 11.0.0").unwrap();
        let affected = prepare(&under_hvf, IdleStatesChoice::Automatic, directory.path());
        let error = affected.await.unwrap_err();
        assert!(matches!(error, QemuError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("hvf"), "{error}");
    }

    // What makes no sense is asked for again.
    cache.keep(&key, b"nonsense").unwrap();
    let again = version::qemu_version(&spec.binary, &identity, &cache)
        .await
        .unwrap();
    assert_eq!(again, asked);
}

#[tokio::test]
async fn without_need_nothing_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("cache");
    let absent = spec("/nonexistent/qemu".as_ref());
    for (spec, choice, expected) in [
        (absent.clone(), IdleStatesChoice::Automatic, None),
        (absent.clone(), IdleStatesChoice::Never, None),
        (
            MachineSpec {
                device_tree: Some("/the/users/own.dtb".into()),
                ..absent.clone()
            },
            IdleStatesChoice::Always,
            Some(PathBuf::from("/the/users/own.dtb")),
        ),
    ] {
        let prepared = prepare(&spec, choice, &place).await.unwrap();
        assert_eq!(prepared, expected);
    }
    assert!(!place.exists());
    let error = prepare(&absent, IdleStatesChoice::Always, &place)
        .await
        .unwrap_err();
    assert!(matches!(error, QemuError::File { .. }), "{error}");
}

#[tokio::test]
async fn a_program_that_is_no_qemu() {
    let directory = tempfile::tempdir().unwrap();
    for program in ["/bin/false", "/bin/true"] {
        if !Path::new(program).exists() {
            return skip("a_program_that_is_no_qemu", program);
        }
        let spec = spec(program.as_ref());
        let made = prepare(&spec, IdleStatesChoice::Always, directory.path()).await;
        assert!(made.is_err(), "{program}: {made:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
