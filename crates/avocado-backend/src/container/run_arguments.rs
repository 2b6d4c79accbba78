//! What `podman run` and `docker run` are told; both understand the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::job_socket::JobSocket;
use crate::job_view::JobView;
use crate::worker::{CALL, IN_CONTAINER};
use crate::{BackendError, MountAccess, Processor};

/// Where our own program is in a container.
const PROGRAM: &str = "/opt/.avocado/avocado";
/// And the directory where it calls its parent.
const PARENT: &str = "/opt/.avocado/parent";
/// Keys in a row that nobody types.
const NO_KEYS: &str = "ctrl-@,ctrl-_,ctrl-@,ctrl-_,ctrl-@,ctrl-_,ctrl-@,ctrl-_";
/// Variables that lead to a network, which docker may pass on by itself.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

/// The arguments of one `run`.
#[derive(Debug)]
pub(super) struct RunArguments {
    words: Vec<OsString>,
    /// What the job declares.
    environment: BTreeMap<String, OsString>,
    /// The names that the user sets.
    set_by_user: BTreeSet<String>,
    /// Where something is mounted already.
    targets: BTreeSet<PathBuf>,
    /// Where the step calls its parent, if it does.
    socket: Option<PathBuf>,
    is_docker: bool,
}

impl RunArguments {
    /// A container that ends with its first process and leaves nothing. `arguments` are the user's,
    /// for one that has the network; one that has none is closed to all else as well.
    pub(super) fn new(network: bool, arguments: &[String], is_docker: bool) -> Self {
        let mut words: Vec<OsString> = [
            "--rm",
            "--interactive",
            // As it was found: another one may have its name by now.
            "--pull=never",
            // What goes over its streams is for us, and nobody's log.
            "--log-driver=none",
            "--no-healthcheck",
            "--workdir=/",
            "--user=0:0",
            // Where the kernel labels files, those of the user stay as they are.
            "--security-opt=label=disable",
        ]
        .map(OsString::from)
        .into();
        if !is_docker {
            // A job says itself how it reaches a network, if it does.
            words.push("--http-proxy=false".into());
        }
        let mut set_by_user = BTreeSet::new();
        if network {
            if !arguments.iter().any(|word| is_network(word)) {
                words.push("--network=host".into());
            }
            words.extend(arguments.iter().map(OsString::from));
            set_by_user = variables_of(arguments);
        } else {
            words.push("--network=none".into());
        }
        RunArguments {
            words,
            environment: BTreeMap::new(),
            set_by_user,
            targets: BTreeSet::new(),
            socket: None,
            is_docker,
        }
    }

    /// The processor that the image is for, where it is not that of this machine: said to be meant.
    pub(super) fn set_platform(&mut self, processor: Processor) {
        let platform = format!("--platform={}", processor.platform());
        self.words.push(platform.into());
    }

    /// Variables of the container's environment. Their values go by the client's own, where no list
    /// of processes shows them; PATH is that of the image.
    pub(super) fn set_environment(&mut self, environment: &BTreeMap<String, OsString>) {
        self.environment.clone_from(environment);
    }

