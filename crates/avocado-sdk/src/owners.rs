//! Owners of files, where nobody can be root. In a user namespace of one user every file is that
//! user's, and a package manager that gives a file to somebody else would be refused. What owns
//! a file in a tree does not matter: in an image everything is root's. So the request is answered
//! with success and nothing is done, as under `fakeroot`.

use std::io;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    sock_filter, sock_fprog,
};

/// What the kernel calls this architecture, and its system calls that give a file away.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: (u32, &[i64]) = (
    0xc000_003e,
    &[
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_fchown,
        libc::SYS_fchownat,
    ],
);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: (u32, &[i64]) = (0xc000_00b7, &[libc::SYS_fchown, libc::SYS_fchownat]);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: (u32, &[i64]) = (0, &[]);

/// Where `struct seccomp_data` has the number of the system call and the architecture.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// From now on this thread, and every process that it starts, keeps all files as they are owned
/// and is told that it has given them away. Needs the right to administrate its namespace.
pub(crate) fn keep() -> io::Result<()> {
    let mut program = filter();
    let program = sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    set(&program)
}

/// Loads the architecture, then the number, and compares.
fn filter() -> Vec<sock_filter> {
    let (architecture, calls) = ARCHITECTURE;
    let load = |at| statement(BPF_LD | BPF_W | BPF_ABS, at);
    let answer = |how| statement(BPF_RET | BPF_K, how);
    let is = |value, then, otherwise| sock_filter {
        jt: then,
        jf: otherwise,
        ..statement(BPF_JMP | BPF_JEQ | BPF_K, value)
    };
    // A program for another architecture numbers its calls differently, and is let alone.
    let mut program = vec![
        load(ARCH),
        is(architecture, 1, 0),
        answer(SECCOMP_RET_ALLOW),
        load(NUMBER),
    ];
    for call in calls {
        // To the next instruction, or over it.
        program.push(is(*call as u32, 0, 1));
        program.push(answer(SECCOMP_RET_ERRNO));
    }
    program.push(answer(SECCOMP_RET_ALLOW));
    program
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

#[allow(unsafe_code)]
fn set(program: &sock_fprog) -> io::Result<()> {
    // SAFETY: the program is valid for the length that it states, and the kernel copies it.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
            std::ptr::from_ref(program),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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
                // Who is not root needs this; who is may have it.
                rustix::thread::set_no_new_privs(true).unwrap();
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
}
