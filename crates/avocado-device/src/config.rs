use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use avocado_manifest::Name;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::de::{DeTable, DeValue};

use crate::reboot_policy::RebootPolicy;

/// What systemd does with writes to a merged hierarchy: the value of its `--mutable=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MutableMode {
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

impl MutableMode {
    /// The word that systemd and the configuration file use.
    pub fn as_str(self) -> &'static str {
        match self {
            MutableMode::No => "no",
            MutableMode::Auto => "auto",
            MutableMode::Yes => "yes",
            MutableMode::Import => "import",
            MutableMode::Ephemeral => "ephemeral",
            MutableMode::EphemeralImport => "ephemeral-import",
        }
    }
}

impl fmt::Display for MutableMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const MIB: u64 = 1 << 20;

/// The configuration of the device agent, `/etc/avocado/avocadoctl.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The directory of the store. Key `avocado.runtimes_dir`.
    pub base: PathBuf,
    /// Where the varlink service listens. Key `avocado.socket`.
    pub socket: String,
    /// How `/usr` and `/opt` take writes. Key `avocado.ext.sysext_mutable`, else
    /// `avocado.ext.mutable`.
    pub sysext_mutable: MutableMode,
    /// How `/etc` takes writes. Key `avocado.ext.confext_mutable`, else `avocado.ext.mutable`.
    pub confext_mutable: MutableMode,
    /// Whether an OS update is written to the slot that does not run while it is downloaded, when its
    /// runtime is added, and takes no room in the store. Key `avocado.update.stream_os_to_partition`. A
    /// repository that does not say which chunks a bundle has offers nothing to stream: the bundle goes to
    /// the store then, as without this.
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
    /// What adding a runtime leaves free on the disk of the store, in bytes. Key
    /// `avocado.update.reserve_mib`, in MiB.
    pub reserve: u64,
    /// The hardware that this is, as OS bundles call it. Key `avocado.update.platform`. None: the
    /// platform of the bundle that the active runtime came with counts.
    pub platform: Option<Name>,
    /// When the device reboots by itself. Key `avocado.update.reboot`.
    pub reboot: RebootPolicy,
    /// How long a system on trial has to show that it is well, from the merge on: its boot and its health
    /// checks. Key `avocado.update.health_deadline_secs`.
    pub health_deadline: Duration,
    /// How many runtimes collecting garbage keeps, at least 1. Key `avocado.gc.runtime_retention`.
    pub runtime_retention: usize,
    /// Whether garbage is collected after a runtime was added. Key `avocado.gc.auto_gc`.
    pub auto_gc: bool,
    /// How long a command that an extension asks for may run before it is killed. Key
    /// `avocado.ext.hook_timeout`, in seconds.
    pub hook_timeout: Duration,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        DeviceConfig {
            base: "/var/lib/avocado".into(),
            socket: "unix:/run/avocado/avocadoctl.sock".to_owned(),
            sysext_mutable: MutableMode::default(),
            confext_mutable: MutableMode::default(),
            stream_os_to_partition: false,
            activate_on_add: false,
            legacy_repositories: true,
            ca_file: None,
            proxy: None,
            no_proxy: Vec::new(),
            reserve: 8 * MIB,
            platform: None,
            reboot: RebootPolicy::default(),
            health_deadline: Duration::from_secs(300),
            runtime_retention: 3,
            auto_gc: true,
            hook_timeout: Duration::from_secs(30),
        }
    }
}

/// The configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceConfigError {
    /// Not TOML.
    #[error("it is not valid TOML")]
    Syntax(#[source] toml::de::Error),
    /// A key holds something that it cannot hold.
    #[error("`{key}`{} {why}", match line {
        Some(line) => format!(" (line {line}):"),
        None => ":".to_owned(),
    })]
    Value {
        /// The key with its tables, for example `avocado.ext.mutable`.
        key: String,
        /// The line that it is in, from 1 on, where that is known.
        line: Option<usize>,
        /// What is wrong with the value.
        why: String,
    },
}