    /// Those of these variables that neither the job nor the user has set.
    pub(super) fn not_set_of<'v>(&self, names: impl Iterator<Item = &'v str>) -> Vec<String> {
        let is_set = |name: &str| {
            name == "PATH" || self.environment.contains_key(name) || self.set_by_user.contains(name)
        };
        let proxies = PROXIES.into_iter().filter(|_| self.is_docker);
        let names = names.filter(|name| !is_set(name)).map(ToOwned::to_owned);
        let proxies = proxies.filter(|name| !is_set(name)).map(ToOwned::to_owned);
        names.chain(proxies).collect()
    }

    /// Our own program.
    pub(super) fn mount_program(&mut self, program: &Path) -> Result<(), BackendError> {
        self.words.push(format!("--entrypoint={PROGRAM}").into());
        self.bind(program, Path::new(PROGRAM), MountAccess::Read)
    }

    /// The streams of the client are those of the job, which has a terminal where that has one. It
    /// calls its parent in `directory`.
    pub(super) fn attach(
        &mut self,
        directory: &Path,
        is_terminal: bool,
    ) -> Result<(), BackendError> {
        if is_terminal {
            self.words.push("--tty".into());
            // No keys are for the engine; docker has to have some, which nobody types.
            let keys = if self.is_docker { NO_KEYS } else { "" };
            self.words.push(format!("--detach-keys={keys}").into());
        }
        self.socket = Some(JobSocket::seen_at(Path::new(PARENT)));
        self.bind(directory, Path::new(PARENT), MountAccess::Read)
    }

    /// What a job sees of the host, and nothing in place of what it does not.
    pub(super) fn mount_view(&mut self, view: &JobView) -> Result<(), BackendError> {
        for mount in &view.mounts {
            self.bind(&mount.source, &mount.target, mount.access)?;
        }
        for path in view.visible.iter().filter(|path| path.exists()) {
            self.bind(path, path, MountAccess::Read)?;
        }
        let mut hidden = view.hidden_again();
        hidden.retain(|(source, _)| source.is_dir());
        for (_, place) in &hidden {
            let is_around = |other: &PathBuf| place != other && place.starts_with(other);
            if !hidden.iter().any(|(_, other)| is_around(other)) {
                self.hide(place)?;
            }
        }
        Ok(())
    }

    fn bind(
        &mut self,
        source: &Path,
        target: &Path,
        access: MountAccess,
    ) -> Result<(), BackendError> {
        // The same authority may be that of two feeds, and a project where it is mounted anyway.
        if !self.targets.insert(target.to_owned()) {
            return Ok(());
        }
        let mut option = OsString::from("--mount=type=bind");
        for (key, path) in [("source", source), ("target", target)] {
            option.push(format!(",{key}="));
            option.push(plain(path)?);
        }
        if access == MountAccess::Read {
            option.push(",readonly");
        }
        self.words.push(option);
        Ok(())
    }

    /// An empty directory that ends with the container: not a temporary file system, into which podman
    /// would copy what it covers.
    fn hide(&mut self, place: &Path) -> Result<(), BackendError> {
        if self.targets.insert(place.to_owned()) {
            let mut option = OsString::from("--mount=type=volume,target=");
            option.push(plain(place)?);
            self.words.push(option);
        }
        Ok(())
    }

    /// All of them, for a step in a container of `image`, and what the client's environment has to
    /// have.
    pub(super) fn of_image(mut self, image: &str) -> (Vec<OsString>, BTreeMap<String, OsString>) {
        for name in self.environment.keys() {
            self.words.extend(["--env".into(), name.into()]);
        }
        if self.is_docker {
            let is_set = |name: &&str| {
                self.environment.contains_key(*name) || self.set_by_user.contains(*name)
            };
            for name in PROXIES.iter().filter(|name| !is_set(name)) {
                self.words
                    .extend(["--env".into(), format!("{name}=").into()]);
            }
        }
        let last = ["--", image, "step", IN_CONTAINER].map(OsString::from);
        self.words.extend(last);
        if let Some(socket) = &self.socket {
            self.words.extend([CALL.into(), socket.into()]);
        }
        (self.words, self.environment)
    }
}

/// The names of the variables that these arguments of the user's set.
fn variables_of(arguments: &[String]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let joined = word.strip_prefix("--env=").or_else(|| {
            let short = word.strip_prefix("-e").filter(|rest| !rest.is_empty());
            short.filter(|_| !word.starts_with("--"))
        });
        let variable = match word.as_str() {
            "--env" | "-e" => words.next().map(String::as_str),
            _ => joined,
        };
        let name = variable.map(|v| v.split_once('=').map_or(v, |(name, _)| name));
        names.extend(name.map(ToOwned::to_owned));
    }
    names
}

/// The options of mounts are separated by commas, and the engines differ in what quotes one.
fn plain(path: &Path) -> Result<&OsStr, BackendError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.iter().any(|byte| b",\"\n\r".contains(byte)) {
        let path = path.to_owned();
        return Err(BackendError::UnmountablePath { path });
    }
    Ok(path.as_os_str())
}

