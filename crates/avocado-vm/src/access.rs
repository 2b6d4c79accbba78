//! The way into the guest: a key of its own, and the arguments of `ssh`. Nothing in `~/.ssh` is
//! read or written.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::dir::{StateDir, StateFile};
use crate::error::VmError;
use crate::files;
use crate::named;

/// Seconds between two signs of life of a connection that has nothing to say.
const ALIVE: u32 = 30;

/// Where the guest's docker socket is.
pub const GUEST_DOCKER_SOCKET: &str = "/run/docker.sock";

/// The user's key for the guest, made where it is missing. Answers with the line of its public
/// half, as `authorized_keys` takes it.
///
/// # Errors
/// When the files cannot be written, or there is no `ssh-keygen`.
pub fn prepare_key(dir: &StateDir) -> Result<String, VmError> {
    dir.create()?;
    let (private, public) = (
        dir.file(StateFile::SshKey),
        dir.file(StateFile::SshPublicKey),
    );
    if !private.exists() {
        // The private half comes last: it is there only with its other half.
        let place = tempfile::Builder::new()
            .prefix(".ssh-key.")
            .tempdir_in(dir.root())
            .map_err(VmError::file("create a directory in", dir.root()))?;
        let made = place.path().join("key");
        let type_and_comment = ["-q", "-t", "ed25519", "-N", "", "-C", "avocado-vm", "-f"];
        keygen(Command::new("ssh-keygen").args(type_and_comment).arg(&made))?;
        let halves = [(made.with_extension("pub"), &public), (made, &private)];
        for (from, to) in halves {
            close(&from)?;
            let synced = fs::File::open(&from).and_then(|file| file.sync_all());
            synced.map_err(VmError::file("write", &from))?;
            fs::rename(&from, to).map_err(VmError::file("write", to))?;
        }
        files::sync_directory(dir.root())?;
    }
    // ssh refuses a key that others can read.
    close(&private)?;
    if let Some(line) = dir.read_line(StateFile::SshPublicKey) {
        return Ok(line);
    }
    let line = keygen(Command::new("ssh-keygen").arg("-y").arg("-f").arg(&private))?;
    dir.write(StateFile::SshPublicKey, format!("{line}\n").as_bytes())?;
    Ok(line)
}

/// Runs `ssh-keygen`; answers with the first line that it said.
fn keygen(command: &mut Command) -> Result<String, VmError> {
    const PROGRAM: &str = "ssh-keygen";
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| VmError::Program {
        program: PROGRAM,
        source,
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(VmError::ProgramFailed {
            program: PROGRAM,
            said: text(&output.stderr),
        });
    }
    Ok(text(&output.stdout).lines().next().unwrap_or("").to_owned())
}

/// For the user only.
fn close(path: &Path) -> Result<(), VmError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let closed = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
        closed.map_err(VmError::file("close", path))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Forgets the guest's host key. To be done for each guest that boots: it may have made a new one,
/// and ssh would then refuse to forward anything.
pub fn forget_host(dir: &StateDir) -> Result<(), VmError> {
    // Empty and not gone: ssh would make it readable for others.
    dir.write(StateFile::KnownHosts, b"")
}

/// Writes `ssh-config`, with which `ssh -F <state dir>/ssh-config avocado-vm` reaches the guest by
/// the port that wakes it. It says nothing of other hosts, so that `~/.ssh/config` can include it.
pub fn write_ssh_config(dir: &StateDir, port: u16) -> Result<(), VmError> {
    let mut text = format!("Host {}\n", named::outside_name(dir));
    let mut line = |key: &str, value: &str| {
        text.push_str(&format!("  {key} {value}\n"));
    };
    line("HostName", "127.0.0.1");
    line("Port", &port.to_string());
    line("User", "root");
    let key = dir.file(StateFile::SshKey);
    line("IdentityFile", &quoted(&key));
    let known = dir.file(StateFile::KnownHosts);
    line("UserKnownHostsFile", &quoted(&known));
    for (key, value) in OPTIONS {
        line(key, value);
    }
    line("ConnectTimeout", WAKING);
    line("ServerAliveInterval", "0");
    // Where it is included, what is said of every host counts as well: there is no way around.
    line("ProxyCommand", "none");
    dir.write(StateFile::SshConfig, text.as_bytes())
}

