//! Users and groups of the tree, by the commands of `shadow`, with its exit statuses.

use std::collections::BTreeSet;
use std::path::Path;

use super::arguments::{Arguments, OptionRule};
use super::{Call, CommandEnd};
use crate::error::BuildError;
use crate::trees::passwd::AccountFile;
use crate::trees::{self, CopyModes};

const BAD_USAGE: u8 = 2;
const BAD_ARGUMENT: u8 = 3;
const ID_IN_USE: u8 = 4;
const NO_SUCH_ENTRY: u8 = 6;
const NAME_IN_USE: u8 = 9;

/// The numbers that those of the system get, from the last one down, and those of people, up.
const SYSTEM_IDS: std::ops::RangeInclusive<u32> = 101..=999;
const USER_IDS: std::ops::RangeInclusive<u32> = 1000..=60000;

const ROOT: OptionRule = ('R', "root", true);
const PREFIX: OptionRule = ('P', "prefix", true);

/// `passwd`, `shadow`, `group` and, where there is one, `gshadow`.
struct Accounts {
    passwd: AccountFile,
    shadow: AccountFile,
    group: AccountFile,
    gshadow: Option<AccountFile>,
}

/// What makes a command end without having done anything.
type Refusal = CommandEnd;

impl Accounts {
    fn read(call: &Call<'_>) -> Result<Self, BuildError> {
        let read = |name| AccountFile::read(call.tree, name);
        let has_gshadow = call.tree.has("etc/gshadow");
        Ok(Accounts {
            passwd: read("passwd")?,
            shadow: read("shadow")?,
            group: read("group")?,
            gshadow: has_gshadow.then(|| read("gshadow")).transpose()?,
        })
    }

    fn write(&self, call: &Call<'_>) -> Result<CommandEnd, BuildError> {
        call.tree.make_directories("etc")?;
        self.passwd.write(call.tree, "passwd", 0o644)?;
        self.shadow.write(call.tree, "shadow", 0o640)?;
        self.group.write(call.tree, "group", 0o644)?;
        if let Some(gshadow) = &self.gshadow {
            gshadow.write(call.tree, "gshadow", 0o640)?;
        }
        Ok(CommandEnd::default())
    }

    fn add_group(&mut self, name: &str, gid: u32) {
        let line = [name, "x", &gid.to_string(), ""];
        self.group.put(line.map(ToOwned::to_owned).into());
        if let Some(gshadow) = &mut self.gshadow {
            gshadow.put([name, "!", "", ""].map(ToOwned::to_owned).into());
        }
    }

    /// The number of a group that is named, or stated by its number.
    fn gid(&mut self, group: &str) -> Result<u32, Refusal> {
        let named = self.group.field(group, 2).and_then(|id| id.parse().ok());
        let stated = group.parse().ok();
        let stated = stated.filter(|id| self.group.ids().contains(id));
        named.or(stated).ok_or_else(|| {
            CommandEnd::failed(NO_SUCH_ENTRY, format!("group '{group}' does not exist"))
        })
    }

    fn join(&mut self, user: &str, group: &str) -> Result<(), Refusal> {
        let files = std::iter::once(&mut self.group).chain(&mut self.gshadow);
        let mut found = false;
        for file in files {
            let Some(members) = file.field(group, 3) else {
                continue;
            };
            found = true;
            let mut list: Vec<&str> = members.split(',').filter(|m| !m.is_empty()).collect();
            if !list.contains(&user) {
                list.push(user);
                *members = list.join(",");
            }
        }
        if found {
            return Ok(());
        }
        let complaint = format!("group '{group}' does not exist");
        Err(CommandEnd::failed(NO_SUCH_ENTRY, complaint))
    }
}

fn free(taken: &BTreeSet<u32>, system: bool) -> Result<u32, Refusal> {
    let is_free = |id: &u32| !taken.contains(id);
    let found = if system {
        SYSTEM_IDS.rev().find(is_free)
    } else {
        USER_IDS.clone().find(is_free)
    };
    found.ok_or_else(|| CommandEnd::failed(ID_IN_USE, "no number is free"))
}

fn number(text: &str) -> Result<u32, Refusal> {
    let refused = |_| CommandEnd::failed(BAD_ARGUMENT, format!("invalid number '{text}'"));
    text.parse().map_err(refused)
}

/// What may stand in a line of these files.
fn is_field(text: &str) -> bool {
    !text.contains([':', '\n', '\0'])
}

fn one_name<'a>(arguments: &'a Arguments, options: &[&str]) -> Result<&'a str, Refusal> {
    let [name] = &arguments.rest[..] else {
        return Err(CommandEnd::failed(BAD_USAGE, "one name is wanted"));
    };
    let is_name = !name.is_empty() && is_field(name) && !name.contains([',', '/', ' ', '\t']);
    let values = options.iter().filter_map(|option| arguments.value(option));
    if is_name && values.clone().all(is_field) {
        return Ok(name);
    }
    let complaint = format!("invalid name or value for '{}'", name.escape_debug());
    Err(CommandEnd::failed(BAD_ARGUMENT, complaint))
}