fn is_network(word: &str) -> bool {
    let option = word.split_once('=').map_or(word, |(option, _)| option);
    matches!(option, "--network" | "--net")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mount;

    fn text(words: Vec<OsString>) -> Vec<String> {
        words
            .into_iter()
            .map(|w| w.into_string().unwrap())
            .collect()
    }

    /// The arguments that are not the same for every job.
    fn of_job(arguments: RunArguments) -> Vec<String> {
        let mut words = text(arguments.of_image("sdk").0);
        let begin = words.iter().position(|word| word == "--http-proxy=false");
        words.split_off(begin.unwrap() + 1)
    }

    #[test]
    fn a_job_gets_what_it_declares_and_the_arguments_of_the_user() {
        let directory = tempfile::tempdir().unwrap();
        let sources = directory.path().join("src");
        let (state, keys) = (sources.join("state"), sources.join("home/keys"));
        for place in [&state, &keys] {
            std::fs::create_dir_all(place).unwrap();
        }
        let mount = |source: &Path, target: &str, access| Mount {
            source: source.to_owned(),
            target: target.into(),
            access,
        };
        let authority = directory.path().join("ca.pem");
        std::fs::write(&authority, "").unwrap();
        let view = JobView {
            network: true,
            mounts: vec![
                mount(&state, "/opt/_avocado", MountAccess::Write),
                mount(&sources, "/opt/src", MountAccess::Read),
            ],
            visible: vec![authority.clone(), "/no/such/file".into(), authority.clone()],
            hidden: vec![
                keys,
                sources.join("home"),
                state.clone(),
                sources.join("none"),
            ],
            emulator: None,
        };
        let mut arguments = RunArguments::new(true, &["--privileged".to_owned()], false);
        let secret = BTreeMap::from([("TOKEN".to_owned(), "secret".into())]);
        arguments.set_environment(&secret);
        arguments.mount_program(Path::new("/bin/avocado")).unwrap();
        arguments.mount_view(&view).unwrap();
        let (state, sources) = (state.display(), sources.display());
        let ca = authority.display();
        let expected = [
            "--network=host".to_owned(),
            "--privileged".to_owned(),
            "--entrypoint=/opt/.avocado/avocado".to_owned(),
            "--mount=type=bind,source=/bin/avocado,target=/opt/.avocado/avocado,readonly"
                .to_owned(),
            format!("--mount=type=bind,source={state},target=/opt/_avocado"),
            format!("--mount=type=bind,source={sources},target=/opt/src,readonly"),
            format!("--mount=type=bind,source={ca},target={ca},readonly"),
            "--mount=type=volume,target=/opt/src/home".to_owned(),
            "--mount=type=volume,target=/opt/src/state".to_owned(),
            "--env".to_owned(),
            "TOKEN".to_owned(),
            "--".to_owned(),
            "sdk".to_owned(),
            "step".to_owned(),
            "--in-container".to_owned(),
        ];
        assert_eq!(of_job(arguments), expected);
    }

    #[test]
    fn the_network_is_that_of_the_job_before_that_of_the_user() {
        for (network, stated, expected) in [
            (true, &[][..], &["--network=host"][..]),
            (true, &["--network=other"], &["--network=other"]),
            (true, &["--net", "other"], &["--net", "other"]),
            (
                false,
                &["--network=host", "-v", "/:/host"],
                &["--network=none"],
            ),
        ] {
            let stated: Vec<String> = stated.iter().map(|w| (*w).to_owned()).collect();
            let shown = of_job(RunArguments::new(network, &stated, false));
            assert_eq!(shown.get(..shown.len() - 4).unwrap(), expected);
        }
    }

    #[test]
    fn what_an_image_sets_is_forgotten_unless_a_job_or_a_user_sets_it() {
        let stated = [
            "-e",
            "A=1",
            "--env",
            "B",
            "--env=C=3",
            "-eD=4",
            "--entry",
            "E",
        ];
        let stated: Vec<String> = stated.iter().map(|w| (*w).to_owned()).collect();
        let of_image = ["PATH", "A", "B", "C", "D", "E", "F", "G"];
        let mut arguments = RunArguments::new(true, &stated, false);
        arguments.set_environment(&BTreeMap::from([("F".to_owned(), "6".into())]));
        assert_eq!(arguments.not_set_of(of_image.into_iter()), ["E", "G"]);
        // A closed job has nothing of the user's.
        let arguments = RunArguments::new(false, &stated, false);
        let all = arguments.not_set_of(of_image.into_iter());
        assert_eq!(all, ["A", "B", "C", "D", "E", "F", "G"]);
    }

    #[test]
    fn no_engine_tells_a_job_of_a_proxy() {
        let proxy = BTreeMap::from([("http_proxy".to_owned(), "http://p".into())]);
        let mut arguments = RunArguments::new(true, &[], true);
        arguments.set_environment(&proxy);
        let forgotten = arguments.not_set_of(std::iter::empty());
        assert!(!forgotten.contains(&"http_proxy".to_owned()));
        assert!(forgotten.contains(&"HTTPS_PROXY".to_owned()));
        let words = text(arguments.of_image("sdk").0);
        assert!(words.contains(&"HTTPS_PROXY=".to_owned()));
        assert!(!words.contains(&"http_proxy=".to_owned()));
        assert!(!words.iter().any(|word| word.contains("http://p")));
    }

    #[test]
    fn a_path_that_would_be_more_than_a_path_is_refused() {
        for path in ["/a,readonly=false", "/a\"b", "/a\nb"] {
            let mut arguments = RunArguments::new(false, &[], false);
            let error = arguments.mount_program(Path::new(path)).unwrap_err();
            assert!(matches!(error, BackendError::UnmountablePath { .. }));
        }
    }
}