impl DeviceConfig {
    /// Reads the text of the configuration file. An empty text gives the defaults, and keys that
    /// are not known are ignored. (`avocado.ext.dir`, which old configuration files must have, is
    /// one of them: images live in the store's pool.)
    ///
    /// # Errors
    /// When the text is not TOML or a known key has a value that it cannot have.
    pub fn parse(text: &str) -> Result<Self, DeviceConfigError> {
        let document = DeTable::parse(text).map_err(DeviceConfigError::Syntax)?;
        let file = ConfigFile::deserialize(toml::Deserializer::from(document.clone()));
        let file = file.map_err(|error| {
            let span = error.span().unwrap_or_default();
            DeviceConfigError::Value {
                key: key_of(document.get_ref(), &span).unwrap_or_default(),
                line: error.span().map(|span| line_of(text, span.start)),
                why: error.message().to_owned(),
            }
        })?;
        let AvocadoTable {
            runtimes_dir,
            socket,
            ext,
            update,
            gc,
        } = file.avocado;
        let defaults = DeviceConfig::default();
        let both = ext.mutable.unwrap_or_default();
        Ok(DeviceConfig {
            base: runtimes_dir.unwrap_or(defaults.base),
            socket: socket.unwrap_or(defaults.socket),
            sysext_mutable: ext.sysext_mutable.unwrap_or(both),
            confext_mutable: ext.confext_mutable.unwrap_or(both),
            stream_os_to_partition: update
                .stream_os_to_partition
                .unwrap_or(defaults.stream_os_to_partition),
            activate_on_add: update.activate_on_add.unwrap_or(defaults.activate_on_add),
            legacy_repositories: update
                .legacy_repositories
                .unwrap_or(defaults.legacy_repositories),
            ca_file: update.ca_file,
            proxy: update.proxy,
            no_proxy: update.no_proxy,
            reserve: update.reserve_mib.unwrap_or(defaults.reserve),
            platform: update.platform,
            reboot: update.reboot.unwrap_or_default(),
            health_deadline: update
                .health_deadline_secs
                .unwrap_or(defaults.health_deadline),
            runtime_retention: gc.runtime_retention.unwrap_or(defaults.runtime_retention),
            auto_gc: gc.auto_gc.unwrap_or(defaults.auto_gc),
            hook_timeout: ext.hook_timeout.unwrap_or(defaults.hook_timeout),
        })
    }
}

/// The file, as far as it is known. A key that is not there leaves the default.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ConfigFile {
    #[serde(deserialize_with = "table")]
    avocado: AvocadoTable,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AvocadoTable {
    #[serde(deserialize_with = "absolute_path")]
    runtimes_dir: Option<PathBuf>,
    #[serde(deserialize_with = "some_text")]
    socket: Option<String>,
    #[serde(deserialize_with = "table")]
    ext: ExtTable,
    #[serde(deserialize_with = "table")]
    update: UpdateTable,
    #[serde(deserialize_with = "table")]
    gc: GcTable,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ExtTable {
    /// For both classes, where they have no key of their own; as old configuration files have it.
    mutable: Option<MutableMode>,
    sysext_mutable: Option<MutableMode>,
    confext_mutable: Option<MutableMode>,
    #[serde(deserialize_with = "seconds")]
    hook_timeout: Option<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct UpdateTable {
    stream_os_to_partition: Option<bool>,
    activate_on_add: Option<bool>,
    legacy_repositories: Option<bool>,
    #[serde(deserialize_with = "absolute_path")]
    ca_file: Option<PathBuf>,
    #[serde(deserialize_with = "some_text")]
    proxy: Option<String>,
    no_proxy: Vec<String>,
    #[serde(deserialize_with = "mebibytes")]
    reserve_mib: Option<u64>,
    platform: Option<Name>,
    reboot: Option<RebootPolicy>,
    #[serde(deserialize_with = "seconds")]
    health_deadline_secs: Option<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GcTable {
    #[serde(deserialize_with = "at_least_one")]
    runtime_retention: Option<usize>,
    auto_gc: Option<bool>,
}

/// A table and nothing else: for serde alone a list of its values would do as well.
fn table<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    struct TableVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    value.deserialize_map(TableVisitor(PhantomData))
}

fn absolute_path<'de, D: Deserializer<'de>>(value: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(value)?;
    if !text.starts_with('/') {
        return Err(D::Error::custom(format!("{text:?} is no absolute path")));
    }
    Ok(Some(text.into()))
}

fn some_text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(value)?;
    if text.is_empty() {
        return Err(D::Error::custom("it must not be empty"));
    }
    Ok(Some(text))
}

fn at_least_one<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    match usize::deserialize(value) {
        Ok(number @ 1..) => Ok(Some(number)),
        _ => Err(D::Error::custom("it must be a number, at least 1")),
    }
}

