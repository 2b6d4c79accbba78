//! Which of several packages has a name: `update-alternatives`, with the records that opkg keeps.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::{Call, CommandEnd, Note};
use crate::error::BuildError;
use crate::trees::{Tree, is};

/// A file for each name: the link, and a line for each path with its priority.
const RECORDS: &str = "var/lib/opkg/alternatives";

#[derive(Debug, Default)]
struct Alternatives {
    link: String,
    /// In the order in which they came.
    paths: Vec<(String, i64)>,
}

impl Alternatives {
    fn read(tree: &Tree, record: &Path) -> Result<Option<Self>, BuildError> {
        let Some(text) = tree.read(record)? else {
            return Ok(None);
        };
        let mut lines = text.lines();
        let link = lines.next().unwrap_or_default().to_owned();
        let path = |line: &str| {
            let (path, priority) = line.rsplit_once(' ')?;
            Some((path.to_owned(), priority.parse().ok()?))
        };
        let paths = lines.filter_map(path).collect();
        Ok(Some(Alternatives { link, paths }))
    }

    fn write(&self, tree: &Tree, record: &Path) -> Result<(), BuildError> {
        if self.paths.is_empty() {
            return tree.clear(record);
        }
        let paths = self.paths.iter();
        let lines: String = paths.map(|(path, n)| format!("{path} {n}\n")).collect();
        tree.make_directories(RECORDS)?;
        tree.write(record, format!("{}\n{lines}", self.link), 0o644)
    }

    /// The highest one, and of those the last.
    fn best(&self) -> Option<&str> {
        let best = self.paths.iter().max_by_key(|(_, priority)| *priority);
        best.map(|(path, _)| path.as_str())
    }
}

pub(super) fn update_alternatives(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    let words: Vec<&str> = call.arguments.iter().map(String::as_str).collect();
    // Where it is and how much it says makes no difference here.
    let words = words.strip_prefix(&["--force"]).unwrap_or(&words);
    match words {
        ["--install", link, name, path, priority, rest @ ..] => {
            let Ok(priority) = priority.parse() else {
                let complaint = format!("`{priority}` is no priority");
                return Ok(CommandEnd::failed(1, complaint));
            };
            install(call, link, name, path, priority)?;
            for follower in rest.chunks(4) {
                let ["--slave", link, name, path] = follower else {
                    return Ok(CommandEnd::failed(1, "what follows is no --slave"));
                };
                install(call, link, name, path, priority)?;
            }
        }
        ["--remove", name, path] => {
            let record = record(name)?;
            if let Some(mut found) = Alternatives::read(call.tree, &record)? {
                found.paths.retain(|(known, _)| known != path);
                found.write(call.tree, &record)?;
                show(call, &found)?;
            }
        }
        // Chosen by priority as it is, or looked at.
        [first, ..] if first.starts_with("--") => {}
        _ => return Ok(CommandEnd::failed(1, "--install or --remove is wanted")),
    }
    Ok(CommandEnd::default())
}

fn install(
    call: &Call<'_>,
    link: &str,
    name: &str,
    path: &str,
    priority: i64,
) -> Result<(), BuildError> {
    let record = record(name)?;
    let mut found = Alternatives::read(call.tree, &record)?.unwrap_or_default();
    link.clone_into(&mut found.link);
    found.paths.retain(|(known, _)| known != path);
    found.paths.push((path.to_owned(), priority));
    found.write(call.tree, &record)?;
    show(call, &found)
}

/// Makes the link what the best of the alternatives is.
fn show(call: &Call<'_>, alternatives: &Alternatives) -> Result<(), BuildError> {
    let (tree, link) = (call.tree, alternatives.link.as_str());
    let there = tree.look(link)?;
    if there.is_some_and(|found| !is(&found, FileType::Symlink)) {
        return call.note(&Note::Told(format!(
            "{link} is no link and stays as it is, in place of an alternative"
        )));
    }
    tree.clear(link)?;
    let Some(best) = alternatives.best() else {
        return Ok(());
    };
    if let Some(parent) = Path::new(link).parent() {
        tree.make_directories(parent)?;
    }
    tree.symlink(best, link)
}

fn record(name: &str) -> Result<PathBuf, BuildError> {
    if name.is_empty() || name.contains(['/', '\n', '\0']) || name.starts_with('.') {
        let name = name.escape_debug();
        return Err(BuildError::Invalid(format!(
            "`{name}` is no name of alternatives"
        )));
    }
    Ok(Path::new(RECORDS).join(name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Commands;
    use super::*;

    fn link(commands: &Commands, path: &str) -> Option<String> {
        let path = commands.tree().shown(path);
        let target = std::fs::read_link(path).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    #[test]
    fn the_highest_priority_has_the_name() {
        let commands = Commands::new(true);
        let install = |path: &str, priority: u32| {
            let line = format!("update-alternatives --install /bin/sh sh {path} {priority}");
            assert_eq!(commands.call(&line), CommandEnd::default());
            link(&commands, "bin/sh").unwrap()
        };
        assert_eq!(install("/bin/busybox", 50), "/bin/busybox");
        assert_eq!(install("/bin/bash", 100), "/bin/bash");
        assert_eq!(install("/bin/dash", 70), "/bin/bash");
        let record = commands.read("var/lib/opkg/alternatives/sh");
        assert_eq!(
            record,
            "/bin/sh\n/bin/busybox 50\n/bin/bash 100\n/bin/dash 70\n"
        );
        commands.call("update-alternatives --remove sh /bin/bash");
        assert_eq!(link(&commands, "bin/sh").unwrap(), "/bin/dash");
        commands.call("update-alternatives --remove sh /bin/dash");
        commands.call("update-alternatives --remove sh /bin/busybox");
        assert_eq!(link(&commands, "bin/sh"), None);
    }

    #[test]
    fn a_file_is_not_replaced_and_nothing_leaves_the_tree() {
        let commands = Commands::new(true);
        let tree = commands.tree();
        tree.write("usr/bin/vi", "own", 0o755).unwrap();
        commands.call("update-alternatives --install /usr/bin/vi vi /usr/bin/vim 1");
        assert_eq!(commands.read("usr/bin/vi"), "own");
        assert_eq!(commands.notes().unwrap().len(), 1);

        let outside = commands.directory.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        tree.symlink(&outside, "opt").unwrap();
        commands.call("update-alternatives --install /opt/a a /usr/bin/vim 1");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        for line in [
            "update-alternatives --install /a ../../b /c 1",
            "update-alternatives --install /a b /c high",
            "update-alternatives",
        ] {
            assert_eq!(commands.call(line).status, 1, "{line}");
        }
    }
}
