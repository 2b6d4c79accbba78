//! Steps on another machine (`--runs-on`): the backend there, and the NFS server here by which it sees
//! the project.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use avocado_backend::{
    Backend, BackendError, Capabilities, Job, Processor, RemoteBackend, RemoteHost, RemoteOptions,
    RemoteRoute, SharedDirectory, ToolQuery,
};
use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::Name;
use avocado_nfs::{NfsAccess, NfsClients, NfsError, NfsExport, NfsServer, NfsServerOptions};
use avocado_ssh::SshAddress;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::options::Options;

/// The ports of which one is taken where none is named.
const PORTS: std::ops::RangeInclusive<u16> = 12050..=12099;

/// The machine that steps run on, and how it sees the project.
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// That machine.
    pub address: SshAddress,
    /// The port of the NFS server here; any free one of 12050 to 12099 where none is named.
    pub nfs_port: Option<u16>,
    /// The program of that server, NFS-Ganesha.
    pub nfs_program: PathBuf,
    /// A directory for temporary files, with a short path without spaces.
    pub temporary: PathBuf,
}

/// A backend on another machine, with what it shares.
#[derive(Debug)]
struct SharingBackend<'a> {
    // Dropped in this order: first what uses the server.
    backend: RemoteBackend<'a>,
    _server: ServerOfRun,
}

/// Connects to that machine and shares the project with it. To be called from a thread that lives as long
/// as the backend.
pub(crate) fn open<'a>(
    options: &Options,
    layout: &Layout,
    settings: &RemoteSettings,
    cancel: &'a Cancel,
    sink: &dyn Sink,
) -> Result<Box<dyn Backend + 'a>, BuildError> {
    let secret = RunSecret::new()?;
    let directories = shared(options, &secret)?;
    let host = RemoteHost::connect(
        &RemoteOptions {
            address: settings.address.clone(),
            program: options.exe.clone(),
            temporary: settings.temporary.clone(),
        },
        cancel,
        sink,
    )?;
    let route = host.route()?;
    let is_translated = route.is_translated(&host);
    if is_translated {
        sink.emit(Event::warning(format!(
            "addresses are translated between here and {}: while this runs, nothing but the secret path of \
             its export keeps other users of what has the address {} here from the project",
            host.name(),
            route.client
        )));
    }
    sink.emit(Event::warning(format!(
        "the NFS server keeps no times of symbolic links: an image with some that is made on {} has other \
         bytes than one that is made here",
        host.name()
    )));
    let (server, port) = serve(
        layout,
        settings,
        &directories,
        &secret,
        route,
        !is_translated,
    )?;
    let address = SocketAddr::new(route.advertised, port);
    let identities = layout.tool_identities_of_machine();
    Ok(Box::new(SharingBackend {
        backend: RemoteBackend::new(host, address, directories, identities, cancel),
        _server: server,
    }))
}

/// What no other run has, and nobody knows but that machine, which is told over ssh: the server of another
/// run has nothing at these paths, and what a job of a killed run still holds means nothing to this one's.
struct RunSecret {
    /// 128 bits.
    token: String,
    first_number: u16,
}

impl RunSecret {
    fn new() -> Result<Self, BuildError> {
        let mut bytes = [0; 18];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| BuildError::Invalid("the system has no random numbers".to_owned()))?;
        let [token @ .., first, second] = bytes;
        Ok(RunSecret {
            token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
            // Above 0, with room for the exports, of which there are as many as directories.
            first_number: u16::from_be_bytes([first, second]) / 2 + 1,
        })
    }

    /// The name of an export.
    fn export(&self, number: usize) -> String {
        format!("{}-{number}", self.token)
    }
}

/// The project, its state, and the directories of this machine that its extensions are in: each once, and
/// none that is in another one.
fn shared(options: &Options, secret: &RunSecret) -> Result<Vec<SharedDirectory>, BuildError> {
    let project = &options.project;
    let state = project.state_dir();
    fs::create_dir_all(&state).at("make", &state)?;
    let of_extensions = project.extensions.iter().map(|e| &e.fetched_to);
    let of_sources = project.sources.iter().map(|s| &s.fetched_to);
    let fetched = of_extensions.chain(of_sources).flatten().cloned();
    let all = [project.src_dir.clone(), state].into_iter().chain(fetched);
    let mut real = Vec::new();
    for path in all.filter(|path| path.exists()) {
        real.push(fs::canonicalize(&path).at("find", &path)?);
    }
    let keyrings = options.keyring.iter().chain(&options.owner_keyring);
    for keyring in keyrings.filter_map(|path| fs::canonicalize(path).ok()) {
        if real.iter().any(|path| keyring.starts_with(path)) {
            return Err(BuildError::Invalid(format!(
                "the signing keys are in {}, which is in the project: --runs-on would show them to the \
                 other machine; move them, or set AVOCADO_SIGNING_KEYS_DIR",
                keyring.display()
            )));
        }
    }
    Ok(outermost(real)
        .into_iter()
        .enumerate()
        .map(|(number, path)| SharedDirectory {
            name: secret.export(number),
            path,
        })
        .collect())
}

