//! Programs for another processor, which QEMU's emulators of programs run.
//!
//! The kernel starts an emulator where `binfmt_misc` says so. What it says for a whole machine only its
//! administrator changes. Since Linux 6.7 each user namespace can have a `binfmt_misc` of its own, which
//! is what a job gets where the machine has nothing to say.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use avocado_fs::AtPath as _;
use avocado_manifest::Digest;
use rustix::mount::{MountFlags, mount};
use serde::{Deserialize, Serialize};

use crate::{BackendError, Processor, find_tool};

const PLACE: &str = "/proc/sys/fs/binfmt_misc";

/// An emulator of programs for another processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Emulator {
    processor: Processor,
    program: PathBuf,
}

/// How a job can start programs for another processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Emulation {
    /// The kernel of this machine emulates them for everybody, with this emulator.
    OfMachine(PathBuf),
    /// Jobs that need it tell the kernel to, each for itself, with this emulator.
    OfJobs(PathBuf),
    /// Not at all.
    None,
}

impl Emulation {
    /// What this machine's kernel says for programs for `processor`, wherever they are started:
    /// [`Emulation::OfMachine`] or nothing.
    pub(crate) fn of_machine(processor: Processor) -> Self {
        let entries = fs::read_dir(PLACE).into_iter().flatten().flatten();
        let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        let mut rules = texts.filter(|text| is_rule_for(processor, text));
        rules.next().map_or(Emulation::None, |rule| {
            let interpreter = field(&rule, "interpreter").unwrap_or_default();
            Emulation::OfMachine(interpreter.trim().into())
        })
    }

    /// What there is for `processor`, with the emulators on `search_path`. Whether the kernel takes
    /// one for a job is not tried; [`HostBackend::emulation`](crate::HostBackend::emulation) does that.
    #[must_use]
    pub fn of(processor: Processor, search_path: &OsStr) -> Self {
        let of_machine = Emulation::of_machine(processor);
        if of_machine != Emulation::None {
            return of_machine;
        }
        match emulator(processor, search_path) {
            Some(program) => Emulation::OfJobs(program),
            None => Emulation::None,
        }
    }

    /// What a job needs besides what the machine emulates.
    pub(crate) fn of_job(self, processor: Processor) -> Option<Emulator> {
        match self {
            Emulation::OfJobs(program) => Some(Emulator { processor, program }),
            Emulation::OfMachine(_) | Emulation::None => None,
        }
    }

    /// [`Backend::emulator_identity`](crate::Backend::emulator_identity).
    pub(crate) fn identity(&self) -> Result<Option<String>, BackendError> {
        let (Emulation::OfMachine(program) | Emulation::OfJobs(program)) = self else {
            return Ok(None);
        };
        // The kernel holds one open that is not there any more, or is there for a container alone.
        let Ok(content) = fs::File::open(program) else {
            return Ok(Some(program.display().to_string()));
        };
        let (digest, _) = Digest::of_reader(content).at("read", program)?;
        Ok(Some(digest.to_string()))
    }
}

impl Emulator {
    /// Tells the kernel of it, for this user namespace, whose mounts are its own.
    pub(crate) fn register(&self) -> io::Result<()> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("binfmt_misc", PLACE, "binfmt_misc", flags, None)?;
        let mut line = b":avocado:M::".to_vec();
        line.extend(escaped(&magic(self.processor)));
        line.push(b':');
        line.extend(escaped(&MASK));
        line.push(b':');
        line.extend(self.program.as_os_str().as_encoded_bytes());
        // P: programs get the name that they are started by (QEMU 6 understands that). F: it is opened now,
        // and need not be seen where it is needed.
        line.extend(b":PF");
        fs::write(Path::new(PLACE).join("register"), line)
    }
}

/// The start of a program's ELF header: of 64 bits, little-endian, for that machine.
fn magic(processor: Processor) -> [u8; 20] {
    let mut magic = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\0\0";
    magic[18..].copy_from_slice(&processor.machine().to_le_bytes());
    magic
}

/// Whatever system it was linked for, and position-independent (type 3) or not (2).
const MASK: [u8; 20] =
    *b"\xff\xff\xff\xff\xff\xff\xff\0\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for byte in bytes {
        // A string takes everything.
        let _ = write!(text, "\\x{byte:02x}");
    }
    text.into_bytes()
}