fn seconds<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    match i64::deserialize(value) {
        Ok(seconds @ 1..=86_400) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        _ => Err(D::Error::custom(
            "it must be a number of seconds, from 1 to 86400",
        )),
    }
}

fn mebibytes<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    match i64::deserialize(value) {
        Ok(mib @ 0..=1_048_576) => Ok(Some(mib.unsigned_abs() * MIB)),
        _ => Err(D::Error::custom(
            "it must be a number of MiB, from 0 to 1048576",
        )),
    }
}

/// The key, with its tables, whose value is at a place of the text: the innermost one, for a table may be where
/// its first key is.
fn key_of(table: &DeTable<'_>, place: &Range<usize>) -> Option<String> {
    let is_at = |span: Range<usize>| span == *place || span.contains(&place.start);
    table.iter().find_map(|(key, value)| {
        let key = key.get_ref();
        let below = match value.get_ref() {
            DeValue::Table(table) => key_of(table, place).map(|below| format!("{key}.{below}")),
            DeValue::Array(array) if value.span() != *place => {
                let at = array.iter().position(|item| is_at(item.span()));
                at.map(|at| format!("{key}[{at}]"))
            }
            _ => None,
        };
        below.or_else(|| is_at(value.span()).then(|| key.to_string()))
    })
}