fn understood(rules: &[OptionRule], call: &Call<'_>) -> Result<Arguments, Refusal> {
    let read = Arguments::read(rules, call.arguments);
    read.map_err(|complaint| CommandEnd::failed(BAD_USAGE, complaint))
}

/// Does what a command means, and writes that where it is not refused.
fn change(
    call: &Call<'_>,
    work: impl FnOnce(&mut Accounts) -> Result<(), Refusal>,
) -> Result<CommandEnd, BuildError> {
    let mut accounts = Accounts::read(call)?;
    match work(&mut accounts) {
        Ok(()) => accounts.write(call),
        Err(refusal) => Ok(refusal),
    }
}

const USERADD: &[OptionRule] = &[
    ROOT,
    PREFIX,
    ('b', "base-dir", true),
    ('c', "comment", true),
    ('d', "home-dir", true),
    ('e', "expiredate", true),
    ('f', "inactive", true),
    ('g', "gid", true),
    ('G', "groups", true),
    ('k', "skel", true),
    ('K', "key", true),
    ('l', "no-log-init", false),
    ('m', "create-home", false),
    ('M', "no-create-home", false),
    ('N', "no-user-group", false),
    ('o', "non-unique", false),
    ('p', "password", true),
    ('r', "system", false),
    ('s', "shell", true),
    ('u', "uid", true),
    ('U', "user-group", false),
    ('Z', "selinux-user", true),
];

pub(super) fn useradd(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    let arguments = match understood(USERADD, call) {
        Ok(arguments) => arguments,
        Err(refusal) => return Ok(refusal),
    };
    let end = change(call, |accounts| add_user(accounts, &arguments, call))?;
    if end.status == 0
        && arguments.has("create-home")
        && let Some(name) = arguments.rest.first()
    {
        let home = home_of(&arguments, name);
        if !call.tree.has(&home) {
            call.tree.make_directories(&home)?;
            call.tree.set_mode(&home, 0o700)?;
            if call.tree.is_directory("etc/skel") {
                let skel = call.tree.resolve("etc/skel")?;
                trees::copy(&skel, call.tree, Path::new(&home), CopyModes::Keep)?;
            }
        }
    }
    Ok(end)
}

fn home_of(arguments: &Arguments, name: &str) -> String {
    let base = arguments.value("base-dir").unwrap_or("/home");
    let stated = arguments.value("home-dir").map(ToOwned::to_owned);
    stated.unwrap_or_else(|| format!("{base}/{name}"))
}

fn add_user(
    accounts: &mut Accounts,
    arguments: &Arguments,
    call: &Call<'_>,
) -> Result<(), Refusal> {
    let values = ["comment", "home-dir", "base-dir", "password", "shell"];
    let name = one_name(arguments, &values)?;
    if accounts.passwd.find(name).is_some() {
        let complaint = format!("user '{name}' already exists");
        return Err(CommandEnd::failed(NAME_IN_USE, complaint));
    }
    let system = arguments.has("system");
    let taken = accounts.passwd.ids();
    let uid = match arguments.value("uid") {
        Some(uid) => number(uid)?,
        None => free(&taken, system)?,
    };
    if taken.contains(&uid) && !arguments.has("non-unique") {
        return Err(CommandEnd::failed(
            ID_IN_USE,
            format!("UID {uid} is not unique"),
        ));
    }
    let gid = match arguments.value("gid") {
        Some(group) => accounts.gid(group)?,
        None if arguments.has("no-user-group") => {
            accounts.gid("users").or_else(|_| accounts.gid("100"))?
        }
        None if accounts.group.find(name).is_some() => {
            let complaint = format!("group '{name}' exists: -g puts the user into it");
            return Err(CommandEnd::failed(NAME_IN_USE, complaint));
        }
        None => {
            let taken = accounts.group.ids();
            let gid = if taken.contains(&uid) {
                free(&taken, system)?
            } else {
                uid
            };
            accounts.add_group(name, gid);
            gid
        }
    };
    let home = home_of(arguments, name);
    let comment = arguments.value("comment").unwrap_or_default();
    let shell = arguments.value("shell").unwrap_or("/bin/sh");
    let ids = [uid.to_string(), gid.to_string()];
    let line = [name, "x", &ids[0], &ids[1], comment, &home, shell];
    accounts.passwd.put(line.map(ToOwned::to_owned).into());
    let day = (call.settings.epoch / 86_400).to_string();
    let password = arguments.value("password").unwrap_or("!");
    let line = [name, password, &day, "0", "99999", "7", "", "", ""];
    accounts.shadow.put(line.map(ToOwned::to_owned).into());
    for group in list(arguments.value("groups")) {
        accounts.join(name, group)?;
    }
    Ok(())
}

