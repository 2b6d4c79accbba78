//! The systemd unit that starts a VM when its user logs in.

use std::path::{Path, PathBuf};

use crate::named::VmName;

/// The name of the unit of a VM.
pub fn unit_name(vm: &VmName) -> String {
    if vm.is_default() {
        "avocado-vm.service".to_owned()
    } else {
        format!("avocado-vm@{}.service", vm.as_str())
    }
}

/// What cannot stand in a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// systemd takes no program of such a name.
    #[error("systemd starts no program with this path: {0:?}")]
    Program(PathBuf),
    /// The search path of programs is no Unicode.
    #[error("the search path of programs is no Unicode: {0:?}")]
    SearchPath(PathBuf),
}

/// The text of the unit: `program` starts the VM as it was started last, and lets its guest sleep. `path` is the
/// search path of programs, where QEMU is found.
///
/// # Errors
/// One of the two cannot stand in a unit.
pub fn unit_text(vm: &VmName, program: &Path, path: &Path) -> Result<String, UnitError> {
    // In other words they can be escaped.
    let plain = |text: &&str| !text.contains(['"', '\'', '\\']) && !text.contains(char::is_control);
    let bad_program = || UnitError::Program(program.to_owned());
    let program = word(program.to_str().filter(plain).ok_or_else(bad_program)?);
    let bad_path = || UnitError::SearchPath(path.to_owned());
    let environment = word(&format!("PATH={}", path.to_str().ok_or_else(bad_path)?));
    let name = vm.as_str();
    // The colon: nothing of the line is taken for a variable. The dash: it may be in use already.
    Ok(format!(
        "# Written by `avocado vm autostart enable`; `avocado vm autostart disable` removes it.\n\
         [Unit]\n\
         Description=The development VM {name} of Avocado\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         Environment={environment}\n\
         ExecStart=:{program} vm --name {name} start --again\n\
         ExecStart=-:{program} vm --name {name} hibernate\n\
         ExecStop=:{program} vm --name {name} stop\n\
         TimeoutStopSec=200\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

/// A word of a line of a unit, whatever is in it.
fn word(text: &str) -> String {
    let mut word = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                word.push('\\');
                word.push(c);
            }
            '%' => word.push_str("%%"),
            c if c.is_ascii_control() => word.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn words_are_escaped() {
        for (text, expected) in [
            ("/usr/bin/avocado", r#""/usr/bin/avocado""#),
            (r#"/a "b" \c $D 100% 'e'"#, r#""/a \"b\" \\c $D 100%% 'e'""#),
            ("a\nExecStart=b\t", r#""a\x0aExecStart=b\x09""#),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn what_systemd_takes_for_no_program_is_refused() {
        let text =
            |program: &str| unit_text(&VmName::default_vm(), program.as_ref(), "/b".as_ref());
        for bad in ["/a\"b", "/it's", "/a\\b", "/a\nb"] {
            assert_eq!(text(bad), Err(UnitError::Program(bad.into())));
        }
        let text = text("/a b/$c").unwrap();
        assert!(
            text.contains("\nExecStart=:\"/a b/$c\" vm --name default start --again\n"),
            "{text}"
        );
    }

    #[test]
    fn systemd_understands_the_unit() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let bin = place.path().join("b in 100% $HOME; %h");
        std::fs::create_dir(&bin).unwrap();
        let program = bin.join("avo cado");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let search = place.path().join("\"a\" 'b' \\c 100% $D;");
        for name in ["default", "web-1"] {
            let vm: VmName = name.parse().unwrap();
            let unit = place.path().join(unit_name(&vm));
            std::fs::write(&unit, unit_text(&vm, &program, &search).unwrap()).unwrap();
            let checked = Command::new("systemd-analyze")
                .args(["verify", "--user", "--man=no"])
                .arg(&unit)
                .env("XDG_RUNTIME_DIR", place.path())
                .output();
            let Ok(checked) = checked else {
                let why = "there is no systemd-analyze here";
                avocado_test_support::skip("systemd_understands_the_unit", why);
                return;
            };
            let said = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{said}");
            assert!(!said.contains("avocado-vm"), "{said}");
        }
    }
}
