use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use avocado_fs::AtPath as _;
use avocado_manifest::Name;

use crate::configuration::configuration;
use crate::error::NfsError;
use crate::listener::owns_listener;

/// The name of the server's program.
pub const PROGRAM: &str = "ganesha.nfsd";

/// How long the server may take until it listens.
const START: Duration = Duration::from_secs(30);

/// How much of what the server said is told, in lines.
const TOLD: usize = 8;

/// A directory that is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsExport {
    /// Clients mount `/<name>`.
    pub name: Name,
    /// The directory.
    pub path: PathBuf,
    /// What clients may do there.
    pub access: NfsAccess,
}

/// What clients may do in a directory. Each counts as the one who started the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NfsAccess {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NfsClients {
    /// Who can reach the server.
    Everyone,
    /// One address, and there only who knows the names of the exports: none of them is listed. With
    /// `privileged`, also nobody but root there: the client's port is one that the kernel gives to no
    /// other user, as long as nothing between translates it.
    One {
        /// As the server sees it.
        address: IpAddr,
        /// Whether the client's port has to be below 1024.
        privileged: bool,
    },
}

/// What is served, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsServerOptions {
    /// The server's program, NFS-Ganesha.
    pub program: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// A directory for its own files.
    pub directory: PathBuf,
    /// What is exported.
    pub exports: Vec<NfsExport>,
    /// The number of the first export, above 0; the next ones follow. Clients have it in what they hold of
    /// files, so with another one they cannot go on where an earlier server ended.
    pub first_number: u16,
    /// To whom.
    pub clients: NfsClients,
}

/// A server that runs. It ends with this value, and with the thread that started it.
#[derive(Debug)]
pub struct NfsServer {
    child: Child,
    log: PathBuf,
}

