//! The processors that programs are made for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A processor that programs are made for, of those that an SDK has tools for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Processor {
    /// `x86_64`, which Debian and containers call amd64.
    #[serde(rename = "x86_64")]
    X86_64,
    /// `aarch64`, which Debian and containers call arm64.
    #[serde(rename = "aarch64")]
    Aarch64,
}

/// How many bytes of a program [`Processor::of_program`] reads.
pub const PROGRAM_HEADER: usize = 20;

impl Processor {
    /// All of them.
    pub const ALL: [Processor; 2] = [Processor::X86_64, Processor::Aarch64];

    /// That of this machine: this program runs on it.
    pub const HOST: Processor = if cfg!(target_arch = "aarch64") {
        Processor::Aarch64
    } else {
        Processor::X86_64
    };

    /// As the kernel, rpm and QEMU call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Processor::X86_64 => "x86_64",
            Processor::Aarch64 => "aarch64",
        }
    }

    /// As the image format of the Open Container Initiative calls it.
    #[must_use]
    pub fn in_containers(self) -> &'static str {
        match self {
            Processor::X86_64 => "amd64",
            Processor::Aarch64 => "arm64",
        }
    }

    /// `--platform` of container engines.
    pub(crate) fn platform(self) -> String {
        format!("linux/{}", self.in_containers())
    }

    /// Whether a container image says that it is for this one.
    #[must_use]
    pub fn is_called(self, name: &str) -> bool {
        name == self.in_containers() || name == self.as_str()
    }

    /// `e_machine` of its programs, as ELF numbers machines.
    pub(crate) fn machine(self) -> u16 {
        match self {
            Processor::X86_64 => 62,
            Processor::Aarch64 => 183,
        }
    }

    /// The one that a program or library is for, by its first bytes; nothing for what is no ELF file of
    /// 64 bits for one of them.
    #[must_use]
    pub fn of_program(start: &[u8]) -> Option<Self> {
        let is_elf = start.starts_with(b"\x7fELF\x02\x01");
        let machine = start.get(18..PROGRAM_HEADER)?.try_into().ok()?;
        let machine = u16::from_le_bytes(machine);
        let found = Processor::ALL.into_iter();
        found
            .filter(|_| is_elf)
            .find(|processor| processor.machine() == machine)
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_what_it_is_for() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Processor::of_program(&own), Some(Processor::HOST));
        let mut other = own[..PROGRAM_HEADER].to_vec();
        other[18..].copy_from_slice(&Processor::Aarch64.machine().to_le_bytes());
        assert_eq!(Processor::of_program(&other), Some(Processor::Aarch64));
        assert_eq!(Processor::of_program(&other[..19]), None);
        assert_eq!(Processor::of_program(b"#!/bin/sh\n, and more of it"), None);
        // Of 32 bits.
        other[4] = 1;
        assert_eq!(Processor::of_program(&other), None);
    }
}
