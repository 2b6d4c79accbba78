//! The loop devices of this kernel: a device needs the nodes before it boots, and takes some away.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::time::Duration;

use rustix::ioctl::{IntegerSetter, Opcode, ioctl};

use crate::error::file;
use crate::{HarnessError, wait};

const CONTROL: &str = "/dev/loop-control";
const LOOP_CTL_ADD: Opcode = 0x4c80;
const LOOP_CTL_REMOVE: Opcode = 0x4c81;

/// The numbers of the loop devices that exist, in use or not.
pub(crate) fn existing() -> BTreeSet<u32> {
    fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("loop")?.parse().ok()
        })
        .collect()
}

/// Makes the loop devices `numbers` exist, with their nodes. None of them vanishes, which systemd
/// may wish, while the result is held; nor is one freed, so that should not be for long.
pub(crate) fn open_all(numbers: impl IntoIterator<Item = u32>) -> Result<Vec<File>, HarnessError> {
    numbers.into_iter().map(open_one).collect()
}

fn open_one(number: u32) -> Result<File, HarnessError> {
    let node = format!("/dev/loop{number}");
    let opened = || {
        // It exists already, most of the time; then its node does as well.
        let _ = control::<LOOP_CTL_ADD>(number)?;
        Ok(File::open(&node).ok())
    };
    let limit = Duration::from_secs(10);
    wait::until(
        &format!("the opening of {node}"),
        limit,
        opened,
        String::new,
    )
}

/// Makes exactly the loop devices `numbers` exist, except for those in use.
pub(crate) fn restore(numbers: &BTreeSet<u32>) -> Result<(), HarnessError> {
    for number in existing().difference(numbers) {
        // Busy ones belong to other processes.
        let _ = control::<LOOP_CTL_REMOVE>(*number)?;
    }
    for number in numbers {
        let _ = control::<LOOP_CTL_ADD>(*number)?;
    }
    Ok(())
}

fn control<const OPCODE: Opcode>(number: u32) -> Result<rustix::io::Result<()>, HarnessError> {
    let control = File::options().read(true).write(true).open(CONTROL);
    let control = control.map_err(file("open", CONTROL))?;
    #[allow(unsafe_code)]
    // SAFETY: both requests take the number of a loop device, by value, and any number is valid:
    // the kernel answers with an error to one that it cannot use.
    let result = unsafe { ioctl(control, IntegerSetter::<OPCODE>::new_usize(number as usize)) };
    Ok(result)
}