fn list(names: Option<&str>) -> impl Iterator<Item = &str> {
    let names = names.unwrap_or_default().split(',');
    names.filter(|name| !name.is_empty())
}

const GROUPADD: &[OptionRule] = &[
    ROOT,
    PREFIX,
    ('f', "force", false),
    ('g', "gid", true),
    ('K', "key", true),
    ('o', "non-unique", false),
    ('p', "password", true),
    ('r', "system", false),
    ('U', "users", true),
];

pub(super) fn groupadd(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    change(call, |accounts| {
        let arguments = understood(GROUPADD, call)?;
        let name = one_name(&arguments, &[])?;
        let force = arguments.has("force");
        if accounts.group.find(name).is_some() {
            let complaint = format!("group '{name}' already exists");
            let status = if force { 0 } else { NAME_IN_USE };
            return Err(CommandEnd::failed(status, complaint));
        }
        let taken = accounts.group.ids();
        let system = arguments.has("system");
        let gid = match arguments.value("gid").map(number).transpose()? {
            Some(gid) if !taken.contains(&gid) || arguments.has("non-unique") => gid,
            Some(gid) if !force => {
                let complaint = format!("GID '{gid}' already exists");
                return Err(CommandEnd::failed(ID_IN_USE, complaint));
            }
            _ => free(&taken, system)?,
        };
        accounts.add_group(name, gid);
        list(arguments.value("users")).try_for_each(|user| accounts.join(user, name))
    })
}

const USERMOD: &[OptionRule] = &[
    ROOT,
    PREFIX,
    ('a', "append", false),
    ('c', "comment", true),
    ('d', "home", true),
    ('g', "gid", true),
    ('G', "groups", true),
    ('L', "lock", false),
    ('p', "password", true),
    ('s', "shell", true),
    ('U', "unlock", false),
];

pub(super) fn usermod(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    change(call, |accounts| {
        let arguments = understood(USERMOD, call)?;
        let name = one_name(&arguments, &["comment", "home", "password", "shell"])?;
        if accounts.passwd.find(name).is_none() {
            let complaint = format!("user '{name}' does not exist");
            return Err(CommandEnd::failed(NO_SUCH_ENTRY, complaint));
        }
        let set = |file: &mut AccountFile, field, value: Option<&str>| {
            if let (Some(place), Some(value)) = (file.field(name, field), value) {
                value.clone_into(place);
            }
        };
        for (option, field) in [("comment", 4), ("home", 5), ("shell", 6)] {
            set(&mut accounts.passwd, field, arguments.value(option));
        }
        set(&mut accounts.shadow, 1, arguments.value("password"));
        if let Some(password) = accounts.shadow.field(name, 1) {
            let open = password.trim_start_matches('!').to_owned();
            if arguments.has("lock") {
                *password = format!("!{open}");
            } else if arguments.has("unlock") {
                *password = open;
            }
        }
        if let Some(group) = arguments.value("gid") {
            let gid = accounts.gid(group)?.to_string();
            if let Some(place) = accounts.passwd.field(name, 3) {
                *place = gid;
            }
        }
        if arguments.has("groups") && !arguments.has("append") {
            for file in std::iter::once(&mut accounts.group).chain(&mut accounts.gshadow) {
                for members in file.lines.iter_mut().filter_map(|line| line.get_mut(3)) {
                    let kept = members.split(',').filter(|member| *member != name);
                    let kept: Vec<&str> = kept.collect();
                    *members = kept.join(",");
                }
            }
        }
        list(arguments.value("groups")).try_for_each(|group| accounts.join(name, group))
    })
}

const GROUPMEMS: &[OptionRule] = &[ROOT, ('a', "add", true), ('g', "group", true)];

pub(super) fn groupmems(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    change(call, |accounts| {
        let arguments = understood(GROUPMEMS, call)?;
        match (arguments.value("add"), arguments.value("group")) {
            (Some(user), Some(group)) if accounts.passwd.find(user).is_some() => {
                accounts.join(user, group)
            }
            (Some(user), Some(_)) => {
                let complaint = format!("user '{user}' does not exist");
                Err(CommandEnd::failed(NO_SUCH_ENTRY, complaint))
            }
            _ => Err(CommandEnd::failed(
                BAD_USAGE,
                "--add and --group are wanted",
            )),
        }
    })
}

