//! Working as whom the project belongs to. The server needs a capability that only root has to give;
//! what is built with it must not become root's, for then its owner could not build any more.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use avocado_build::find_tool;

use crate::failure::{Context, Failure, Result};
use crate::session::Session;

/// What the server needs, and all that is kept of root's: open_by_handle_at(2).
const CAPABILITY: &str = "+dac_read_search";

/// Where root runs this in the project of another user, goes on as that one, in the place of this
/// process.
pub(in crate::commands) fn become_owner(session: &Session, config: &Path) -> Result<()> {
    let config = fs::metadata(config).context(|| format!("cannot read {}", config.display()))?;
    // A process belongs to who it works as.
    let this = fs::metadata("/proc/self").context(|| "cannot read /proc/self".into())?;
    if this.uid() != 0 || config.uid() == 0 {
        return Ok(());
    }
    let users = fs::read_to_string("/etc/passwd").context(|| "cannot read /etc/passwd".into())?;
    let Some(owner) = ProjectOwner::find(&users, config.uid()) else {
        return Err(Failure::new(format!(
            "the project belongs to user {}, whom this machine does not know",
            config.uid()
        ))
        .hint("root would leave files in it that its owner cannot change: give it to a user"));
    };
    let search_path = session.environment.search_path();
    let setpriv = find_tool(&search_path, "setpriv").ok_or_else(|| {
        Failure::new("setpriv is not installed, with which root works as a project's owner")
            .hint("install util-linux")
    })?;
    let arguments = std::env::args_os().skip(1).collect();
    let mut command = owner.command(&setpriv, session.environment.exe()?, arguments);
    // It comes back only where it failed.
    let error = command.exec();
    Err(Failure::from_error(&error))
}

#[derive(Debug, PartialEq, Eq)]
struct ProjectOwner {
    user: u32,
    group: u32,
    home: String,
}

impl ProjectOwner {
    /// A user, from the lines of passwd(5).
    fn find(users: &str, id: u32) -> Option<Self> {
        users.lines().find_map(|line| {
            let [_, _, user, group, _, home, ..] = line.split(':').collect::<Vec<_>>()[..] else {
                return None;
            };
            let user = user.parse().ok().filter(|user| *user == id)?;
            Some(ProjectOwner {
                user,
                group: group.parse().ok()?,
                home: home.to_owned(),
            })
        })
    }

    fn command(&self, setpriv: &Path, program: PathBuf, arguments: Vec<OsString>) -> Command {
        let mut command = Command::new(setpriv);
        command
            .arg(format!("--reuid={}", self.user))
            .arg(format!("--regid={}", self.group))
            .arg("--init-groups")
            .arg(format!("--inh-caps={CAPABILITY}"))
            .arg(format!("--ambient-caps={CAPABILITY}"))
            .arg("--")
            .arg(program)
            .args(arguments)
            .env("HOME", &self.home);
        // They may be root's.
        for place in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env_remove(place);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_project_keeps_one_capability() {
        let users = "root:x:0:0:root:/root:/bin/bash\nodd\nme:x:1000:100::/home/me:/bin/sh\n";
        assert_eq!(ProjectOwner::find(users, 1), None);
        let owner = ProjectOwner::find(users, 1000).unwrap();
        let arguments = ["hitl", "server", "-e", "a b"].map(OsString::from).to_vec();
        let command = owner.command(Path::new("setpriv"), "/bin/avocado".into(), arguments);
        let words: Vec<_> = command
            .get_args()
            .filter_map(|word| word.to_str())
            .collect();
        assert_eq!(
            words,
            [
                "--reuid=1000",
                "--regid=100",
                "--init-groups",
                "--inh-caps=+dac_read_search",
                "--ambient-caps=+dac_read_search",
                "--",
                "/bin/avocado",
                "hitl",
                "server",
                "-e",
                "a b"
            ]
        );
        let home = command.get_envs().find(|(name, _)| *name == "HOME");
        assert_eq!(home.unwrap().1.unwrap(), "/home/me");
    }
}
