//! What scriptlets call to change the system that they believe to run on. Each such command is our
//! own program again (`avocado scriptlet-command`), and works on the tree: links in it lead nowhere
//! else, and who builds makes no difference. What would do nothing to an image succeeds.

mod accounts;
mod alternatives;
mod arguments;
mod services;

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{At as _, BuildError};
use crate::trees::Tree;

pub(crate) use services::SYSTEMCTL;

/// What the commands of one job know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CommandSettings {
    pub(crate) root: PathBuf,
    /// Seconds since 1970.
    pub(crate) epoch: u64,
    /// Its services can be enabled.
    pub(crate) is_system: bool,
    /// What there is to tell of what was called; see [`take_notes`].
    pub(crate) notes: PathBuf,
    /// PATH without these commands.
    pub(crate) search_path: String,
}

/// How a command ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommandEnd {
    /// Its exit status.
    pub status: u8,
    /// What it writes to standard output.
    pub output: String,
    /// What it complains of.
    pub complaint: String,
}

impl CommandEnd {
    fn failed(status: u8, complaint: impl Into<String>) -> Self {
        CommandEnd {
            status,
            output: String::new(),
            complaint: complaint.into(),
        }
    }
}

/// A command's arguments, and what it works on.
struct Call<'a> {
    settings: &'a CommandSettings,
    tree: &'a Tree,
    arguments: &'a [String],
}

type Answer = fn(&Call<'_>) -> Result<CommandEnd, BuildError>;

/// Those that do something.
const ANSWERS: [(&str, Answer); 14] = [
    ("useradd", accounts::useradd),
    ("adduser", accounts::useradd),
    ("groupadd", accounts::groupadd),
    ("addgroup", accounts::groupadd),
    ("usermod", accounts::usermod),
    ("groupmems", accounts::groupmems),
    ("getent", accounts::getent),
    ("update-alternatives", alternatives::update_alternatives),
    ("systemctl", services::systemctl),
    ("bbfatal", bbfatal),
    ("postinst_intercept", intercept),
    ("chpasswd", set_password),
    ("passwd", set_password),
    ("newusers", add_users),
];

/// Those that an image has no use for: what they write is made when the image is (`ldconfig`,
/// `depmod` where it is merged), belongs to the running system, or is something that no image holds
/// (owners, labels).
const NOTHING: [&str; 42] = [
    "bbdebug",
    "bbnote",
    "bbwarn",
    "chcon",
    "chgrp",
    "chown",
    "dbus-send",
    "dconf",
    "depmod",
    "depmodwrapper",
    "fc-cache",
    "gdk-pixbuf-query-loaders",
    "getenforce",
    "gio-querymodules",
    "glib-compile-resources",
    "glib-compile-schemas",
    "gsettings",
    "gtk-query-immodules-3.0",
    "gtk-update-icon-cache",
    "insmod",
    "install-info",
    "invoke-rc.d",
    "killall",
    "kmod",
    "ldconfig",
    "mkfontdir",
    "mkfontscale",
    "modprobe",
    "restorecon",
    "rpm-helper",
    "runlevel",
    "selinuxenabled",
    "service",
    "systemd-hwdb",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "telinit",
    "udevadm",
    "update-desktop-database",
    "update-mime-database",
    "update-rc.d",
    "sysctl",
];

/// Whether scriptlets that call this get an answer of ours.
pub(super) fn has(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| names().any(|known| known == name))
}

fn names() -> impl Iterator<Item = &'static str> {
    let answers = ANSWERS.iter().map(|(name, _)| *name);
    answers.chain(NOTHING)
}

/// Puts the commands into `directory`, which is answered.
pub(super) fn install(settings: &CommandSettings, directory: &Path) -> Result<PathBuf, BuildError> {
    fs::create_dir_all(directory).at("create", directory)?;
    // Of this file there may be no path in the job.
    let program = directory.with_file_name("avocado");
    let copied = fs::File::open("/proc/self/exe").and_then(|mut own| {
        let mut copy = fs::File::create(&program)?;
        io::copy(&mut own, &mut copy)?;
        copy.set_permissions(fs::Permissions::from_mode(0o755))
    });
    copied.at("write", &program)?;
    let text = serde_json::to_vec(settings)
        .map_err(|e| BuildError::Invalid(format!("settings have no JSON form: {e}")))?;
    let place = settings_of(directory);
    fs::write(&place, text).at("write", &place)?;
    for name in names() {
        let path = directory.join(name);
        let text = format!("#!{} scriptlet-command\n", program.display());
        fs::write(&path, text).at("write", &path)?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, mode).at("change the mode of", &path)?;
    }
    Ok(directory.to_owned())
}

fn settings_of(directory: &Path) -> PathBuf {
    directory.with_file_name("settings.json")
}

/// The whole of the hidden `avocado scriptlet-command`: the first argument is the path of the command
/// that was called.
pub fn scriptlet_command(arguments: &[OsString]) -> CommandEnd {
    answer(arguments).unwrap_or_else(|error| {
        let complaint = avocado_events::chain(&error);
        CommandEnd::failed(1, complaint)
    })
}

