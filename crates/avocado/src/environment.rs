//! What surrounds the program: the only place that reads environment variables, XDG directories,
//! terminals and the path of the executable.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use crate::failure::{Context, Failure, Result};

/// The port that `deploy` serves on unless told otherwise.
const DEPLOY_PORT: u16 = 8585;

/// A picture of the surroundings, taken once at the start.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    stderr_is_terminal: bool,
    cpus: usize,
}

/// Where `deploy` serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// Nobody asked for one: another will do where this one is taken.
    Default(u16),
    /// Asked for: this one or none.
    Fixed(u16),
}

impl Environment {
    pub(crate) fn read() -> Self {
        Environment {
            variables: std::env::vars_os().collect(),
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

    fn is_set(&self, name: &str) -> bool {
        self.os(name).is_some()
    }

    /// A variable as a project sees it: for `{{ env.X }}` and its `AVOCADO_*` settings.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        Some(self.variables.get(OsStr::new(name))?.to_str()?.to_owned())
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

    /// The registry of signing keys.
    pub(crate) fn signing_keys(&self) -> Result<PathBuf> {
        if let Some(dir) = self.os("AVOCADO_SIGNING_KEYS_DIR") {
            return std::path::absolute(dir)
                .context(|| "cannot resolve AVOCADO_SIGNING_KEYS_DIR".into());
        }
        let absolute = |name| self.os(name).map(Path::new).filter(|p| p.is_absolute());
        let config = match (absolute("XDG_CONFIG_HOME"), absolute("HOME")) {
            (Some(dir), _) => dir.to_owned(),
            (None, Some(home)) => home.join(".config"),
            (None, None) => {
                return Err(Failure::new("there is no place for signing keys")
                    .hint("set AVOCADO_SIGNING_KEYS_DIR, XDG_CONFIG_HOME or HOME to a directory"));
            }
        };
        Ok(config.join("avocado/signing-keys"))
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
    pub(crate) fn deploy_port(&self) -> Result<Port> {
        match self.text("AVOCADO_DEPLOY_REPO_PORT") {
            None => Ok(Port::Default(DEPLOY_PORT)),
            Some(text) => match text.parse() {
                Ok(port) => Ok(Port::Fixed(port)),
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

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables
                .iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
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
            Some(Port::Default(8585))
        );
        assert_eq!(port("0"), Some(Port::Fixed(0)));
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