/// How long ssh waits for the first word of a guest that may have to be woken first, or even to
/// boot because its saved memory does not fit; in seconds. If that fails, the supervisor says so.
const WAKING: &str = "330";
/// The same of a guest that runs.
const RUNNING: &str = "30";

/// What every connection to the guest has in common.
const OPTIONS: [(&str, &str); 7] = [
    ("HostKeyAlias", "avocado-vm"),
    ("GlobalKnownHostsFile", "/dev/null"),
    ("StrictHostKeyChecking", "no"),
    ("IdentitiesOnly", "yes"),
    ("BatchMode", "yes"),
    ("PasswordAuthentication", "no"),
    ("LogLevel", "ERROR"),
];

/// A path as ssh's configuration takes it: quoted, and with its percent signs doubled.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The arguments of `ssh` for one connection to `root` of the guest through `port`, which answers
/// within `patience`.
fn arguments(dir: &StateDir, port: u16, patience: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    // Neither the user's configuration nor the system's: a jump host in there would lead astray.
    arguments.extend(["-F".into(), "none".into()]);
    for (key, value) in OPTIONS {
        arguments.extend(["-o".into(), format!("{key}={value}").into()]);
    }
    arguments.extend(["-o".into(), format!("ConnectTimeout={patience}").into()]);
    let known = quoted(&dir.file(StateFile::KnownHosts));
    arguments.extend(["-o".into(), format!("UserKnownHostsFile={known}").into()]);
    let key = quoted(&dir.file(StateFile::SshKey));
    arguments.extend(["-o".into(), format!("IdentityFile={key}").into()]);
    arguments.extend(["-p".into(), port.to_string().into()]);
    arguments
}

fn keep_alive(arguments: &mut Vec<OsString>) {
    let interval = format!("ServerAliveInterval={ALIVE}");
    arguments.extend(["-o".into(), interval.into()]);
    arguments.extend(["-o".into(), "ServerAliveCountMax=3".into()]);
}

/// The arguments of `ssh` for a shell in the guest, or for a command.
///
/// One word is a line for the guest's shell; of several each is passed on as it is. A command
/// gives signs of life while it is silent, by which a connection that broke is found out; it is the
/// command that keeps the guest awake. A shell at which nobody types gives none. `terminal` asks for one for a command; a shell has it anyway.
pub fn shell_arguments(
    dir: &StateDir,
    port: u16,
    command: &[String],
    terminal: bool,
) -> Vec<OsString> {
    let mut all = arguments(dir, port, WAKING);
    if command.is_empty() {
        // Said aloud, because BatchMode has an interval of its own.
        all.extend(["-o".into(), "ServerAliveInterval=0".into()]);
    } else {
        keep_alive(&mut all);
        if terminal {
            all.push("-t".into());
        }
    }
    all.extend(["--".into(), "root@127.0.0.1".into()]);
    match command {
        [] => {}
        [line] => all.push(line.into()),
        words => {
            let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
            all.push(words.join(" ").into());
        }
    }
    all
}

/// The arguments of `ssh` for a tunnel from a socket here to the guest's docker socket, through
/// QEMU's own forward. It takes further forwards from [`tunnel_port_arguments`].
pub fn tunnel_arguments(dir: &StateDir, internal_port: u16) -> Vec<OsString> {
    let mut all = arguments(dir, internal_port, RUNNING);
    keep_alive(&mut all);
    for option in [
        "ExitOnForwardFailure=yes",
        "StreamLocalBindUnlink=yes",
        "StreamLocalBindMask=0177",
        "ControlMaster=yes",
    ] {
        all.extend(["-o".into(), option.into()]);
    }
    all.extend(["-o".into(), control_path(dir).into()]);
    let socket = local_socket(&dir.file(StateFile::DockerInternal));
    let forward = format!("{socket}:{GUEST_DOCKER_SOCKET}");
    all.extend(["-N".into(), "-T".into(), "-L".into(), forward.into()]);
    all.extend(["--".into(), "root@127.0.0.1".into()]);
    all
}

