//! Saving and restoring the memory of a machine, with the real QEMU.
#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use avocado_qemu::{
    Architecture, Drive, DriveFormat, MachineEvent, MachineSpec, QemuError, RunState,
    adopt_machine, boot_machine, restore_machine, save_memory,
};
use avocado_test_support::skip;
use common::{OtherClient, TestMachine, event, within};
use rustix::process::Signal;
use serde_json::json;

/// The memory of a machine that stands still.
fn memory(spec: &MachineSpec, file: &Path) -> Vec<u8> {
    let mut other = OtherClient::connect(&spec.sockets.public);
    let arguments = json!({ "val": 0, "size": 256 << 20, "filename": file });
    other.execute("pmemsave", arguments);
    std::fs::read(file).unwrap()
}

#[tokio::test]
async fn saves_and_restores() {
    let Some(setup) = TestMachine::new("saves_and_restores") else {
        return;
    };
    let file = setup.file("saved,memory");
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    // The firmware leaves traces before it asks for a disk.
    within(async {
        while !std::fs::read_to_string(setup.file("serial.log"))
            .unwrap_or_default()
            .contains("SeaBIOS")
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let error = within(save_memory(&machine, &file)).await.unwrap_err();
    assert!(matches!(error, QemuError::NotPaused { .. }), "{error:?}");
    assert!(!file.exists());

    machine.pause().await.unwrap();
    // Saved and resumed after all, and saved again: the second file counts.
    within(save_memory(&machine, &file)).await.unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Paused);
    machine.resume().await.unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    machine.pause().await.unwrap();
    within(save_memory(&machine, &file)).await.unwrap();
    let before = memory(&setup.spec, &setup.file("before"));
    assert!(before.iter().any(|byte| *byte != 0));
    within(machine.quit()).await.unwrap();

    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let on_disk = metadata.blocks() * 512;
    assert!(on_disk < 64 << 20, "{on_disk} bytes for an idle guest");

    let (machine, mut events) = within(restore_machine(&setup.spec, &file, |_| ()))
        .await
        .unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Paused);
    assert!(memory(&setup.spec, &setup.file("after")) == before);
    machine.resume().await.unwrap();
    assert_eq!(event(&mut events).await, MachineEvent::Resumed);
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    machine.ssh_forward().await.unwrap();
    // And once more, from the restored one.
    machine.pause().await.unwrap();
    within(save_memory(&machine, &file)).await.unwrap();
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn saves_and_restores_another_architecture() {
    let name = "saves_and_restores_another_architecture";
    let Some(setup) = TestMachine::of(name, Architecture::Aarch64) else {
        return;
    };
    let file = setup.file("saved");
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    machine.pause().await.unwrap();
    within(save_memory(&machine, &file)).await.unwrap();
    within(machine.quit()).await.unwrap();
    let (machine, _events) = within(restore_machine(&setup.spec, &file, |_| ()))
        .await
        .unwrap();
    machine.resume().await.unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn a_useless_file_leaves_no_machine_behind() {
    let Some(setup) = TestMachine::new("a_useless_file_leaves_no_machine_behind") else {
        return;
    };
    let file = setup.file("saved");
    std::fs::write(&file, vec![b'x'; 100_000]).unwrap();
    for path in [file, setup.file("none")] {
        let error = within(restore_machine(&setup.spec, &path, |_| ()))
            .await
            .unwrap_err();
        let QemuError::Memory { description, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(!description.is_empty());
        within(async {
            while !setup.processes().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_restore_that_is_killed_says_nothing_of_the_file() {
    let Some(setup) = TestMachine::new("a_restore_that_is_killed_says_nothing_of_the_file") else {
        return;
    };
    let file = setup.file("saved");
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    machine.pause().await.unwrap();
    within(save_memory(&machine, &file)).await.unwrap();
    within(machine.quit()).await.unwrap();
    // As the kernel does it where memory is short: at once, and as late as there is a restore.
    for moment in [0, 20, 40, 80] {
        let kill = async {
            let pid = loop {
                match setup.processes().first() {
                    Some(pid) => break *pid,
                    None => tokio::task::yield_now().await,
                }
            };
            tokio::time::sleep(Duration::from_millis(moment)).await;
            common::signal(pid, Signal::KILL);
        };
        let (restored, ()) =
            tokio::join!(within(restore_machine(&setup.spec, &file, |_| ())), kill);
        match restored {
            Ok((machine, _events)) => drop(within(machine.exited()).await),
            Err(error) => assert!(matches!(error, QemuError::Exited { .. }), "{error:?}"),
        }
    }
    let (machine, _events) = within(restore_machine(&setup.spec, &file, |_| ()))
        .await
        .unwrap();
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn a_machine_with_fewer_devices_does_not_take_it() {
    let Some(mut setup) = TestMachine::new("a_machine_with_fewer_devices_does_not_take_it") else {
        return;
    };
    let file = setup.file("saved");
    let disk = setup.file("disk");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    setup.spec.drives.push(Drive {
        path: disk,
        format: DriveFormat::Raw,
        read_only: true,
    });
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    machine.pause().await.unwrap();
    within(save_memory(&machine, &file)).await.unwrap();
    within(machine.quit()).await.unwrap();
    setup.spec.drives.clear();
    let error = within(restore_machine(&setup.spec, &file, |_| ()))
        .await
        .unwrap_err();
    assert!(matches!(error, QemuError::Memory { .. }), "{error:?}");
}

#[tokio::test]
async fn who_stops_waiting_gets_the_machine_back() {
    let Some(setup) = TestMachine::new("who_stops_waiting_gets_the_machine_back") else {
        return;
    };
    let file = setup.file("saved");
    let (machine, mut events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    machine.pause().await.unwrap();
    assert_eq!(event(&mut events).await, MachineEvent::Paused);
    let created = async {
        while !file.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = created => {}
        saved = save_memory(&machine, &file) => panic!("stopped too late: {saved:?}"),
    }
    within(machine.resume()).await.unwrap();
    assert_eq!(event(&mut events).await, MachineEvent::Resumed);
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    assert!(!file.exists(), "half a file is left");
    machine.pause().await.unwrap();
    within(save_memory(&machine, &file)).await.unwrap();
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn a_save_can_be_given_up_at_any_moment() {
    let Some(setup) = TestMachine::new("a_save_can_be_given_up_at_any_moment") else {
        return;
    };
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    machine.pause().await.unwrap();
    let file = setup.file("saved");
    let started = Instant::now();
    within(save_memory(&machine, &file)).await.unwrap();
    let whole = started.elapsed();
    let rounds = 300;
    for round in 0..rounds {
        let moment = whole * round / rounds;
        // Whether it was complete by then or not: the machine is there, and goes on.
        let _ = tokio::time::timeout(moment, save_memory(&machine, &file)).await;
        let resumed = within(machine.resume()).await;
        resumed.unwrap_or_else(|error| panic!("given up after {moment:?}: {error}"));
        machine.pause().await.unwrap();
    }
    within(save_memory(&machine, &file)).await.unwrap();
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn a_qemu_that_is_silent_for_long_is_waited_for() {
    let Some(setup) = TestMachine::new("a_qemu_that_is_silent_for_long_is_waited_for") else {
        return;
    };
    let (machine, mut events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    machine.pause().await.unwrap();
    assert_eq!(event(&mut events).await, MachineEvent::Paused);
    let file = setup.file("saved");
    let pid = machine.identity().pid;
    let silence = async {
        while file.metadata().map_or(0, |found| found.len()) == 0 {
            tokio::task::yield_now().await;
        }
        common::signal(pid, Signal::STOP);
        // Longer than any answer is waited for.
        tokio::time::sleep(Duration::from_secs(7)).await;
        common::signal(pid, Signal::CONT);
    };
    let (saved, ()) = tokio::join!(within(save_memory(&machine, &file)), silence);
    saved.unwrap();
    assert!(machine.has_not_run_since_save().await.unwrap());
    machine.resume().await.unwrap();
    assert_eq!(event(&mut events).await, MachineEvent::Resumed);
    machine.pause().await.unwrap();
    assert!(!machine.has_not_run_since_save().await.unwrap());
    within(save_memory(&machine, &file)).await.unwrap();
    within(machine.quit()).await.unwrap();
}

#[test]
fn a_save_of_a_killed_supervisor_does_not_stop_the_guest() {
    let name = "a_save_of_a_killed_supervisor_does_not_stop_the_guest";
    let Some(setup) = TestMachine::new(name) else {
        return;
    };
    let first = tokio::runtime::Runtime::new().unwrap();
    let (machine, events) = first
        .block_on(within(boot_machine(&setup.spec, |_| ())))
        .unwrap();
    first.block_on(machine.pause()).unwrap();
    // What a killed supervisor leaves: no process waits for this save, which takes hours.
    let mut other = OtherClient::connect(&setup.spec.sockets.public);
    other.execute("migrate-set-parameters", json!({ "max-bandwidth": 16_384 }));
    let file = setup.file("saved");
    other.execute(
        "migrate",
        json!({ "uri": format!("exec:cat > '{}'", file.display()) }),
    );
    let identity = machine.identity();
    drop((machine, events, first));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let status = |other: &mut OtherClient| {
            let answer = other.execute("query-migrate", json!({}));
            answer["status"].as_str().unwrap().to_owned()
        };
        let before = status(&mut other);
        assert!(["setup", "active"].contains(&before.as_str()), "{before}");
        let adopted = within(adopt_machine(&identity, &setup.spec)).await;
        let (machine, _events) = adopted.unwrap().expect("it is there");
        assert_eq!(status(&mut other), "cancelled");
        assert_eq!(machine.run_state().await.unwrap(), RunState::Paused);
        machine.resume().await.unwrap();
        assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
        // It can be saved as ever.
        machine.pause().await.unwrap();
        within(save_memory(&machine, &setup.file("again")))
            .await
            .unwrap();
        within(machine.quit()).await.unwrap();
    });
}

/// A file system with next to no space.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(path: PathBuf) -> Option<Tiny> {
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(&path)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Tiny(path))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_machine_as_it_was() {
    let name = "a_full_disk_leaves_the_machine_as_it_was";
    let Some(setup) = TestMachine::new(name) else {
        return;
    };
    let Some(tiny) = Tiny::mount(setup.file("tiny")) else {
        skip(name, "cannot mount a tmpfs");
        return;
    };
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    machine.pause().await.unwrap();
    let file = tiny.0.join("saved");
    let error = within(save_memory(&machine, &file)).await.unwrap_err();
    let QemuError::Memory { description, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(!description.is_empty());
    assert!(!file.exists(), "half a file is left");
    assert_eq!(machine.run_state().await.unwrap(), RunState::Paused);
    machine.resume().await.unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    // With space it works.
    machine.pause().await.unwrap();
    within(save_memory(&machine, &setup.file("saved")))
        .await
        .unwrap();
    within(machine.quit()).await.unwrap();
}
