//! Machines that run nothing but their firmware, with the real QEMU.
#![cfg(target_os = "linux")]

mod common;

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use avocado_qemu::{
    Drive, DriveFormat, ExitStatus, MachineEvent, ProcessIdentity, QemuError, RunState,
    adopt_machine, boot_machine,
};
use common::{OtherClient, TestMachine, event, within};
use serde_json::json;

#[tokio::test]
async fn boots_pauses_resumes_and_quits() {
    let Some(setup) = TestMachine::new("boots_pauses_resumes_and_quits") else {
        return;
    };
    let (machine, mut events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    machine.pause().await.unwrap();
    assert_eq!(event(&mut events).await, MachineEvent::Paused);
    assert_eq!(machine.run_state().await.unwrap(), RunState::Paused);
    // Once more changes nothing.
    machine.pause().await.unwrap();
    machine.resume().await.unwrap();
    assert_eq!(event(&mut events).await, MachineEvent::Resumed);
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    // Without a disk.
    assert_eq!(machine.disk_bytes().await.unwrap(), 0);
    let usage = machine.usage().unwrap();
    assert!(usage.memory_bytes > 1 << 20, "{usage:?}");
    within(machine.quit()).await.unwrap();
    let by_us = MachineEvent::Shutdown { by_guest: false };
    assert_eq!(event(&mut events).await, by_us);
    let MachineEvent::Exited { status, .. } = event(&mut events).await else {
        panic!("not the end")
    };
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(events.recv().await, None);
    assert!(!machine.identity().is_alive());
    assert_eq!(machine.usage(), None);
    let late = machine.run_state().await;
    assert!(matches!(late, Err(QemuError::Exited { .. })), "{late:?}");
}

#[tokio::test]
async fn sockets_are_for_their_owner_and_the_forward_listens() {
    let Some(setup) = TestMachine::new("sockets_are_for_their_owner_and_the_forward_listens")
    else {
        return;
    };
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    for name in [
        "qmp-supervisor.sock",
        "qmp.sock",
        "qga.sock",
        "control.sock",
    ] {
        let mode = setup.file(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let port = machine.ssh_forward().await.unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    let pid = std::fs::read_to_string(setup.file("qemu.pid")).unwrap();
    assert_eq!(pid.trim(), machine.identity().pid.to_string());
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn what_others_do_is_told() {
    let Some(setup) = TestMachine::new("what_others_do_is_told") else {
        return;
    };
    let (machine, mut events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    let mut other = OtherClient::connect(&setup.spec.sockets.public);
    other.execute("stop", json!({}));
    assert_eq!(event(&mut events).await, MachineEvent::Paused);
    assert_eq!(machine.run_state().await.unwrap(), RunState::Paused);
    other.execute("cont", json!({}));
    assert_eq!(event(&mut events).await, MachineEvent::Resumed);
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    other.execute("system_reset", json!({}));
    assert_eq!(event(&mut events).await, MachineEvent::Reset);
    other.execute("quit", json!({}));
    let by_host = MachineEvent::Shutdown { by_guest: false };
    assert_eq!(event(&mut events).await, by_host);
    let end = event(&mut events).await;
    assert!(matches!(end, MachineEvent::Exited { .. }), "{end:?}");
}

#[tokio::test]
async fn a_killed_qemu_is_noticed_and_reaped() {
    let Some(setup) = TestMachine::new("a_killed_qemu_is_noticed_and_reaped") else {
        return;
    };
    let (machine, mut events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    // QEMU itself has nothing to say about this end.
    std::fs::write(setup.file("qemu.log"), "first\nlast words\n").unwrap();
    machine.kill();
    let killed = MachineEvent::Exited {
        status: ExitStatus::Signal(9),
        stderr: "first\nlast words".to_owned(),
    };
    assert_eq!(event(&mut events).await, killed);
    assert_eq!(machine.exited().await, ExitStatus::Signal(9));
    let process = format!("/proc/{}", machine.identity().pid);
    assert!(!std::fs::exists(process).unwrap(), "not reaped");
    let Err(QemuError::Exited { status, stderr }) = machine.pause().await else {
        panic!("paused a machine that is gone")
    };
    assert_eq!(status, ExitStatus::Signal(9));
    assert!(stderr.ends_with("last words"), "{stderr}");
    // To quit what is gone is no error.
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn what_qemu_does_not_accept_it_says_itself() {
    let Some(mut setup) = TestMachine::new("what_qemu_does_not_accept_it_says_itself") else {
        return;
    };
    setup.spec.drives.push(Drive {
        path: setup.file("no such disk"),
        format: DriveFormat::Raw,
        read_only: true,
    });
    let error = within(boot_machine(&setup.spec, |_| ())).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exit code 1"), "{text}");
    assert!(text.contains("no such disk"), "{text}");
    let QemuError::Exited { .. } = error else {
        panic!("{error:?}")
    };
    setup.spec.binary = setup.file("no such program");
    let error = within(boot_machine(&setup.spec, |_| ())).await.unwrap_err();
    assert!(matches!(error, QemuError::Spawn { .. }), "{error:?}");
}

#[tokio::test]
async fn who_stops_waiting_leaves_no_machine_behind() {
    let Some(setup) = TestMachine::new("who_stops_waiting_leaves_no_machine_behind") else {
        return;
    };
    let boot = boot_machine(&setup.spec, |_| ());
    let stop = async {
        while setup.processes().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = stop => {}
        booted = boot => panic!("stopped too late: {booted:?}"),
    }
    within(async {
        while !setup.processes().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Boots in a runtime that then ends, as the first supervisor would.
fn boot_and_forget(setup: &TestMachine) -> ProcessIdentity {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let booted = runtime.block_on(within(boot_machine(&setup.spec, |_| ())));
    let (machine, _events) = booted.unwrap();
    runtime.block_on(machine.pause()).unwrap();
    machine.identity()
}

#[test]
fn a_forgotten_machine_lives_on_and_is_adopted() {
    let Some(setup) = TestMachine::new("a_forgotten_machine_lives_on_and_is_adopted") else {
        return;
    };
    let identity = boot_and_forget(&setup);
    assert!(identity.is_alive());
    let json = serde_json::to_string(&identity).unwrap();
    let identity: ProcessIdentity = serde_json::from_str(&json).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let another = ProcessIdentity {
            started: "at another time".to_owned(),
            ..identity.clone()
        };
        let adopted = adopt_machine(&another, &setup.spec).await.unwrap();
        assert!(
            adopted.is_none(),
            "adopted another process with the same id"
        );

        let adopted = within(adopt_machine(&identity, &setup.spec)).await;
        let (machine, mut events) = adopted.unwrap().expect("it is there");
        assert_eq!(machine.identity(), identity);
        assert_eq!(machine.run_state().await.unwrap(), RunState::Paused);
        machine.resume().await.unwrap();
        assert_eq!(event(&mut events).await, MachineEvent::Resumed);
        machine.ssh_forward().await.unwrap();
        machine.kill();
        let end = event(&mut events).await;
        let MachineEvent::Exited { status, .. } = end else {
            panic!("{end:?}")
        };
        assert_eq!(status, ExitStatus::Unknown);
        let adopted = adopt_machine(&identity, &setup.spec).await.unwrap();
        assert!(adopted.is_none(), "adopted one that is gone");
    });
}

#[tokio::test]
async fn a_socket_of_another_process_is_not_adopted() {
    let Some(setup) = TestMachine::new("a_socket_of_another_process_is_not_adopted") else {
        return;
    };
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    let ourselves = ProcessIdentity::of(std::process::id()).unwrap();
    let error = within(adopt_machine(&ourselves, &setup.spec))
        .await
        .unwrap_err();
    let QemuError::WrongProcess {
        found, expected, ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(found, machine.identity().pid);
    assert_eq!(expected, ourselves.pid);
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn a_second_supervisor_is_told_that_there_is_one() {
    let Some(setup) = TestMachine::new("a_second_supervisor_is_told_that_there_is_one") else {
        return;
    };
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    let identity = machine.identity();
    let error = within(adopt_machine(&identity, &setup.spec))
        .await
        .unwrap_err();
    assert!(matches!(error, QemuError::Busy { .. }), "{error:?}");
    // The first one is not disturbed by that, and once it lets go, another may come.
    machine.pause().await.unwrap();
    drop(machine);
    let adopted = within(adopt_machine(&identity, &setup.spec)).await;
    let (machine, _events) = adopted.unwrap().expect("it is there");
    within(machine.quit()).await.unwrap();
}

#[tokio::test]
async fn a_guest_without_agent_does_not_answer() {
    let Some(setup) = TestMachine::new("a_guest_without_agent_does_not_answer") else {
        return;
    };
    let (machine, _events) = within(boot_machine(&setup.spec, |_| ())).await.unwrap();
    let agent = machine.agent().with_limit(Duration::from_millis(200));
    for _ in 0..2 {
        let error = within(agent.sync()).await.unwrap_err();
        assert!(matches!(error, QemuError::Timeout { .. }), "{error:?}");
    }
    within(machine.quit()).await.unwrap();
    let error = within(agent.sync()).await.unwrap_err();
    assert!(matches!(error, QemuError::Connect { .. }), "{error:?}");
}
