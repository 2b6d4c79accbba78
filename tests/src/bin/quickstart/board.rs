//! A machine that boots a disk image gets another operating system, keeps it, and goes back by itself from one
//! that is not well.

use std::fs;

use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_testbed::board::{BoardFiles, on_a_board, running};
use avocado_testbed::disk_guest::{DiskFirmware, DiskGuest};
use avocado_testbed::keys::SshKeys;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::source_root;

use crate::Result;
use crate::story::{Parts, Place, copy, talk};

/// The health check of OS 2 waits for this, so that its trial can be looked at.
const LOOKED_AT: &str = "/run/looked-at";

/// What the health check of OS 3 says.
const COMPLAINT: &str = "the sensor does not answer";

pub(crate) fn run(parts: &mut Parts) -> Result<()> {
    let place = Place::new(parts)?;
    let project = place.project("board")?;
    let keys = SshKeys::create(&place.at("ssh"))?;
    let machine = place.at("machine");
    // What earlier runs made of them.
    for old in [&machine, &project.directory().join("board")] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(&machine)?;
    copy(&source_root().join("examples/hello"), project.directory())?;
    on_a_board(&project)?;
    let files = BoardFiles::first(&project, &keys)?;
    // Emulated, a boot takes minutes.
    project.write(
        "board/rootfs/etc/avocado/avocadoctl.conf",
        "[avocado.update]\nhealth_deadline_secs = 1800\n",
    )?;

    parts.part("avocado install: with a boot loader and a BSP", || {
        talk(&project, &["install"])
    })?;
    let disk = machine.join("disk.img");
    parts.part("avocado provision: a disk image with runtime 1", || {
        let out = disk.display().to_string();
        talk(&project, &["provision", "-r", "dev", "--out", &out])
    })?;
    let guest = parts.part("a machine boots the disk image, emulated", || {
        let guest = DiskGuest::boot(&machine.join("guest"), DiskFirmware::Uefi, &disk, keys)?;
        expect_os(&guest, "a", "1")?;
        print!("{}", guest.run("avocadoctl status")?);
        Ok(guest)
    })?;

    parts.part("avocado build: runtime 2, with another OS", || {
        let wait = format!("until test -e {LOOKED_AT}; do sleep 1; done");
        build(&project, &files, "2", &wait)
    })?;
    let second = project.built()?;
    install(parts, &guest, &project, "2")?;
    parts.part("the machine reboots, and OS 2 runs on trial", || {
        guest.begin_reboot();
        let on_trial = "avocadoctl status | grep 'runs on trial, waiting for /'";
        print!("{}", guest.until_succeeds("OS 2 to be on trial", on_trial)?);
        expect_os(&guest, "b", "2")
    })?;
    parts.part("its health check is content: OS 2 is committed", || {
        guest.run(&format!("touch {LOOKED_AT}"))?;
        let committed = "test ! -e /var/lib/avocado/pending-update.json && avocadoctl status";
        let status = guest.until_succeeds("OS 2 to be committed", committed)?;
        print!("{status}");
        expect_active(&guest, &second)
    })?;

    parts.part("avocado build: runtime 3, whose OS is not well", || {
        build(
            &project,
            &files,
            "3",
            &format!("echo {COMPLAINT} >&2; exit 1"),
        )
    })?;
    install(parts, &guest, &project, "3")?;
    parts.part("the machine reboots, and goes back by itself", || {
        guest.begin_reboot();
        let is_back = "grep -qx release=2 /etc/board.conf &&
             test ! -e /var/lib/avocado/pending-update.json && avocadoctl status";
        let status = guest.until_succeeds("the machine to go back", is_back)?;
        print!("{status}");
        if !status.contains("FAILED") || !status.contains(COMPLAINT) {
            return Err("`avocadoctl status` does not tell why".into());
        }
        expect_os(&guest, "b", "2")?;
        expect_active(&guest, &second)
    })
}

/// Builds a runtime with another OS, which has this health check.
fn build(project: &TestProject, files: &BoardFiles<'_>, release: &str, check: &str) -> Result<()> {
    files.release(release, "")?;
    files.check(check)?;
    talk(project, &["build", "--no-var"])
}

/// Brings the runtime that was built to the machine, and its OS to the slot that does not run.
fn install(
    parts: &mut Parts,
    guest: &DiskGuest,
    project: &TestProject,
    release: &str,
) -> Result<()> {
    let id = project.built()?;
    let title = format!("avocadoctl runtime add: runtime {release}, over HTTP");
    parts.part(&title, || {
        let repository = project.state().join("output/runtimes/dev/repository");
        let server = TestServer::start(ServeOptions::new(&repository))?;
        let url = server.url().replace("127.0.0.1", DiskGuest::HOST);
        let add = format!("avocadoctl runtime add --url {url}");
        print!("{}", guest.run(&add)?);
        Ok(())
    })?;
    let title = format!("avocadoctl runtime activate: OS {release} is written");
    parts.part(&title, || {
        print!(
            "{}",
            guest.run(&format!("avocadoctl runtime activate {id}"))?
        );
        let waits = "avocadoctl status | grep 'reboot required'";
        print!("{}", guest.run(waits)?);
        Ok(())
    })
}

fn expect_os(guest: &DiskGuest, slot: &str, release: &str) -> Result<()> {
    let (runs_in, says) = running(guest)?;
    println!("   OS {says} runs, from slot {runs_in}");
    if (runs_in.as_str(), says.as_str()) == (slot, release) {
        return Ok(());
    }
    Err(format!("it should be OS {release}, from slot {slot}").into())
}

fn expect_active(guest: &DiskGuest, id: &str) -> Result<()> {
    let link = guest.run("readlink /var/lib/avocado/active")?;
    if link.trim() == format!("runtimes/{id}") {
        return Ok(());
    }
    Err(format!("runtime {id} is not the active one, but {}", link.trim()).into())
}
