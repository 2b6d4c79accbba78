//! What of this machine a job sees on another one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::job_view::JobView;
use crate::protocol::{NfsShare, RemotePlace};
use crate::{Job, Mount, MountAccess};

/// Where a job mounts what is shared: in one of the directories that each job has anew, so nothing has to
/// be there before, and what is there is out of sight when the job begins.
pub(super) const TEMPORARY: &str = "/tmp";

/// A directory of this machine that an NFS server exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedDirectory {
    /// Exported as `/<name>`.
    pub name: String,
    /// Where it really is: no link leads there.
    pub path: PathBuf,
}

/// Where jobs find what is shared.
#[derive(Debug)]
pub(super) struct Shares {
    server: SocketAddr,
    directories: Vec<SharedDirectory>,
}

impl Shares {
    pub(super) fn new(server: SocketAddr, directories: Vec<SharedDirectory>) -> Self {
        Shares {
            server,
            directories,
        }
    }

    /// What a job has to find there.
    ///
    /// # Errors
    /// Something that the job needs and that is not shared.
    pub(super) fn place(&self, job: &Job) -> Result<RemotePlace, PathBuf> {
        let mut used = Vec::new();
        let mut there = |path: &Path| {
            let (number, there) = self.find(path)?;
            if !used.contains(&number) {
                used.push(number);
            }
            Some(there)
        };
        let mut mounts = Vec::new();
        for mount in &job.mounts {
            let source = there(&mount.source).ok_or_else(|| mount.source.clone())?;
            mounts.push(Mount {
                source,
                ..mount.clone()
            });
        }
        // At their own paths, as on this machine.
        for path in job.visible.iter().filter(|path| path.exists()) {
            let source = there(path).ok_or_else(|| path.clone())?;
            mounts.push(Mount {
                source,
                target: path.clone(),
                access: MountAccess::Read,
            });
        }
        // What else is hidden is not shared in the first place.
        let hidden = job.hidden.iter().filter_map(|path| there(path));
        let hidden = hidden.collect();
        used.sort_unstable();
        let shares = used.iter().filter_map(|number| {
            let directory = self.directories.get(*number)?;
            Some(NfsShare {
                server: self.server,
                name: directory.name.clone(),
                point: point(*number),
            })
        });
        Ok(RemotePlace {
            shares: shares.collect(),
            view: JobView {
                network: job.network,
                mounts,
                visible: Vec::new(),
                hidden,
                emulator: None,
            },
            environment: job.environment.clone(),
        })
    }

    /// The share that something is in, and where a job finds it.
    fn find(&self, path: &Path) -> Option<(usize, PathBuf)> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut found = self.directories.iter().enumerate();
        found.find_map(|(number, directory)| {
            let below = real.strip_prefix(&directory.path).ok()?;
            // Joined with nothing, a path would end in a slash.
            let is_whole = below.as_os_str().is_empty();
            let point = point(number);
            Some((number, if is_whole { point } else { point.join(below) }))
        })
    }
}

fn point(number: usize) -> PathBuf {
    Path::new(TEMPORARY)
        .join("avocado-shares")
        .join(number.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn job(mounts: &[(&Path, &str)], visible: Vec<PathBuf>, hidden: Vec<PathBuf>) -> Job {
        let mounts = mounts.iter().map(|(source, target)| Mount {
            source: (*source).to_owned(),
            target: target.into(),
            access: MountAccess::Write,
        });
        Job {
            stage: "s".to_owned(),
            environment: BTreeMap::new(),
            mounts: mounts.collect(),
            hidden,
            visible,
            network: true,
            terminal: false,
            emulates: None,
            loop_mounts: false,
            request: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_job_finds_what_is_shared_and_is_shown_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(place.path()).unwrap();
        let (project, other) = (place.join("p"), place.join("o"));
        let state = project.join(".avocado/state");
        for directory in [&state, &other] {
            fs::create_dir_all(directory).unwrap();
        }
        let link = place.join("link");
        std::os::unix::fs::symlink(&project, &link).unwrap();
        let directory = |name: &str, path: &Path| SharedDirectory {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        let directories = vec![directory("a", &other), directory("b", &project)];
        let shares = Shares::new("10.0.0.1:12050".parse().unwrap(), directories);
        let of =
            |mounts: &[(&Path, &str)], visible, hidden| shares.place(&job(mounts, visible, hidden));
        let found = of(
            &[(&state, "/opt/_avocado"), (&link, "/opt/src")],
            vec![project.clone(), place.join("none")],
            vec![state.clone(), "/root".into()],
        );
        let found = found.unwrap();
        let mounts = found.view.mounts.iter();
        let mounts: Vec<_> = mounts
            .map(|m| (m.source.to_str().unwrap(), m.target.as_path(), m.access))
            .collect();
        let at = "/tmp/avocado-shares/1";
        let of_state = "/tmp/avocado-shares/1/.avocado/state";
        assert_eq!(
            mounts,
            [
                (of_state, "/opt/_avocado".as_ref(), MountAccess::Write),
                (at, "/opt/src".as_ref(), MountAccess::Write),
                (at, project.as_path(), MountAccess::Read),
            ]
        );
        assert_eq!(found.view.hidden, [Path::new(of_state)]);
        let names: Vec<_> = found.shares.iter().map(|share| &share.name).collect();
        assert_eq!(names, ["b"]);

        let secret = place.join("secret");
        fs::write(&secret, "").unwrap();
        assert_eq!(
            of(&[], vec![secret.clone()], Vec::new()).unwrap_err(),
            secret
        );
        assert_eq!(
            of(&[(&secret, "/opt/x")], Vec::new(), Vec::new()).unwrap_err(),
            secret
        );
    }
}