/// The line of a byte in a text, from 1 on.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gives_the_defaults() {
        assert_eq!(DeviceConfig::parse("").unwrap(), DeviceConfig::default());
        assert_eq!(
            DeviceConfig::parse("[other]\nx = 1\n[avocado.ext]\ndir = '/x'\nnew = []").unwrap(),
            DeviceConfig::default()
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
            reserve_mib = 3
            platform = "qemux86-64"
            reboot = "now"
            health_deadline_secs = 90
            [avocado.gc]
            runtime_retention = 5
            auto_gc = false
        "#;
        let expected = DeviceConfig {
            base: "/data".into(),
            socket: "unix:/run/x".into(),
            sysext_mutable: MutableMode::Yes,
            confext_mutable: MutableMode::No,
            stream_os_to_partition: true,
            activate_on_add: true,
            legacy_repositories: false,
            ca_file: Some("/etc/avocado/ca.pem".into()),
            proxy: Some("http://proxy:3128".to_owned()),
            no_proxy: vec!["desk.local".to_owned(), ".internal".to_owned()],
            reserve: 3 << 20,
            platform: Some("qemux86-64".parse().unwrap()),
            reboot: RebootPolicy::Now,
            health_deadline: Duration::from_secs(90),
            runtime_retention: 5,
            auto_gc: false,
            hook_timeout: Duration::from_secs(5),
        };
        assert_eq!(DeviceConfig::parse(text).unwrap(), expected);
    }

    /// The keys of a table, as the type that reads it has them.
    fn keys<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
        struct Fields<'a>(&'a mut Vec<&'static str>);

        impl<'de> Deserializer<'de> for Fields<'_> {
            type Error = serde::de::value::Error;

            fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
                Err(Self::Error::custom("it is asked for a struct"))
            }

            fn deserialize_struct<V: Visitor<'de>>(
                self,
                _: &'static str,
                fields: &'static [&'static str],
                _: V,
            ) -> Result<V::Value, Self::Error> {
                self.0.extend(fields);
                Err(Self::Error::custom("only its fields are wanted"))
            }

            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option
                unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
                ignored_any
            }
        }

        let mut fields = Vec::new();
        let _ = T::deserialize(Fields(&mut fields));
        fields
    }

    #[test]
    fn every_key_is_in_the_manual_and_in_the_file_with_the_defaults() {
        let manual = include_str!("../../../docs/avocadoctl.md");
        let file = include_str!("../../avocadoctl/avocadoctl.conf");
        let top: Vec<_> = keys::<AvocadoTable>();
        let tables = ["ext", "update", "gc"];
        let top = top.into_iter().filter(|key| !tables.contains(key));
        let ext = keys::<ExtTable>();
        let update = keys::<UpdateTable>();
        assert!(ext.contains(&"mutable") && update.contains(&"proxy"));
        let all = top.map(|key| ("avocado", key));
        let all = all.chain(ext.into_iter().map(|key| ("avocado.ext", key)));
        let all = all.chain(update.into_iter().map(|key| ("avocado.update", key)));
        let gc = keys::<GcTable>().into_iter();
        let all = all.chain(gc.map(|key| ("avocado.gc", key)));
        for (table, key) in all {
            let row = format!("| `{table}.{key}` |");
            assert!(manual.contains(&row), "docs/avocadoctl.md: {table}.{key}");
            let section = file.split(&format!("[{table}]\n")).nth(1).unwrap();
            let section = section.split("\n[").next().unwrap();
            let line = format!("\n#{key} = ");
            assert!(section.contains(&line), "avocadoctl.conf: {table}.{key}");
        }
        // Nothing else is in it, and its values are the defaults.
        assert_eq!(DeviceConfig::parse(file).unwrap(), DeviceConfig::default());
        let unmarked = file.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        });
        let examples = DeviceConfig {
            platform: Some("qemux86-64".parse().unwrap()),
            ca_file: Some("/etc/avocado/ca.pem".into()),
            proxy: Some("http://proxy.example:3128".to_owned()),
            no_proxy: vec!["desk.local".to_owned(), ".internal".to_owned()],
            ..DeviceConfig::default()
        };
        let unmarked: String = unmarked.collect();
        assert_eq!(DeviceConfig::parse(&unmarked).unwrap(), examples);
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
            ("avocado.ext = 1", "avocado.ext"),
            ("avocado = []", "avocado"),
            ("avocado.ext = ['yes']", "avocado.ext"),
            ("avocado.update.proxy = ''", "avocado.update.proxy"),
            ("avocado.update.ca_file = 'ca'", "avocado.update.ca_file"),
            ("avocado.update.no_proxy = 'x'", "avocado.update.no_proxy"),
            (
                "avocado.update.no_proxy = [1]",
                "avocado.update.no_proxy[0]",
            ),
            (
                "avocado.update.no_proxy = ['a', {}]",
                "avocado.update.no_proxy[1]",
            ),
            ("[avocado.update.proxy]", "avocado.update.proxy"),
            ("[[avocado.ext]]", "avocado.ext"),
            ("avocado.ext.mutable = {maybe = 1}", "avocado.ext.mutable"),
            (
                "avocado = {ext = {mutable = 'maybe'}}",
                "avocado.ext.mutable",
            ),
            (
                "avocado.update.reserve_mib = -1",
                "avocado.update.reserve_mib",
            ),
            ("avocado.ext.hook_timeout = 0", "avocado.ext.hook_timeout"),
            (
                "avocado.update.health_deadline_secs = 0",
                "avocado.update.health_deadline_secs",
            ),
            ("avocado.ext.hook_timeout = -1", "avocado.ext.hook_timeout"),
            ("avocado.ext.hook_timeout = '1'", "avocado.ext.hook_timeout"),
            ("avocado.update.reboot = 'later'", "avocado.update.reboot"),
            ("avocado.update.reboot = true", "avocado.update.reboot"),
            ("avocado.update.reboot = 'at'", "avocado.update.reboot"),
            (
                r#"avocado.update.reboot = "at 03:00\nPersistent=yes""#,
                "avocado.update.reboot",
            ),
        ] {
            let error = DeviceConfig::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{key}` (line 1): ")),
                "{text}: {error}"
            );
        }
        let text = "[avocado]\n[avocado.ext]\n# x\nmutable = 'maybe'\n";
        let told = DeviceConfig::parse(text).unwrap_err().to_string();
        assert!(
            told.starts_with("`avocado.ext.mutable` (line 4): unknown variant `maybe`, expected"),
            "{told}"
        );
        assert!(told.contains("`ephemeral-import`"), "{told}");
        assert!(matches!(
            DeviceConfig::parse("[["),
            Err(DeviceConfigError::Syntax(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic(text in "(\\[?avocado(\\.ext)?\\]?( = .)?\n)*\\PC*") {
            let _ = DeviceConfig::parse(&text);
        }
    }
}
