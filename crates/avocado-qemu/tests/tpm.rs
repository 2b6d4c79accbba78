//! Machines with a software TPM, with the real programs.
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "other tests need more of it")]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use avocado_qemu::{
    Architecture, QemuError, RunState, SoftwareTpm, boot_machine, find_swtpm, restore_machine,
    save_memory,
};
use avocado_test_support::skip;
use common::{TestMachine, within};

/// A machine with a TPM; its directory does not exist yet.
fn machine_with_tpm(test: &str, architecture: Architecture) -> Option<TestMachine> {
    let mut setup = TestMachine::of(test, architecture)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(binary) = find_swtpm(std::env::split_paths(&path)) else {
        skip(test, "swtpm is not on PATH");
        return None;
    };
    let directory = setup.file("tpm");
    setup.spec.tpm = Some(SoftwareTpm { binary, directory });
    Some(setup)
}

/// Processes that run in a directory.
fn processes_in(directory: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory)
    })
    .collect()
}

async fn gone_from(directory: &Path) {
    within(async {
        while !processes_in(directory).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn it_lives_with_an_x86_64_machine_and_goes_where_its_memory_goes() {
    let name = "it_lives_with_an_x86_64_machine_and_goes_where_its_memory_goes";
    starts_and_ends_with(name, Architecture::X86_64).await;
}

#[tokio::test]
async fn it_lives_with_an_arm64_machine_and_goes_where_its_memory_goes() {
    let name = "it_lives_with_an_arm64_machine_and_goes_where_its_memory_goes";
    starts_and_ends_with(name, Architecture::Aarch64).await;
}

async fn starts_and_ends_with(test: &str, architecture: Architecture) {
    let Some(setup) = machine_with_tpm(test, architecture) else {
        return;
    };
    let directory = setup.file("tpm");
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    assert_eq!(processes_in(&directory).len(), 1);
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.clone()), 0o700);
    assert_eq!(mode(directory.join("swtpm-sock")), 0o600);
    assert_eq!(mode(directory.join("tpm2-00.permall")), 0o600);

    machine.pause().await.unwrap();
    let memory = setup.file("saved");
    within(save_memory(&machine, &memory)).await.unwrap();
    within(machine.quit()).await.unwrap();
    // The next one waits until this one has let go.
    let (machine, _events) = within(restore_machine(&setup.spec, &memory, |_| ()))
        .await
        .unwrap();
    machine.resume().await.unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    assert_eq!(processes_in(&directory).len(), 1);
    machine.kill();
    machine.exited().await;
    gone_from(&directory).await;
}

#[tokio::test]
async fn one_of_a_machine_that_is_gone_is_replaced() {
    let name = "one_of_a_machine_that_is_gone_is_replaced";
    let Some(setup) = machine_with_tpm(name, Architecture::X86_64) else {
        return;
    };
    let directory = setup.file("tpm");
    fs::create_dir(&directory).unwrap();
    let tpm = setup.spec.tpm.as_ref().unwrap();
    let mut forgotten = Command::new(&tpm.binary)
        .args(["socket", "--tpm2", "--terminate", "--tpmstate", "dir=."])
        .args(["--ctrl", "type=unixio,path=swtpm-sock"])
        .current_dir(&directory)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    within(async {
        while UnixStream::connect(directory.join("swtpm-sock")).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    forgotten.wait().unwrap();
    assert_eq!(processes_in(&directory).len(), 1);
    within(machine.quit()).await.unwrap();
    gone_from(&directory).await;
}

#[tokio::test]
async fn the_machine_outlives_it() {
    let Some(setup) = machine_with_tpm("the_machine_outlives_it", Architecture::X86_64) else {
        return;
    };
    let directory = setup.file("tpm");
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    for pid in processes_in(&directory) {
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    gone_from(&directory).await;
    machine.pause().await.unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Paused);
    // What was in it cannot be saved, so nothing is.
    let memory = setup.file("saved");
    let error = within(save_memory(&machine, &memory)).await.unwrap_err();
    assert!(matches!(error, QemuError::Memory { .. }), "{error:?}");
    assert!(!memory.exists());
    machine.resume().await.unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn what_it_cannot_do_it_says_itself_and_nothing_is_left() {
    let name = "what_it_cannot_do_it_says_itself_and_nothing_is_left";
    let Some(mut setup) = machine_with_tpm(name, Architecture::X86_64) else {
        return;
    };
    let directory = setup.file("tpm");
    // A state that it cannot read: QEMU asks for it.
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("tpm2-00.permall"), "no state").unwrap();
    let error = within(boot_machine(&setup.spec, |_| ())).await.unwrap_err();
    assert!(matches!(error, QemuError::Exited { .. }), "{error:?}");
    gone_from(&directory).await;
    assert!(setup.processes().is_empty());
    let kept = fs::read_to_string(directory.join("tpm2-00.permall")).unwrap();
    assert_eq!(kept, "no state");

    // A program that ends at once.
    if let Some(tpm) = &mut setup.spec.tpm {
        tpm.binary = "/bin/false".into();
    }
    let error = within(boot_machine(&setup.spec, |_| ())).await.unwrap_err();
    assert!(matches!(error, QemuError::Tpm { .. }), "{error:?}");
    assert!(error.to_string().contains("exit code 1"), "{error}");
}
