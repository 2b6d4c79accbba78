use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::{Table, Value};

/// What systemd does with writes to a merged hierarchy: the value of its `--mutable=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutable {
    /// Read-only.
    No,
    /// Writable where a directory for the changes exists.
    Auto,
    /// Writable; the changes stay.
    Yes,
    /// Existing changes are visible, new ones are not possible.
    Import,
    /// Writable; the changes are lost when the hierarchy is unmerged.
    #[default]
    Ephemeral,
    /// As `Ephemeral`, on top of existing changes.
    EphemeralImport,
}

impl Mutable {
    const ALL: [Mutable; 6] = [
        Mutable::No,
        Mutable::Auto,
        Mutable::Yes,
        Mutable::Import,
        Mutable::Ephemeral,
        Mutable::EphemeralImport,
    ];

    /// The word that systemd and the configuration file use.
    pub fn as_str(self) -> &'static str {
        match self {
            Mutable::No => "no",
            Mutable::Auto => "auto",
            Mutable::Yes => "yes",
            Mutable::Import => "import",
            Mutable::Ephemeral => "ephemeral",
            Mutable::EphemeralImport => "ephemeral-import",
        }
    }
}

impl fmt::Display for Mutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mutable {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let found = Mutable::ALL.into_iter().find(|m| m.as_str() == text);
        found.ok_or(())
    }
}

/// The configuration of the device agent, `/etc/avocado/avocadoctl.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory of the store. Key `avocado.runtimes_dir`.
    pub base: PathBuf,
    /// Where the varlink service listens. Key `avocado.socket`.
    pub socket: String,
    /// How `/usr` and `/opt` take writes. Key `avocado.ext.sysext_mutable`, else
    /// `avocado.ext.mutable`.
    pub sysext_mutable: Mutable,
    /// How `/etc` takes writes. Key `avocado.ext.confext_mutable`, else `avocado.ext.mutable`.
    pub confext_mutable: Mutable,
    /// Whether an OS update is written while it is downloaded. Key
    /// `avocado.update.stream_os_to_partition`.
    pub stream_os_to_partition: bool,
    /// Whether adding a runtime activates it as well. Key `avocado.update.activate_on_add`.
    pub activate_on_add: bool,
    /// Whether repositories of the older layout (see [`avocado_tuf::client`]) are accepted as
    /// they are. Key `avocado.update.legacy_repositories`.
    pub legacy_repositories: bool,
    /// A file with the certificates, in PEM, of the CAs that the servers of repositories must have
    /// theirs from, in the place of the public CAs. Key `avocado.update.ca_file`.
    pub ca_file: Option<PathBuf>,
    /// The HTTP proxy to go through, `http://[user:password@]host[:port]`. Key
    /// `avocado.update.proxy`.
    pub proxy: Option<String>,
    /// The hosts that are reached without the proxy: `host`, or `.domain` for all below it. Key
    /// `avocado.update.no_proxy`, a list.
    pub no_proxy: Vec<String>,
    /// How long a command that an extension asks for may run before it is killed. Key
    /// `avocado.ext.hook_timeout`, in seconds.
    pub hook_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            base: "/var/lib/avocado".into(),
            socket: "unix:/run/avocado/avocadoctl.sock".to_owned(),
            sysext_mutable: Mutable::default(),
            confext_mutable: Mutable::default(),
            stream_os_to_partition: false,
            activate_on_add: false,
            legacy_repositories: true,
            ca_file: None,
            proxy: None,
            no_proxy: Vec::new(),
            hook_timeout: Duration::from_secs(30),
        }
    }
}

/// The configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML.
    #[error("it is not valid TOML")]
    Syntax(#[source] toml::de::Error),
    /// A key holds something that it cannot hold.
    #[error("`{key}` is {found}, but must be {expected}")]
    Value {
        /// The key with its tables, for example `avocado.ext.mutable`.
        key: &'static str,
        /// What is there.
        found: String,
        /// What may be there.
        expected: &'static str,
    },
}

impl Config {
    /// Reads the text of the configuration file. An empty text gives the defaults, and keys that
    /// are not known are ignored. (`avocado.ext.dir`, which old configuration files must have, is
    /// one of them: images live in the store's pool.)
    ///
    /// # Errors
    /// When the text is not TOML or a known key has a value that it cannot have.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let table: Table = toml::from_str(text).map_err(ConfigError::Syntax)?;
        let defaults = Config::default();
        let get = |key| Entry::find(&table, key);
        let both = get("avocado.ext.mutable")?.mutable()?;
        Ok(Config {
            base: get("avocado.runtimes_dir")?
                .path()?
                .unwrap_or(defaults.base),
            socket: get("avocado.socket")?
                .text("an address")?
                .unwrap_or(defaults.socket),
            sysext_mutable: get("avocado.ext.sysext_mutable")?
                .mutable()?
                .or(both)
                .unwrap_or_default(),
            confext_mutable: get("avocado.ext.confext_mutable")?
                .mutable()?
                .or(both)
                .unwrap_or_default(),
            stream_os_to_partition: get("avocado.update.stream_os_to_partition")?
                .boolean()?
                .unwrap_or(defaults.stream_os_to_partition),
            activate_on_add: get("avocado.update.activate_on_add")?
                .boolean()?
                .unwrap_or(defaults.activate_on_add),
            legacy_repositories: get("avocado.update.legacy_repositories")?
                .boolean()?
                .unwrap_or(defaults.legacy_repositories),
            ca_file: get("avocado.update.ca_file")?.path()?,
            proxy: get("avocado.update.proxy")?.text("the URL of a proxy")?,
            no_proxy: get("avocado.update.no_proxy")?.texts()?,
            hook_timeout: get("avocado.ext.hook_timeout")?
                .seconds()?
                .unwrap_or(defaults.hook_timeout),
        })
    }
}