/// The arguments of `ssh` that make a running tunnel forward `socket` to an address of the guest,
/// such as `127.0.0.1:80`; with `cancel` it does so no longer.
pub fn tunnel_port_arguments(
    dir: &StateDir,
    socket: &Path,
    address: &str,
    cancel: bool,
) -> Vec<OsString> {
    let verb = if cancel { "cancel" } else { "forward" };
    let forward = format!("{}:{address}", local_socket(socket));
    let mut all: Vec<OsString> = vec!["-F".into(), "none".into()];
    all.extend(["-o".into(), control_path(dir).into()]);
    all.extend(["-O".into(), verb.into(), "-L".into(), forward.into()]);
    all.extend(["--".into(), "root@127.0.0.1".into()]);
    all
}

fn control_path(dir: &StateDir) -> String {
    format!(
        "ControlPath={}",
        quoted(&dir.file(StateFile::TunnelControl))
    )
}

/// A socket in the argument of `-L`: the colon separates, the backslash protects, the percent sign
/// is expanded.
fn local_socket(path: &Path) -> String {
    let path = path.to_string_lossy().replace('\\', r"\\");
    path.replace(':', r"\:").replace('%', "%%")
}

/// A word that a POSIX shell takes for one word, whatever is in it.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, StateDir) {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path().join("a %h \"b"));
        dir.create().unwrap();
        (place, dir)
    }

    /// Whether the program can be run here.
    fn has(program: &str) -> bool {
        let there = Command::new(program)
            .arg("-V")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        if !there {
            avocado_test_support::skip("access", format!("there is no {program} here"));
        }
        there
    }

    #[test]
    #[cfg(unix)]
    fn a_key_is_made_once_and_mended() {
        use std::os::unix::fs::PermissionsExt;
        if !has("ssh-keygen") {
            return;
        }
        let (_place, dir) = place();
        let line = prepare_key(&dir).unwrap();
        assert!(
            line.starts_with("ssh-ed25519 ") && line.ends_with(" avocado-vm"),
            "{line}"
        );
        let private = dir.file(StateFile::SshKey);
        let bytes = fs::read(&private).unwrap();
        assert!(bytes.starts_with(b"-----BEGIN OPENSSH PRIVATE KEY-----\n"));
        fs::set_permissions(&private, fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(dir.file(StateFile::SshPublicKey)).unwrap();
        let again = prepare_key(&dir).unwrap();
        assert!(line.starts_with(&again) || again == line, "{again}");
        assert_eq!(fs::read(&private).unwrap(), bytes);
        for file in [StateFile::SshKey, StateFile::SshPublicKey] {
            let mode = fs::metadata(dir.file(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.root()).unwrap().count(), 2);
    }

    #[test]
    #[cfg(unix)]
    fn ssh_understands_what_it_gets() {
        if !has("ssh") {
            return;
        }
        let (_place, dir) = place();
        write_ssh_config(&dir, 2222).unwrap();
        let show = |arguments: &mut dyn Iterator<Item = OsString>| {
            let output = Command::new("ssh")
                .arg("-G")
                .args(arguments)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            String::from_utf8(output.stdout).unwrap()
        };
        let key = dir.file(StateFile::SshKey);
        let known = dir.file(StateFile::KnownHosts);
        let config = dir.file(StateFile::SshConfig).into_os_string();
        let mut by_config = ["-F".into(), config, "avocado-vm".into()].into_iter();
        let by_config = show(&mut by_config);
        let shell = show(&mut shell_arguments(&dir, 2222, &[], false).into_iter());
        let tunnel = show(&mut tunnel_arguments(&dir, 2222).into_iter());
        for shown in [&by_config, &shell, &tunnel] {
            for line in [
                "user root",
                "hostname 127.0.0.1",
                "port 2222",
                "batchmode yes",
                "stricthostkeychecking false",
                // Here percent signs are expanded only when a connection is made.
                &format!("identityfile {}", key.display()).replace('%', "%%"),
                &format!("userknownhostsfile {}", known.display()),
            ] {
                let found = shown.lines().any(|l| l.trim_end() == line);
                assert!(found, "{line} is not in\n{shown}");
            }
        }
        assert!(tunnel.contains("exitonforwardfailure yes"));
        assert!(tunnel.contains("serveraliveinterval 30"));
        assert!(tunnel.contains(&format!("docker.sock.internal {GUEST_DOCKER_SOCKET}")));
        assert!(shell.contains("serveraliveinterval 0"));
        assert!(by_config.contains("serveraliveinterval 0"));
        let command = show(&mut shell_arguments(&dir, 2222, &["true".into()], false).into_iter());
        assert!(command.contains("serveraliveinterval 30"));
    }

    #[test]
    #[cfg(unix)]
    fn it_can_be_included_while_the_vm_runs_and_while_it_does_not() {
        if !has("ssh") {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::new(place.path().join("a b"));
        dir.create().unwrap();
        let config = dir.file(StateFile::SshConfig);
        let main = place.path().join("config");
        let text = format!(
            "Include {}\nHost other\n  Port 9\nHost *\n  User fred\n  ProxyJump bastion\n",
            quoted(&config)
        );
        fs::write(&main, text).unwrap();
        let show = |host: &str| {
            let mut ssh = Command::new("ssh");
            let output = ssh
                .args(["-G", "-F"])
                .arg(&main)
                .arg(host)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            String::from_utf8(output.stdout).unwrap()
        };
        let others = || [show("other"), show("127.0.0.1")];
        let without = others();
        assert!(show("avocado-vm").contains("hostname avocado-vm\n"));
        write_ssh_config(&dir, 2222).unwrap();
        let vm = show("avocado-vm");
        for line in ["user root", "hostname 127.0.0.1", "port 2222"] {
            assert!(vm.lines().any(|shown| shown == line), "{line}: {vm}");
        }
        for word in ["proxyjump", "proxycommand"] {
            assert!(!vm.contains(word), "{vm}");
        }
        let known = dir.file(StateFile::KnownHosts);
        let known = format!("userknownhostsfile {}", known.display());
        assert!(vm.lines().any(|shown| shown.trim_end() == known), "{vm}");
        assert_eq!(others(), without);
        assert!(without[0].contains("proxyjump bastion"), "{without:?}");
        // Several VMs: each has its own.
        let web = StateDir::new(place.path().join("vms/web"));
        web.create().unwrap();
        write_ssh_config(&web, 2223).unwrap();
        let text = fs::read_to_string(&main).unwrap();
        let all = place.path().join("vms/*/ssh-config");
        fs::write(&main, format!("Include {}\n{text}", all.display())).unwrap();
        assert!(show("avocado-vm").contains("port 2222\n"));
        assert!(show("avocado-vm-web").contains("port 2223\n"));
        // It goes with the VM.
        dir.remove(StateFile::SshConfig).unwrap();
        assert!(show("avocado-vm").contains("user fred\n"));
    }

    #[test]
    fn words_stay_words() {
        let (_place, dir) = place();
        let last = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
            shell_arguments(&dir, 1, &words, true).pop().unwrap()
        };
        assert_eq!(last(&[]), "root@127.0.0.1");
        assert_eq!(last(&["cd /tmp && ls"]), "cd /tmp && ls");
        assert_eq!(last(&["ls", "a b", "it's", ""]), r"ls 'a b' 'it'\''s' ''");
    }
}