fn answer(arguments: &[OsString]) -> Result<CommandEnd, BuildError> {
    let wrong = |what: &str| BuildError::Invalid(format!("a command of scriptlets {what}"));
    let [path, arguments @ ..] = arguments else {
        return Err(wrong("was called without its path"));
    };
    let path = Path::new(path);
    let name = path.file_name().and_then(OsStr::to_str);
    let place = settings_of(path.parent().unwrap_or(Path::new("")));
    let settings = fs::read(&place).at("read", &place)?;
    let settings: CommandSettings =
        serde_json::from_slice(&settings).map_err(|e| wrong(&format!("has bad settings: {e}")))?;
    let answer = ANSWERS.iter().find(|(known, _)| Some(*known) == name);
    let Some((_, answer)) = answer else {
        return Ok(CommandEnd::default());
    };
    let arguments: Option<Vec<String>> = arguments
        .iter()
        .map(|argument| argument.to_str().map(ToOwned::to_owned))
        .collect();
    let arguments = arguments.ok_or_else(|| wrong("has an argument that is not UTF-8"))?;
    answer(&Call {
        tree: &Tree::open(&settings.root)?,
        settings: &settings,
        arguments: &arguments,
    })
}

/// What there is to tell of what a scriptlet called.
#[derive(Debug, Serialize, Deserialize)]
enum Note {
    Told(String),
    Fatal(String),
}

impl Call<'_> {
    fn note(&self, note: &Note) -> Result<(), BuildError> {
        let place = &self.settings.notes;
        let mut line = serde_json::to_vec(note)
            .map_err(|e| BuildError::Invalid(format!("a note has no JSON form: {e}")))?;
        line.push(b'\n');
        let file = OpenOptions::new().create(true).append(true).open(place);
        let written = file.and_then(|mut file| file.write_all(&line));
        written.at("write", place)
    }
}

/// What the commands of a scriptlet that has ended left to tell. One that says itself that it failed
/// has failed.
pub(super) fn take_notes(place: &Path) -> Result<Vec<String>, BuildError> {
    let text = match fs::read_to_string(place) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.at("read", place)?,
    };
    fs::remove_file(place).at("remove", place)?;
    let mut told: Vec<String> = Vec::new();
    // What is none was not written by these commands.
    for note in text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
    {
        match note {
            Note::Fatal(what) => return Err(BuildError::Invalid(what)),
            Note::Told(what) if !told.contains(&what) => told.push(what),
            Note::Told(_) => {}
        }
    }
    Ok(told)
}

/// In Yocto's scripts the end of a build.
fn bbfatal(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    let what = call.arguments.join(" ");
    call.note(&Note::Fatal(what.clone()))?;
    Ok(CommandEnd::failed(1, what))
}

/// What Yocto does at the end of an image, or on a device at its first boot.
fn intercept(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    let first = call.arguments.first().map(String::as_str);
    if first == Some("delay_to_first_boot") {
        call.note(&Note::Told(
            "it leaves work for the first boot of a device, which nothing does there".to_owned(),
        ))?;
    }
    Ok(CommandEnd::default())
}

fn set_password(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    call.note(&Note::Told(
        "it sets a password, which is not done: name the user in `permissions`".to_owned(),
    ))?;
    Ok(CommandEnd::default())
}

fn add_users(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    call.note(&Note::Told(
        "it adds users from a list, which is not done: name them in `permissions`".to_owned(),
    ))?;
    Ok(CommandEnd::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree, and the answers of commands on it.
    pub(super) struct Commands {
        pub(super) directory: tempfile::TempDir,
        settings: CommandSettings,
    }

    impl Commands {
        pub(super) fn new(is_system: bool) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join("tree");
            fs::create_dir(&root).unwrap();
            Commands {
                settings: CommandSettings {
                    notes: directory.path().join("notes"),
                    root,
                    epoch: 86_400 * 100,
                    is_system,
                    search_path: "/usr/bin:/bin".to_owned(),
                },
                directory,
            }
        }

        pub(super) fn tree(&self) -> Tree {
            Tree::open(&self.settings.root).unwrap()
        }

        pub(super) fn call(&self, line: &str) -> CommandEnd {
            let bin = self.directory.path().join("bin");
            fs::create_dir_all(&bin).unwrap();
            let text = serde_json::to_vec(&self.settings).unwrap();
            fs::write(settings_of(&bin), text).unwrap();
            let mut words = line.split_whitespace();
            let path = bin.join(words.next().unwrap()).into_os_string();
            let arguments = words.map(OsString::from);
            let arguments: Vec<OsString> = std::iter::once(path).chain(arguments).collect();
            scriptlet_command(&arguments)
        }

        pub(super) fn read(&self, file: &str) -> String {
            self.tree().read(file).unwrap().unwrap_or_default()
        }

        pub(super) fn notes(&self) -> Result<Vec<String>, BuildError> {
            take_notes(&self.settings.notes)
        }
    }

    #[test]
    fn what_an_image_has_no_use_for_succeeds() {
        let commands = Commands::new(true);
        assert_eq!(commands.call("ldconfig -X"), CommandEnd::default());
        assert_eq!(commands.call("chown app /x"), CommandEnd::default());
        let end = commands.call("postinst_intercept update_font_cache app");
        assert_eq!(end, CommandEnd::default());
        assert_eq!(commands.notes().unwrap(), [""; 0]);
        commands.call("postinst_intercept delay_to_first_boot app");
        commands.call("passwd root");
        commands.call("passwd root");
        commands.call("newusers list");
        assert_eq!(commands.notes().unwrap().len(), 3);
        assert_eq!(commands.call("bbfatal no luck").status, 1);
        assert_eq!(commands.notes().unwrap_err().to_string(), "no luck");
    }

    #[test]
    fn each_command_has_one_answer() {
        let mut all: Vec<&str> = names().collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(has(OsStr::new("useradd")) && !has(OsStr::new("sh")));
    }

    #[test]
    fn a_call_that_cannot_be_is_an_error() {
        assert_eq!(scriptlet_command(&[]).status, 1);
        let end = scriptlet_command(&["/nowhere/bin/useradd".into()]);
        assert!(end.complaint.contains("settings.json"), "{end:?}");
    }
}