/// A dotted key and what the file has there.
struct Entry<'a> {
    key: &'static str,
    value: Option<&'a Value>,
}

impl<'a> Entry<'a> {
    fn find(table: &'a Table, key: &'static str) -> Result<Self, ConfigError> {
        let mut value: Option<&Value> = None;
        let mut inside = Some(table);
        for part in key.split('.') {
            let Some(table) = inside else {
                return Err(ConfigError::Value {
                    key,
                    found: "below something that is not a table".to_owned(),
                    expected: "inside a table",
                });
            };
            value = table.get(part);
            match value {
                Some(found) => inside = found.as_table(),
                None => break,
            }
        }
        Ok(Entry { key, value })
    }

    fn wrong(&self, value: &Value, expected: &'static str) -> ConfigError {
        ConfigError::Value {
            key: self.key,
            found: shown(value),
            expected,
        }
    }

    fn text(&self, expected: &'static str) -> Result<Option<String>, ConfigError> {
        self.value
            .map(|v| match v.as_str() {
                Some(text) if !text.is_empty() => Ok(text.to_owned()),
                _ => Err(self.wrong(v, expected)),
            })
            .transpose()
    }

    fn path(&self) -> Result<Option<PathBuf>, ConfigError> {
        const EXPECTED: &str = "an absolute path";
        match (self.text(EXPECTED)?, self.value) {
            (Some(path), Some(value)) if !path.starts_with('/') => Err(self.wrong(value, EXPECTED)),
            (path, _) => Ok(path.map(PathBuf::from)),
        }
    }

    fn texts(&self) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.value else {
            return Ok(Vec::new());
        };
        let texts = value.as_array().and_then(|all| {
            let texts = all.iter().map(|v| v.as_str().map(str::to_owned));
            texts.collect::<Option<_>>()
        });
        texts.ok_or_else(|| self.wrong(value, "a list of texts"))
    }

    fn seconds(&self) -> Result<Option<Duration>, ConfigError> {
        self.value
            .map(|value| match value.as_integer() {
                Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds.unsigned_abs())),
                _ => Err(self.wrong(value, "a number of seconds, from 1 to 86400")),
            })
            .transpose()
    }

    fn boolean(&self) -> Result<Option<bool>, ConfigError> {
        self.value
            .map(|v| v.as_bool().ok_or_else(|| self.wrong(v, "true or false")))
            .transpose()
    }

    fn mutable(&self) -> Result<Option<Mutable>, ConfigError> {
        const EXPECTED: &str = "one of no, auto, yes, import, ephemeral, ephemeral-import";
        self.value
            .map(|v| {
                let parsed = v.as_str().and_then(|text| text.parse().ok());
                parsed.ok_or_else(|| self.wrong(v, EXPECTED))
            })
            .transpose()
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        other => format!("of type {}", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gives_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        assert_eq!(
            Config::parse("[other]\nx = 1\n[avocado.ext]\ndir = '/x'\nnew = []").unwrap(),
            Config::default()
        );
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            [avocado]
            runtimes_dir = "/data"
            socket = "unix:/run/x"
            [avocado.ext]
            dir = "/data/images"
            mutable = "yes"
            confext_mutable = "no"
            hook_timeout = 5
            [avocado.update]
            stream_os_to_partition = true
            activate_on_add = true
            legacy_repositories = false
            ca_file = "/etc/avocado/ca.pem"
            proxy = "http://proxy:3128"
            no_proxy = ["desk.local", ".internal"]
        "#;
        let expected = Config {
            base: "/data".into(),
            socket: "unix:/run/x".into(),
            sysext_mutable: Mutable::Yes,
            confext_mutable: Mutable::No,
            stream_os_to_partition: true,
            activate_on_add: true,
            legacy_repositories: false,
            ca_file: Some("/etc/avocado/ca.pem".into()),
            proxy: Some("http://proxy:3128".to_owned()),
            no_proxy: vec!["desk.local".to_owned(), ".internal".to_owned()],
            hook_timeout: Duration::from_secs(5),
        };
        assert_eq!(Config::parse(text).unwrap(), expected);
    }

    #[test]
    fn bad_values_are_named() {
        for (text, key) in [
            ("avocado.runtimes_dir = 1", "avocado.runtimes_dir"),
            ("avocado.runtimes_dir = 'data'", "avocado.runtimes_dir"),
            ("avocado.socket = ''", "avocado.socket"),
            ("avocado.ext.mutable = 'maybe'", "avocado.ext.mutable"),
            (
                "avocado.ext.sysext_mutable = true",
                "avocado.ext.sysext_mutable",
            ),
            (
                "avocado.update.activate_on_add = 'yes'",
                "avocado.update.activate_on_add",
            ),
            ("avocado.ext = 1", "avocado.ext.mutable"),
            ("avocado.update.ca_file = 'ca'", "avocado.update.ca_file"),
            ("avocado.update.no_proxy = 'x'", "avocado.update.no_proxy"),
            ("avocado.update.no_proxy = [1]", "avocado.update.no_proxy"),
            ("avocado.ext.hook_timeout = 0", "avocado.ext.hook_timeout"),
            ("avocado.ext.hook_timeout = -1", "avocado.ext.hook_timeout"),
            ("avocado.ext.hook_timeout = '1'", "avocado.ext.hook_timeout"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
        assert!(matches!(Config::parse("[["), Err(ConfigError::Syntax(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "(\\[?avocado(\\.ext)?\\]?( = .)?\n)*\\PC*") {
            let _ = Config::parse(&text);
        }
    }
}