impl NfsServer {
    /// Starts a server and waits until it listens. Called from the main thread: where the thread that
    /// starts it ends, the server does.
    ///
    /// # Errors
    /// The address cannot be used, or the server does not come up.
    pub fn start(options: &NfsServerOptions) -> Result<Self, NfsError> {
        let address = options.address;
        // The server would try for a while, and say it among much else.
        let free = TcpListener::bind(address);
        free.map_err(|source| NfsError::Address { address, source })?;
        let file = |name: &str| options.directory.join(name);
        let (settings, log) = (file("server.conf"), file("server.log"));
        let recovery = file("recovery");
        fs::create_dir_all(&recovery).at("make", &recovery)?;
        if let NfsClients::One { .. } = options.clients {
            make_hidden_root(options)?;
        }
        fs::write(&settings, configuration(options)?).at("write", &settings)?;
        let mut command = Command::new(&options.program);
        let arguments: [&OsStr; 9] = [
            "-F".as_ref(),
            "-N".as_ref(),
            "WARN".as_ref(),
            "-L".as_ref(),
            log.as_ref(),
            "-f".as_ref(),
            settings.as_ref(),
            "-p".as_ref(),
            // One that a caller can tell from another's.
            OsStr::new("server.pid"),
        ];
        command
            .args(arguments)
            .current_dir(&options.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt at the terminal is for the caller, who ends it.
            .process_group(0);
        avocado_backend::die_with_parent(&mut command);
        let child = command.spawn().map_err(|source| NfsError::Start {
            program: options.program.clone(),
            source,
        })?;
        let mut server = NfsServer { child, log };
        server.wait_for(address)?;
        Ok(server)
    }

    /// Waits until this server, and no other program, listens at its address.
    fn wait_for(&mut self, address: SocketAddr) -> Result<(), NfsError> {
        let deadline = Instant::now() + START;
        let reachable = reachable(address);
        let answers = || TcpStream::connect_timeout(&reachable, Duration::from_secs(1)).is_ok();
        loop {
            // Another program may have taken the address since it was free.
            let is_answered = answers();
            if self.listens_at(address.port())? {
                return Ok(());
            }
            if is_answered {
                return Err(NfsError::Address {
                    address,
                    source: io::ErrorKind::AddrInUse.into(),
                });
            }
            self.check()?;
            if Instant::now() >= deadline {
                return Err(NfsError::Silent {
                    address,
                    seconds: START.as_secs(),
                    log: self.said(),
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn listens_at(&self, port: u16) -> Result<bool, NfsError> {
        Ok(owns_listener(self.child.id(), port)?)
    }

    /// Whether the server still runs.
    ///
    /// # Errors
    /// [`NfsError::Ended`] where it does not.
    pub fn check(&mut self) -> Result<(), NfsError> {
        let ended = |status: String, log| Err(NfsError::Ended { status, log });
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => ended(status.to_string(), self.said()),
            Err(error) => ended(error.to_string(), self.said()),
        }
    }

    /// The end of what the server said.
    fn said(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let start = lines.len().saturating_sub(TOLD);
        lines.get(start..).unwrap_or_default().join("\n")
    }
}

impl Drop for NfsServer {
    /// It keeps nothing that has to be put away, so it is not asked.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the directory in which the exports are for who knows their names: others than its owner, as who
/// every client counts there, may pass through it and not read it.
fn make_hidden_root(options: &NfsServerOptions) -> Result<(), NfsError> {
    let root = hidden_root(&options.directory);
    for export in &options.exports {
        let place = root.join(&export.name);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(&place).at("make", &place)?;
    }
    let mode = fs::Permissions::from_mode(0o711);
    fs::set_permissions(&root, mode).at("change the mode of", &root)?;
    Ok(())
}

/// Where it is, in the directory of a server.
pub(crate) fn hidden_root(directory: &Path) -> PathBuf {
    directory.join("root")
}

/// An address at which what listens at `address` can be reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        reachable.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    reachable
}

/// Whether this process may start a server: files are opened by what clients hold of them and not
/// by their paths, for which the kernel wants CAP_DAC_READ_SEARCH (open_by_handle_at(2)).
///
/// # Errors
/// What this process may do cannot be read.
pub fn may_serve() -> io::Result<bool> {
    const DAC_READ_SEARCH: u64 = 1 << 2;
    let status = fs::read_to_string("/proc/thread-self/status")?;
    Ok(passed_on(&status) & DAC_READ_SEARCH != 0)
}

/// The capabilities that a program has that is started, from a `status` of proc(5).
fn passed_on(status: &str) -> u64 {
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    let mask = |key| line(key).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let is_root = line("Uid:").and_then(|ids| ids.split_whitespace().nth(1)) == Some("0");
    let key = if is_root { "CapBnd:" } else { "CapAmb:" };
    mask(key).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(directory: &Path, program: &str) -> NfsServerOptions {
        NfsServerOptions {
            program: program.into(),
            address: "127.0.0.1:0".parse().unwrap(),
            directory: directory.to_owned(),
            exports: Vec::new(),
            first_number: 1,
            clients: NfsClients::Everyone,
        }
    }

    /// A port at which nobody listens.
    fn free_port() -> u16 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    }

    #[test]
    fn a_listener_of_another_program_is_not_taken_for_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let log = dir.path().join("server.log");
        let mut server = NfsServer { child, log };
        // Taken after it was free, before the server came to it.
        let _taken = TcpListener::bind(address).unwrap();
        let error = server.wait_for(address).unwrap_err();
        assert!(matches!(error, NfsError::Address { .. }), "{error:?}");
    }

    #[test]
    fn where_the_names_are_secret_they_can_be_passed_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), "true");
        options.exports.push(NfsExport {
            name: "secret".parse().unwrap(),
            path: dir.path().to_owned(),
            access: NfsAccess::Write,
        });
        make_hidden_root(&options).unwrap();
        let root = hidden_root(dir.path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&root), 0o711);
        assert!(root.join("secret").is_dir());
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut options = options(dir.path(), "true");
        options.address = taken.local_addr().unwrap();
        let error = NfsServer::start(&options).unwrap_err();
        assert!(matches!(error, NfsError::Address { .. }), "{error:?}");
        assert!(!dir.path().join("server.conf").exists());
    }

    #[test]
    fn a_server_that_ends_at_once_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), "false");
        options.address.set_port(free_port());
        let error = NfsServer::start(&options).unwrap_err();
        assert!(matches!(error, NfsError::Ended { .. }), "{error:?}");
        options.program = "/nonexistent".into();
        let error = NfsServer::start(&options).unwrap_err();
        assert!(matches!(error, NfsError::Start { .. }), "{error:?}");
    }

    #[test]
    fn what_is_passed_on_depends_on_the_user() {
        let status = "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t4\nCapBnd:\t1ff\nCapAmb:\t0\n";
        assert_eq!(passed_on(status), 0);
        assert_eq!(passed_on(&status.replace("CapAmb:\t0", "CapAmb:\t4")), 4);
        assert_eq!(
            passed_on(&status.replace("Uid:\t1000\t1000", "Uid:\t1000\t0")),
            0x1ff
        );
    }
}
