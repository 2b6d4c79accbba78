//! What a tool of a job may do as root, be it the host's or the one of a user namespace.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// What installing packages and writing images takes: files of any owner and mode, device nodes
/// in a tree, `chroot`. Everything else leads out of what a job is to see: mounting and
/// unmounting, files by their handles, memory of other processes, modules, raw memory.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE);

/// The program that `command` starts, and all that it starts, has no others.
#[allow(unsafe_code)]
pub(crate) fn limit(command: &mut Command) {
    // SAFETY: the closure makes system calls only and touches no memory of the parent.
    unsafe { command.pre_exec(drop_others) };
}

fn drop_others() -> io::Result<()> {
    // What is inheritable would survive the start of a program.
    let mut own = rustix::thread::capabilities(None)?;
    own.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, own)?;
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // This kernel knows none of a number as high as this.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_none_but_the_kept_ones() {
        if !rustix::process::getuid().is_root() {
            avocado_test_support::skip(
                "a_program_has_none_but_the_kept_ones",
                "only root has capabilities to lose",
            );
            return;
        }
        let mut command = Command::new("cat");
        command.arg("/proc/self/status");
        limit(&mut command);
        let said = command.output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            let line = said.lines().find_map(|line| line.strip_prefix(set));
            let bits = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
            let more = CapabilitySet::from_bits_retain(bits).difference(KEPT);
            assert!(more.is_empty(), "{set} {more:?}");
        }
    }
}