/// Of the tree, whatever the build host knows.
pub(super) fn getent(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    let [database, keys @ ..] = call.arguments else {
        return Ok(CommandEnd::failed(1, "a database is wanted"));
    };
    if !["passwd", "group", "shadow", "gshadow"].contains(&database.as_str()) {
        return Ok(CommandEnd::failed(
            1,
            format!("unknown database: {database}"),
        ));
    }
    let file = AccountFile::read(call.tree, database)?;
    let is_meant = |line: &&Vec<String>| {
        let by_id = ["passwd", "group"].contains(&database.as_str());
        let is = |key: &String| line.first() == Some(key) || by_id && line.get(2) == Some(key);
        keys.is_empty() || keys.iter().any(is)
    };
    let lines = file.lines.iter().filter(is_meant);
    let lines: Vec<String> = lines.map(|line| line.join(":") + "\n").collect();
    let is_missing = lines.len() < keys.len();
    Ok(CommandEnd {
        status: if is_missing { 2 } else { 0 },
        output: lines.concat(),
        complaint: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::Commands;
    use super::*;

    #[test]
    fn users_and_groups_are_added_as_shadow_adds_them() {
        let commands = Commands::new(true);
        let tree = commands.tree();
        tree.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
            .unwrap();
        tree.write("etc/group", "root:x:0:\naudio:x:29:\nusers:x:100:\n", 0o644)
            .unwrap();
        for line in [
            "groupadd --system --root /x input",
            "useradd --root /x -r -M -G audio,input --shell /bin/false -d /var/lib/app app",
            "useradd -u 1234 -N person",
            "groupmems --add person --group audio",
        ] {
            assert_eq!(commands.call(line), CommandEnd::default(), "{line}");
        }
        assert_eq!(
            commands.read("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\n\
             app:x:999:998::/var/lib/app:/bin/false\n\
             person:x:1234:100::/home/person:/bin/sh\n"
        );
        assert_eq!(
            commands.read("etc/group"),
            "root:x:0:\naudio:x:29:app,person\nusers:x:100:\ninput:x:999:app\napp:x:998:\n"
        );
        assert_eq!(
            commands.read("etc/shadow"),
            "app:!:100:0:99999:7:::\nperson:!:100:0:99999:7:::\n"
        );
        assert!(!tree.has("home/person") && !tree.has("etc/gshadow"));
        let known = commands.call("getent passwd app 1234");
        assert_eq!((known.status, known.output.lines().count()), (0, 2));
        assert_eq!(commands.call("getent passwd nobody").status, 2);
    }

    #[test]
    fn what_cannot_be_added_has_the_status_of_shadow() {
        let commands = Commands::new(true);
        let group = "a:x:7:\n";
        let passwd = "a:x:5:7::/:/bin/sh\n";
        commands.tree().write("etc/group", group, 0o644).unwrap();
        commands.tree().write("etc/passwd", passwd, 0o644).unwrap();
        for (line, status) in [
            ("useradd a", 9),
            ("useradd -u 5 b", 4),
            ("useradd -g none b", 6),
            ("useradd -G none b", 6),
            ("useradd b:0", 3),
            ("useradd -d /x:0 b", 3),
            ("useradd --what b", 2),
            ("useradd", 2),
            ("groupadd a", 9),
            ("groupadd -g 7 b", 4),
            ("usermod -L b", 6),
            ("groupmems -a b -g a", 6),
        ] {
            let end = commands.call(line);
            assert_eq!(end.status, status, "{line}: {end:?}");
            assert!(!end.complaint.is_empty(), "{line}");
        }
        assert_eq!(commands.read("etc/group"), group);
        assert_eq!(commands.read("etc/passwd"), passwd);
        assert_eq!(commands.call("groupadd -f a").status, 0);
    }

    #[test]
    fn a_home_is_made_in_the_tree_alone() {
        let commands = Commands::new(true);
        let tree = commands.tree();
        let outside = commands.directory.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        tree.symlink(&outside, "home").unwrap();
        tree.write("etc/skel/.profile", "x", 0o644).unwrap();
        let end = commands.call("useradd -m -d /srv/app app");
        assert_eq!(end, CommandEnd::default());
        assert_eq!(commands.read("srv/app/.profile"), "x");
        commands.call("useradd -m other");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_user_is_changed() {
        let commands = Commands::new(true);
        commands.call("groupadd one");
        commands.call("groupadd two");
        commands.call("useradd -G one app");
        commands.call("usermod -G two -s /bin/false -p hash app");
        assert!(commands.read("etc/group").contains("one:x:1000:\n"));
        assert!(commands.read("etc/group").contains("two:x:1001:app\n"));
        assert!(commands.read("etc/passwd").ends_with(":/bin/false\n"));
        commands.call("usermod -L -a -G one app");
        assert!(commands.read("etc/group").contains("one:x:1000:app\n"));
        assert!(commands.read("etc/shadow").starts_with("app:!hash:"));
    }
}