/// What an entry of `binfmt_misc` says of itself.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', ':']))
}

/// Whether an entry of `binfmt_misc` is such a rule.
fn is_rule_for(processor: Processor, text: &str) -> bool {
    let field = |name: &str| field(text, name);
    let wanted = magic(processor);
    let wanted: String = wanted.iter().map(|byte| format!("{byte:02x}")).collect();
    text.lines().next() == Some("enabled")
        && field("offset").is_some_and(|offset| offset.trim() == "0")
        && field("flags").is_some_and(|flags| flags.contains('F'))
        && field("magic").is_some_and(|magic| magic.trim() == wanted)
}

/// The emulator of programs for `processor`. One that is linked dynamically would not find its
/// libraries in the root directory of another system.
fn emulator(processor: Processor, search_path: &OsStr) -> Option<PathBuf> {
    let names = [
        format!("qemu-{processor}-static"),
        format!("qemu-{processor}"),
    ];
    let mut found = names.iter().filter_map(|name| find_tool(search_path, name));
    found.find(|program| is_static(program).unwrap_or(false))
}

/// Whether a program of 64 bits names no interpreter (elf(5)).
fn is_static(program: &Path) -> io::Result<bool> {
    const INTERPRETER: u32 = 3;
    let mut start = Vec::new();
    fs::File::open(program)?
        .take(4096)
        .read_to_end(&mut start)?;
    let number = |at: usize, length: usize| {
        let bytes = start.get(at..at.checked_add(length)?)?;
        let number = bytes.iter().rev();
        Some(number.fold(0_usize, |number, byte| (number << 8) | usize::from(*byte)))
    };
    let kind_of = |index: usize| {
        let place = number(32, 8)?.checked_add(index.checked_mul(number(54, 2)?)?)?;
        number(place, 4)
    };
    let count = number(56, 2).unwrap_or_default();
    Ok(start.starts_with(b"\x7fELF\x02\x01")
        && (0..count).all(|index| kind_of(index).is_some_and(|kind| kind != INTERPRETER as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POF\n\
                        offset 0\nmagic 7f454c460201010000000000000000000200b700\n\
                        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn a_rule_of_the_kernel_is_for_one_processor() {
        assert!(is_rule_for(Processor::Aarch64, RULE));
        assert!(!is_rule_for(Processor::X86_64, RULE));
        for (a, b) in [
            ("enabled", "disabled"),
            // Started anew in each root directory, where it is not.
            ("POF", "PO"),
            ("offset 0", "offset 4"),
        ] {
            assert!(!is_rule_for(Processor::Aarch64, &RULE.replace(a, b)), "{a}");
        }
        assert!(!is_rule_for(Processor::Aarch64, "enabled\n"));
    }

    #[test]
    fn an_emulator_is_known_by_its_content_or_by_where_it_was() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("qemu");
        let of = |emulation: Emulation| emulation.identity().unwrap();
        let gone = of(Emulation::OfMachine(program.clone()));
        assert_eq!(gone, Some(program.display().to_string()));
        fs::write(&program, "1").unwrap();
        let first = of(Emulation::OfMachine(program.clone()));
        assert_eq!(first, Some(Digest::of(b"1").to_string()));
        assert_eq!(of(Emulation::OfJobs(program.clone())), first);
        fs::write(&program, "2").unwrap();
        assert_ne!(of(Emulation::OfJobs(program)), first);
        assert_eq!(of(Emulation::None), None);
    }

    #[test]
    fn an_emulator_is_static() {
        assert!(!is_static(&std::env::current_exe().unwrap()).unwrap());
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("program");
        let mut header = magic(Processor::HOST).to_vec();
        header.resize(64, 0);
        header[32] = 64;
        header[54] = 56;
        header[56] = 1;
        // One segment that is loaded.
        header.extend([1, 0, 0, 0]);
        fs::write(&program, &header).unwrap();
        assert!(is_static(&program).unwrap());
        header[64] = 3;
        fs::write(&program, &header).unwrap();
        assert!(!is_static(&program).unwrap());
        fs::write(&program, "#!/bin/sh\n").unwrap();
        assert!(!is_static(&program).unwrap());
    }
}
