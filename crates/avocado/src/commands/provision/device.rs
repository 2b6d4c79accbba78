//! Writing the disk to a card or a stick: what it asks, and what it says.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use avocado_build::{Cancel, DISK_ARTIFACT, DiskDevice, DiskDeviceError, DiskDevicePaths, Report};
use avocado_events::{Event, Sink as _};

use super::ProvisionArgs;
use crate::commands::question;
use crate::failure::{Context, ExitStatus, Failure, Result};
use crate::session::Session;

/// How often it is looked whether a stop was asked for, while an answer is waited for.
const TICK: Duration = Duration::from_millis(50);

/// Refuses what is known before anything is built.
pub(super) fn check(session: &Session, args: &ProvisionArgs, device: &Path) -> Result<()> {
    if !args.yes && !session.environment.can_ask() {
        let what = format!(
            "everything on {} would be lost, and there is no terminal to ask at whether it may be",
            device.display()
        );
        return Err(Failure::usage(what).hint("--yes writes without asking"));
    }
    let found = DiskDevice::find(&DiskDevicePaths::default(), device);
    let fits = found.and_then(|disk| disk.fits(None, args.allow_fixed_disk));
    fits.map_err(|e| failure(&e))
}

/// Writes the one disk that was made to the device, if the user wants that.
pub(super) fn write(
    session: &Session,
    args: &ProvisionArgs,
    device: &Path,
    report: &Report,
    cancel: &Cancel,
) -> Result<()> {
    let mut disks = report.artifacts.iter().filter(|a| a.kind == DISK_ARTIFACT);
    let (Some(disk), None) = (disks.next(), disks.next()) else {
        return Err(Failure::new("there is not one disk that could be written")
            .hint("--out copies what was made"));
    };
    let image =
        File::open(&disk.path).context(|| format!("cannot open {}", disk.path.display()))?;
    let paths = DiskDevicePaths::default();
    let held = || {
        let found = DiskDevice::find(&paths, device)?;
        found.fits(Some(disk.size), args.allow_fixed_disk)?;
        found.hold(&paths)
    };
    let held = held().map_err(|e| failure(&e))?;
    if !args.yes {
        session.output.pause();
        let ask = |text: &str| answer_or_stop(text, cancel);
        confirm(held.device(), disk.size, ask)?;
    }
    let written = held.write(&image, &disk.path, cancel, &*session.output);
    let written = written.map_err(|e| failure(&e))?;
    let node = held.device().node().display();
    let told = format!("written to {node}, which has the same bytes when read back");
    session.output.emit(Event::info(told));
    if !written.is_known {
        session.output.emit(Event::warning(format!(
            "the kernel was not told of the partitions on {node}: take it out before you use it here"
        )));
    }
    Ok(())
}

/// Goes on only where the answer is yes.
fn confirm(
    device: &DiskDevice,
    size: u64,
    ask: impl FnOnce(&str) -> Result<Option<String>>,
) -> Result<()> {
    match ask(&question_about(device, size))?.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => {
            let what = format!("nothing was written to {}", device.node().display());
            Err(Failure::new(what).hint("--yes writes without asking"))
        }
    }
}

fn question_about(device: &DiskDevice, size: u64) -> String {
    let node = device.node().display();
    let mut words = vec![avocado_text::escape(
        device.model().unwrap_or("a disk without a name"),
    )];
    if let Some(serial) = device.serial() {
        words.push(format!("serial {}", avocado_text::escape(serial)));
    }
    words.push(avocado_text::bytes(device.size()));
    words.push(match (device.bus(), device.is_removable()) {
        (Some(bus), _) => format!("at {bus}"),
        (None, true) => "removable".to_owned(),
        (None, false) => "NOT REMOVABLE".to_owned(),
    });
    words.push(avocado_text::count(device.partitions() as u64, "partition"));
    format!(
        "{node} is: {}.\nEverything on it is lost. Write the disk ({}) to {node}? [y/N] ",
        words.join(", "),
        avocado_text::bytes(size)
    )
}

/// The answer. Ctrl-C ends the question too, which a read does not notice.
fn answer_or_stop(text: &str, cancel: &Cancel) -> Result<Option<String>> {
    let (answers, answer) = mpsc::channel();
    let text = text.to_owned();
    thread::spawn(move || _ = answers.send(question::ask(&text)));
    loop {
        match answer.recv_timeout(TICK) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                return Err(Failure::interrupted());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn failure(error: &DiskDeviceError) -> Failure {
    let failure = Failure::from_error(error).maybe_hint(error.hint());
    let code = match error {
        DiskDeviceError::NotADisk { .. } | DiskDeviceError::Partition { .. } => ExitStatus::Usage,
        error if error.is_cancelled() => ExitStatus::Interrupted,
        _ => failure.code,
    };
    Failure { code, ..failure }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A stick as sysfs tells of it.
    fn stick(root: &Path) -> DiskDevice {
        let paths = DiskDevicePaths {
            block_devices: root.join("dev/block"),
            mounts: root.join("mountinfo"),
            swaps: root.join("swaps"),
            nodes: root.join("nodes"),
        };
        let directory = root.join("devices/usb2/2-1/block/sdb");
        for (file, text) in [
            ("size", "15728640"),
            ("removable", "1"),
            ("dev", "8:16"),
            ("device/vendor", "Acme    "),
            ("device/model", "Stick\u{1b}[2J"),
            ("sdb1/dev", "8:17"),
            ("sdb1/partition", "1"),
        ] {
            let file = directory.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{text}\n")).unwrap();
        }
        fs::create_dir_all(&paths.block_devices).unwrap();
        std::os::unix::fs::symlink(&directory, paths.block_devices.join("8:16")).unwrap();
        fs::write(&paths.mounts, "").unwrap();
        DiskDevice::numbered(&paths, Path::new("/dev/sdb"), (8, 16)).unwrap()
    }

    #[test]
    fn the_question_names_the_device_and_only_yes_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let device = stick(dir.path());
        let asked = std::cell::RefCell::new(String::new());
        for (answer, goes_on) in [
            (Some("y"), true),
            (Some("Y"), true),
            (Some("yes"), true),
            (Some(""), false),
            (Some("n"), false),
            (Some("/dev/sdb"), false),
            (None, false),
        ] {
            let done = confirm(&device, 4 << 30, |text| {
                asked.replace(text.to_owned());
                Ok(answer.map(ToOwned::to_owned))
            });
            assert_eq!(done.is_ok(), goes_on, "{answer:?}");
            if let Err(failure) = done {
                assert!(failure.message.contains("nothing was written to /dev/sdb"));
            }
        }
        let asked = asked.into_inner();
        for words in [
            "/dev/sdb is: Acme Stick",
            "7.5 GiB",
            "at USB",
            "1 partition",
            "4.0 GiB",
            "[y/N]",
        ] {
            assert!(asked.contains(words), "{words}: {asked}");
        }
        assert!(!asked.contains('\u{1b}'), "{asked:?}");
    }
}