/// Those that are in none of the others.
fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    // What is above comes before what is below it.
    paths.sort();
    let mut outermost: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !outermost
            .last()
            .is_some_and(|above| path.starts_with(above))
        {
            outermost.push(path);
        }
    }
    outermost
}

/// A server with its files, which go when it has ended.
#[derive(Debug)]
struct ServerOfRun {
    _server: NfsServer,
    _directory: ServerDirectory,
}

/// The directory for the files of the server of this run.
#[derive(Debug)]
struct ServerDirectory(PathBuf);

impl ServerDirectory {
    /// An empty one, which nobody else may look into: the secret is in there. The caller holds the lock of
    /// the state, so what is there was left by a run that was killed.
    fn make(layout: &Layout) -> Result<Self, BuildError> {
        let path = layout.nfs_server();
        avocado_fs::remove_tree(&path)?;
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.at("make", &path)?;
        Ok(ServerDirectory(path))
    }
}

impl Drop for ServerDirectory {
    fn drop(&mut self) {
        // What led here is what is to be told, and the next run removes it as well.
        let _ = avocado_fs::remove_tree(&self.0);
    }
}

/// Starts the server at the first port that is free.
fn serve(
    layout: &Layout,
    settings: &RemoteSettings,
    directories: &[SharedDirectory],
    secret: &RunSecret,
    route: RemoteRoute,
    privileged: bool,
) -> Result<(ServerOfRun, u16), BuildError> {
    let directory = ServerDirectory::make(layout)?;
    let mut exports = Vec::new();
    for shared in directories {
        exports.push(NfsExport {
            name: name(&shared.name)?,
            path: shared.path.clone(),
            access: NfsAccess::Write,
        });
    }
    let mut options = NfsServerOptions {
        program: settings.nfs_program.clone(),
        address: SocketAddr::new(route.listen, 0),
        directory: directory.0.clone(),
        exports,
        first_number: secret.first_number,
        clients: NfsClients::One {
            address: route.client,
            privileged,
        },
    };
    let ports: Vec<u16> = match settings.nfs_port {
        Some(port) => vec![port],
        None => PORTS.collect(),
    };
    let mut last = None;
    for port in ports {
        options.address.set_port(port);
        match NfsServer::start(&options) {
            Ok(server) => {
                let server = ServerOfRun {
                    _server: server,
                    _directory: directory,
                };
                return Ok((server, port));
            }
            Err(error @ NfsError::Address { .. }) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or_else(
        || BuildError::Invalid("there is no port for the NFS server".to_owned()),
        Into::into,
    ))
}

fn name(text: &str) -> Result<Name, BuildError> {
    text.parse()
        .map_err(|_| BuildError::Invalid(format!("`{text}` is no name of an export")))
}

impl Backend for SharingBackend<'_> {
    fn capabilities(&self) -> Capabilities {
        self.backend.capabilities()
    }

    fn run(
        &self,
        job: &Job,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<serde_json::Value, BackendError> {
        self.backend.run(job, cancel, sink)
    }

    fn tool_identity(&self, query: &ToolQuery) -> Result<Option<String>, BackendError> {
        self.backend.tool_identity(query)
    }

    fn emulator_identity(&self, processor: Processor) -> Result<Option<String>, BackendError> {
        self.backend.emulator_identity(processor)
    }

    fn processes(&self) -> u64 {
        // ssh, and the server.
        2 + self.backend.processes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    #[test]
    fn no_two_runs_export_the_same() {
        let secrets: Vec<RunSecret> = (0..8).map(|_| RunSecret::new().unwrap()).collect();
        let exports: BTreeSet<String> = secrets.iter().map(|s| s.export(0)).collect();
        assert_eq!(exports.len(), secrets.len());
        let numbers: BTreeSet<u16> = secrets.iter().map(|s| s.first_number).collect();
        assert!(numbers.len() > 1 && !numbers.contains(&0));
        for export in exports {
            assert_eq!(export.len(), 34);
            name(&export).unwrap();
        }
    }

    #[test]
    fn the_files_of_a_server_are_of_one_run_and_for_nobody_else() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::new(place.path(), &"t".parse().unwrap());
        let path = layout.nfs_server();
        fs::create_dir_all(path.join("left")).unwrap();
        let directory = ServerDirectory::make(&layout).unwrap();
        assert!(!path.join("left").exists());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_in_another_share_is_no_share() {
        let paths = ["/p", "/p/.avocado/state", "/p2", "/a/b", "/p/x"];
        let found = outermost(paths.map(PathBuf::from).into());
        assert_eq!(found, ["/a/b", "/p", "/p2"].map(Path::new));
    }
}
