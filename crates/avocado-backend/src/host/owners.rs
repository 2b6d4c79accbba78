//! Owners of files, where the step runs without root. In a user namespace of one user every file
//! is that user's, and a package manager that gives a file to another one would be refused. What
//! owns a file in a tree does not matter: in an image everything is root's. So the request is
//! answered with success and nothing is done, as under `fakeroot`.

use std::io;

use seccompiler::{SeccompAction, SeccompFilter, TargetArch};

/// The system calls that give a file away.
const CALLS: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
];

/// From now on this thread, and every process that it starts, keeps all files as they are owned
/// and is told that it has given them away. None of them can gain privileges any more, which in a
/// namespace of one user none could anyway.
pub(crate) fn keep() -> io::Result<()> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let calls = CALLS.iter().map(|call| (*call, Vec::new()));
    let filter = SeccompFilter::new(
        calls.collect(),
        SeccompAction::Allow,
        // The "error" 0 is success.
        SeccompAction::Errno(0),
        architecture,
    );
    let mut program = filter
        .and_then(seccompiler::BpfProgram::try_from)
        .map_err(io::Error::other)?;
    // A program for another architecture, say a vendor's tool of 32 bits, numbers its calls
    // differently. The library would have it killed; here it is let alone.
    for instruction in &mut program {
        if instruction.k == libc::SECCOMP_RET_KILL_PROCESS {
            instruction.k = libc::SECCOMP_RET_ALLOW;
        }
    }
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown};
    use std::process::Command;

    #[test]
    fn giving_a_file_away_succeeds_and_does_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let owner = |m: fs::Metadata| (m.uid(), m.gid());
        let before = owner(fs::metadata(&file).unwrap());
        let other = (before.0 + 1, before.1 + 1);
        // The filter is for one thread; the next test has another one.
        let thread = std::thread::spawn({
            let file = file.clone();
            move || {
                keep().unwrap();
                chown(&file, Some(other.0), Some(other.1)).unwrap();
                lchown(&file, Some(other.0), None).unwrap();
                rustix::fs::fchown(
                    fs::File::open(&file).unwrap(),
                    Some(rustix::fs::Uid::from_raw(other.0)),
                    None,
                )
                .unwrap();
                let owner = format!("{}:{}", other.0, other.1);
                let tool = Command::new("chown").arg(owner).arg(&file).output();
                assert!(tool.as_ref().unwrap().status.success(), "{tool:?}");
                // Everything else works as ever.
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
                chown(file.with_file_name("none"), Some(other.0), None).unwrap();
            }
        });
        thread.join().unwrap();
        let after = fs::metadata(&file).unwrap();
        assert_eq!(after.permissions().mode() & 0o777, 0o600);
        assert_eq!(owner(after), before);
    }

    /// A program for x86 with 32 bits that ends with 7.
    #[cfg(target_arch = "x86_64")]
    fn program_of_32_bits() -> Vec<u8> {
        const BASE: u32 = 0x0804_8000;
        let code = [0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80];
        let mut program = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        program.extend([2, 0, 3, 0, 1, 0, 0, 0]);
        for word in [BASE + 84, 52, 0, 0] {
            program.extend(word.to_le_bytes());
        }
        program.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        for word in [1, 0, BASE, BASE, 96, 96, 5, 0x1000] {
            program.extend(u32::to_le_bytes(word));
        }
        program.extend(code);
        program
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_program_of_another_architecture_is_let_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (data, program) = (dir.path().join("data"), dir.path().join("program"));
        fs::write(&data, program_of_32_bits()).unwrap();
        // Not written by this process, whose other children might hold it open.
        let mut install = Command::new("install");
        let installed = install.args(["-m", "755"]).args([&data, &program]).status();
        assert!(installed.unwrap().success());
        let run = || Command::new(&program).status().ok().and_then(|s| s.code());
        if run() != Some(7) {
            avocado_test_support::skip(
                "a_program_of_another_architecture_is_let_alone",
                "this kernel runs no programs of 32 bits",
            );
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                keep().unwrap();
                assert_eq!(run(), Some(7));
            });
        });
    }
}
