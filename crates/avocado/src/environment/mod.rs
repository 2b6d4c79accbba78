//! What surrounds the program: the only place that reads environment variables, XDG directories,
//! terminals and the path of the executable.

mod vm;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use avocado_http::{NetworkSettings, ProxySettings};
use avocado_manifest::Name;

use crate::failure::{Context, Failure, Result};
use crate::owner;

/// The port that `deploy` serves on unless told otherwise.
const DEPLOY_PORT: u16 = 8585;

/// A picture of the surroundings, taken once at the start.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    stdin_is_terminal: bool,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    cpus: usize,
}

/// Where `deploy` serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeployPort {
    /// The user did not ask for one: another will do where this one is taken.
    Default(u16),
    /// Asked for: this one or none.
    Fixed(u16),
}

impl Environment {
    pub(crate) fn read() -> Self {
        Environment {
            variables: std::env::vars_os().collect(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
        }
    }

    fn os(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value)
    }

    /// A variable that is set, not empty, and text.
    fn text(&self, name: &str) -> Option<&str> {
        self.os(name)?.to_str()
    }

    /// All variables that are text.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let variables = self.variables.iter();
        let texts = variables
            .filter_map(|(name, value)| Some((name.to_str()?.into(), value.to_str()?.into())));
        texts.collect()
    }

    /// All variables, for a program of the user's own that is his in everything.
    #[cfg(target_os = "linux")]
    pub(crate) fn whole(&self) -> BTreeMap<OsString, OsString> {
        self.variables.clone()
    }

    fn is_set(&self, name: &str) -> bool {
        self.os(name).is_some()
    }

    /// A variable as a project sees it: for `{{ env.X }}` and its `AVOCADO_*` settings.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        Some(self.variables.get(OsStr::new(name))?.to_str()?.to_owned())
    }

    /// PATH as it is.
    #[cfg(target_os = "linux")]
    pub(crate) fn stated_search_path(&self) -> OsString {
        self.os("PATH").unwrap_or_default().to_owned()
    }

    /// Where tools are looked for.
    pub(crate) fn search_path(&self) -> OsString {
        let mut path = self
            .os("PATH")
            .unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"))
            .to_owned();
        // Where file systems are made; not on the PATH of those who are not root.
        path.push(":/usr/sbin:/sbin");
        path
    }

    /// The whole environment of git and skopeo, which fetch as the user does: with his keys, his helpers
    /// and what he logged in with, and with nothing by which git would work on another repository.
    pub(crate) fn for_fetching(&self) -> BTreeMap<String, OsString> {
        let names = [
            "HOME",
            "USER",
            "LOGNAME",
            "TMPDIR",
            "XDG_CONFIG_HOME",
            "XDG_RUNTIME_DIR",
            "DBUS_SESSION_BUS_ADDRESS",
            "SSH_AUTH_SOCK",
            "GIT_SSH_COMMAND",
            "GIT_ASKPASS",
            "GIT_CONFIG_GLOBAL",
            "GIT_CONFIG_SYSTEM",
            "GIT_CONFIG_NOSYSTEM",
            "GIT_SSL_CAINFO",
            "GIT_SSL_CAPATH",
            "REGISTRY_AUTH_FILE",
            "DOCKER_CONFIG",
            "CONTAINERS_REGISTRIES_CONF",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ];
        let given = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.os(name)?.to_owned())));
        let path = ("PATH".to_owned(), self.search_path());
        self.proxies()
            .into_iter()
            .chain(given)
            .chain([path])
            .collect()
    }

    /// The variables by which tools find their way through a proxy.
    pub(crate) fn proxies(&self) -> BTreeMap<String, OsString> {
        let names = [
            "http_proxy",
            "https_proxy",
            "ftp_proxy",
            "all_proxy",
            "no_proxy",
        ];
        names
            .iter()
            .flat_map(|name| [name.to_string(), name.to_ascii_uppercase()])
            .filter_map(|name| Some((name.clone(), self.os(&name)?.to_owned())))
            .collect()
    }

    /// This program's file.
    pub(crate) fn exe(&self) -> Result<PathBuf> {
        std::env::current_exe().context(|| "cannot find the path of this program".into())
    }

    /// The directory that the command was typed in.
    pub(crate) fn current_dir(&self) -> Result<PathBuf> {
        std::env::current_dir().context(|| "cannot find the current directory".into())
    }

    /// The time, for everything that asks for it.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    /// Where sockets can be made: TMPDIR may be anywhere, and a socket's path has no more than 107 bytes.
    pub(crate) fn short_temporary(&self) -> PathBuf {
        let runtime = self.os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let is_usable = |path: &PathBuf| {
            let text = path.as_os_str().as_encoded_bytes();
            path.is_absolute() && text.len() < 50 && !text.contains(&b' ') && path.is_dir()
        };
        runtime.filter(is_usable).unwrap_or_else(|| "/tmp".into())
    }

    /// The user's home directory: what the system says where no variable does.
    pub(crate) fn home_directory(&self) -> Option<PathBuf> {
        let named = self.home().map(ToOwned::to_owned);
        named.or_else(std::env::home_dir)
    }

    /// The registry of signing keys.
    pub(crate) fn signing_keys(&self) -> Result<PathBuf> {
        if let Some(dir) = self.os("AVOCADO_SIGNING_KEYS_DIR") {
            return std::path::absolute(dir)
                .context(|| "cannot resolve AVOCADO_SIGNING_KEYS_DIR".into());
        }
        let config = self.user_config_dir().ok_or_else(|| {
            Failure::new("there is no place for signing keys")
                .hint("set AVOCADO_SIGNING_KEYS_DIR, XDG_CONFIG_HOME or HOME to a directory")
        })?;
        Ok(config.join("avocado/signing-keys"))
    }

    /// Where results of steps are kept that projects with a `cache` share on this machine.
    #[cfg(target_os = "linux")]
    pub(crate) fn result_cache(&self) -> Option<PathBuf> {
        let absolute = |name| self.os(name).map(Path::new).filter(|p| p.is_absolute());
        let caches = absolute("XDG_CACHE_HOME").map(ToOwned::to_owned);
        let caches = caches.or_else(|| Some(self.home_directory()?.join(".cache")));
        Some(caches?.join("avocado/results"))
    }

    /// The registry of the user to whom a project belongs, where that is another one: root looks
    /// there for the keys of what that user has published. None where a variable names the registry.
    pub(crate) fn signing_keys_of_owner(&self, project: &Path) -> Option<PathBuf> {
        if self.is_set("AVOCADO_SIGNING_KEYS_DIR") {
            return None;
        }
        let home = owner::home_of_owner(project, Path::new("/etc/passwd"))?;
        Some(home.join(".config/avocado/signing-keys"))
    }

    /// `AVOCADO_LOG`: what is logged, unless `-v` says so.
    pub(crate) fn log_filter(&self) -> Option<&str> {
        self.text("AVOCADO_LOG")
    }

    /// `AVOCADO_SDK`: where tools run, unless an option says so.
    pub(crate) fn sdk(&self) -> Option<&str> {
        self.text("AVOCADO_SDK")
    }

    /// `AVOCADO_RUNTIME`: the runtime, unless an argument names one.
    pub(crate) fn runtime(&self) -> Result<Option<Name>> {
        let parse = |text: &str| {
            text.parse()
                .context(|| "AVOCADO_RUNTIME does not name a runtime".into())
        };
        self.text("AVOCADO_RUNTIME").map(parse).transpose()
    }

    /// How many steps run at once: `AVOCADO_PARALLEL_TASKS`, or one per processor, at most four.
    pub(crate) fn jobs(&self) -> Result<usize> {
        match self.text("AVOCADO_PARALLEL_TASKS") {
            None => Ok(self.cpus.clamp(1, 4)),
            Some(text) => match text.parse() {
                Ok(n @ 1..=256) => Ok(n),
                _ => Err(Failure::usage(format!(
                    "AVOCADO_PARALLEL_TASKS is `{}`, not a number from 1 to 256",
                    text.escape_debug()
                ))),
            },
        }
    }

    /// `AVOCADO_DEPLOY_REPO_PORT`, or the usual port.
    pub(crate) fn deploy_port(&self) -> Result<DeployPort> {
        match self.text("AVOCADO_DEPLOY_REPO_PORT") {
            None => Ok(DeployPort::Default(DEPLOY_PORT)),
            Some(text) => match text.parse() {
                Ok(port) => Ok(DeployPort::Fixed(port)),
                Err(_) => Err(Failure::usage(format!(
                    "AVOCADO_DEPLOY_REPO_PORT is `{}`, not a port number",
                    text.escape_debug()
                ))),
            },
        }
    }

    /// `AVOCADO_DEPLOY_REPO_HOST`: the name under which a device reaches this machine.
    pub(crate) fn deploy_host(&self) -> Option<&str> {
        self.text("AVOCADO_DEPLOY_REPO_HOST")
    }

    /// A path that a variable names, made absolute.
    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = self.os(name).map(std::path::absolute).transpose();
        path.context(|| format!("cannot resolve {name}"))
    }

    fn home(&self) -> Option<&Path> {
        self.os("HOME").map(Path::new).filter(|p| p.is_absolute())
    }

    /// `$XDG_CONFIG_HOME`, or `~/.config`.
    pub(crate) fn user_config_dir(&self) -> Option<PathBuf> {
        let absolute = |name| self.os(name).map(Path::new).filter(|p| p.is_absolute());
        match absolute("XDG_CONFIG_HOME") {
            Some(dir) => Some(dir.to_owned()),
            None => Some(self.home()?.join(".config")),
        }
    }

    /// The way to `url`, through a proxy where the usual variables name one.
    pub(crate) fn network(&self, url: &str) -> NetworkSettings {
        let either = |name: &str| {
            let upper = name.to_ascii_uppercase();
            self.text(name).or_else(|| self.text(&upper))
        };
        let scheme = if url.starts_with("https://") {
            "https_proxy"
        } else {
            // In upper case a web server may have set it for what a client sent.
            "http_proxy"
        };
        let found = match scheme {
            "https_proxy" => either(scheme),
            _ => self.text(scheme),
        };
        let Some(found) = found.or_else(|| either("all_proxy")) else {
            return NetworkSettings::default();
        };
        let direct = either("no_proxy").unwrap_or("").split(',').map(str::trim);
        let direct = direct.filter(|host| !host.is_empty()).flat_map(|host| {
            // A domain stands for everything below it as well.
            let below = (!host.starts_with(['.', '*'])).then(|| format!(".{host}"));
            below.into_iter().chain([host.to_owned()])
        });
        NetworkSettings {
            ca: None,
            any_certificate: false,
            proxy: Some(ProxySettings {
                url: if found.contains("://") {
                    found.to_owned()
                } else {
                    format!("http://{found}")
                },
                direct: direct.collect(),
            }),
        }
    }

    /// Whether a program that is run for the user has a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.stdin_is_terminal && self.stdout_is_terminal
    }

    /// Whether a question reaches the user, and the answer this program.
    pub(crate) fn can_ask(&self) -> bool {
        self.stdin_is_terminal && self.stderr_is_terminal
    }

    /// Whether data goes to a terminal.
    pub(crate) fn shows_data(&self) -> bool {
        self.stdout_is_terminal
    }

    /// Whether lines on stderr may be drawn over.
    pub(crate) fn live(&self) -> bool {
        self.stderr_is_terminal
            && !self.is_set("CI")
            && !self.is_set("AVOCADO_NO_TUI")
            && !self.is_set("NO_TUI")
            && self.text("TERM") != Some("dumb")
    }

    /// Whether stderr may be coloured.
    pub(crate) fn color(&self) -> bool {
        self.stderr_is_terminal && !self.is_set("NO_COLOR") && self.text("TERM") != Some("dumb")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables
                .iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
            stdin_is_terminal: true,
            stdout_is_terminal: true,
            stderr_is_terminal: true,
            cpus: 16,
        }
    }

    #[test]
    fn signing_keys_live_in_the_first_usable_place() {
        for (variables, expected) in [
            (
                &[("AVOCADO_SIGNING_KEYS_DIR", "/k"), ("HOME", "/h")][..],
                Some("/k"),
            ),
            (
                &[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")],
                Some("/c/avocado/signing-keys"),
            ),
            (
                &[("XDG_CONFIG_HOME", "c"), ("HOME", "/h")],
                Some("/h/.config/avocado/signing-keys"),
            ),
            (
                &[("XDG_CONFIG_HOME", ""), ("HOME", "/h")],
                Some("/h/.config/avocado/signing-keys"),
            ),
            (&[], None),
        ] {
            let found = environment(variables).signing_keys().ok();
            assert_eq!(found.as_deref(), expected.map(Path::new), "{variables:?}");
        }
    }

    #[test]
    fn proxies_are_those_of_the_usual_variables() {
        let proxy = |variables: &[(&str, &str)], url| {
            let proxy = environment(variables).network(url).proxy?;
            Some((proxy.url, proxy.direct.join(" ")))
        };
        let of = |url: &str, direct: &str| Some((url.to_owned(), direct.to_owned()));
        let both = [
            ("HTTPS_PROXY", "p:1"),
            ("http_proxy", "http://q"),
            ("no_proxy", "a, .b"),
        ];
        assert_eq!(proxy(&both, "https://x"), of("http://p:1", ".a a .b"));
        assert_eq!(proxy(&both, "http://x"), of("http://q", ".a a .b"));
        assert_eq!(proxy(&[("HTTP_PROXY", "http://q")], "http://x"), None);
        assert_eq!(
            proxy(&[("ALL_PROXY", "http://q")], "http://x"),
            of("http://q", "")
        );
        assert_eq!(proxy(&[], "http://x"), None);
    }

    #[test]
    fn git_works_on_no_other_repository() {
        let given = [
            ("PATH", "/bin"),
            ("HOME", "/h"),
            ("SSH_AUTH_SOCK", "/s"),
            ("https_proxy", "p:1"),
            ("GIT_DIR", "/other"),
            ("GIT_CONFIG_PARAMETERS", "x"),
            ("GIT_EXTERNAL_DIFF", "x"),
        ];
        let names: Vec<String> = environment(&given).for_fetching().into_keys().collect();
        assert_eq!(names, ["HOME", "PATH", "SSH_AUTH_SOCK", "https_proxy"]);
    }

    #[test]
    fn numbers_are_checked() {
        let jobs = |text| environment(&[("AVOCADO_PARALLEL_TASKS", text)]).jobs().ok();
        assert_eq!(environment(&[]).jobs().ok(), Some(4));
        assert_eq!(jobs("7"), Some(7));
        assert_eq!((jobs("0"), jobs("-1"), jobs("many")), (None, None, None));

        let port = |text| {
            environment(&[("AVOCADO_DEPLOY_REPO_PORT", text)])
                .deploy_port()
                .ok()
        };
        assert_eq!(
            environment(&[]).deploy_port().ok(),
            Some(DeployPort::Default(8585))
        );
        assert_eq!(port("0"), Some(DeployPort::Fixed(0)));
        assert_eq!((port("65536"), port("http")), (None, None));
    }

    #[test]
    fn nothing_moves_where_nobody_looks() {
        assert!(environment(&[]).live());
        for name in ["CI", "AVOCADO_NO_TUI", "NO_TUI"] {
            assert!(!environment(&[(name, "1")]).live(), "{name}");
            assert!(environment(&[(name, "")]).live(), "{name} empty");
        }
        assert!(!environment(&[("TERM", "dumb")]).live());
        assert!(!environment(&[("NO_COLOR", "1")]).color());
    }
}
