//! A checkout of a git repository, made by git. What the repository holds is not trusted, and what
//! the user set up for himself does not shape it: the network is used with his configuration (keys,
//! helpers, proxies), the files are written without it (no filters, no line ends of his taste).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use avocado_backend::{Tool, ToolError};
use avocado_events::{Cancel, Sink};

use crate::error::{BuildError, ToolFailure};
use crate::failure_kind::FailureKind;
use crate::trees;

/// What git is told each time: no program of a template, a hook or a repository runs.
const SETTINGS: [&str; 9] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    // A server that says nothing for a minute is gone.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
];

/// Variables that the user may set for git, beside what every tool gets.
const FETCH_ONLY: [(&str, &str); 3] = [
    // Nobody is there to answer.
    ("GIT_TERMINAL_PROMPT", "0"),
    // `ext::` and the like are programs. This counts before what the user's configuration says.
    ("GIT_ALLOW_PROTOCOL", "file:https:ssh:git"),
    ("GCM_INTERACTIVE", "never"),
];

/// A checkout in the making.
pub(crate) struct Checkout<'a> {
    pub(crate) environment: &'a BTreeMap<String, OsString>,
    pub(crate) url: &'a str,
    /// The branch, tag or commit; what the repository itself points to where it is absent.
    pub(crate) reference: Option<&'a str>,
    /// What is checked out; empty for everything.
    pub(crate) sparse: &'a [String],
    /// An empty directory.
    pub(crate) place: &'a Path,
    pub(crate) sink: &'a dyn Sink,
    pub(crate) cancel: &'a Cancel,
}

impl Checkout<'_> {
    /// Makes it, of the commit that is locked or of what the reference is now, and answers with the
    /// commit. Nothing of git's own stays.
    pub(crate) fn make(&self, locked: Option<&str>) -> Result<String, BuildError> {
        self.run(self.git().args(["init", "--quiet", "--template="]))?;
        let commit = match locked {
            Some(commit) => self.fetch_commit(commit)?,
            None => self.fetch_reference(self.reference.unwrap_or("HEAD"))?,
        };
        if !self.sparse.is_empty() {
            let is_pattern = |path: &String| path.contains(['*', '?', '[', '!']);
            // Directories, and what stands beside them on the way down; else patterns.
            let cone = if self.sparse.iter().any(is_pattern) {
                "--no-cone"
            } else {
                "--cone"
            };
            let git = self.git().args(["sparse-checkout", "set", cone]);
            self.run(git.args(self.sparse))?;
        }
        let checkout = ["checkout", "--quiet", "--force", "--detach"];
        self.run(self.git().args(checkout).arg(&commit))?;
        trees::clear(&self.place.join(".git"))?;
        Ok(commit)
    }

    /// What a branch, a tag or a commit is now.
    fn fetch_reference(&self, reference: &str) -> Result<String, BuildError> {
        let first = match self.fetch(&["--depth=1", "--no-tags"], &[reference]) {
            Ok(()) => return Ok(self.commit_of("FETCH_HEAD")?),
            Err(error) => error,
        };
        // A commit in short, say, which only those who have them all know.
        let may_be_commit =
            reference.len() >= 7 && reference.bytes().all(|b| b.is_ascii_hexdigit());
        if !may_be_commit || first.is_cancelled() {
            return Err(first);
        }
        let everything = self.fetch(&["--tags"], &["+refs/heads/*:refs/remotes/origin/*"]);
        everything?;
        let commit = self.commit_of(reference);
        commit.map_err(|error| self.unless_it_has_none(error, || first))
    }

    /// One commit, from a server that gives single ones or by way of all that it has.
    fn fetch_commit(&self, commit: &str) -> Result<String, BuildError> {
        let first = match self.fetch(&["--depth=1", "--no-tags"], &[commit]) {
            Ok(()) => return Ok(self.commit_of(commit)?),
            Err(error) => error,
        };
        if first.is_cancelled() {
            return Err(first);
        }
        self.fetch(&["--tags"], &["+refs/heads/*:refs/remotes/origin/*"])?;
        // Only a repository that gave all that it has can have lost it.
        let gone = || BuildError::CommitGone {
            commit: commit.to_owned(),
            source: Box::new(first),
        };
        let found = self.commit_of(commit);
        found.map_err(|error| self.unless_it_has_none(error, gone))
    }

    /// What it means that git did not tell a commit: `none` where git itself says that there is none,
    /// and not where it was ended, or could not be started or read.
    fn unless_it_has_none(
        &self,
        error: ToolError,
        none: impl FnOnce() -> BuildError,
    ) -> BuildError {
        match error {
            _ if self.cancel.is_cancelled() => BuildError::Cancelled,
            // One that a signal ended has no code.
            ToolError::Failed { status, .. } if status.code().is_some() => none(),
            error => error.into(),
        }
    }

    fn fetch(&self, options: &[&str], refspecs: &[&str]) -> Result<(), BuildError> {
        let mut git = self.with_settings(self.git_of_user());
        if !self.user_has_ssh_command() {
            git = git.env(
                "GIT_SSH_COMMAND",
                "ssh -o BatchMode=yes -o ConnectTimeout=20",
            );
        }
        let git = git
            .cancelled_by(self.cancel)
            .args(["fetch", "--quiet", "--no-recurse-submodules"])
            .args(options)
            .args(["--", self.url])
            .args(refspecs);
        let fetched = git.run(self.sink);
        fetched.map_err(|error| {
            if self.cancel.is_cancelled() {
                BuildError::Cancelled
            } else {
                ToolFailure::read_by(error, failure_kind).into()
            }
        })
    }

    /// git with what the user set for it.
    fn git_of_user(&self) -> Tool {
        let mut git = Tool::new("git").clear_environment();
        for (key, value) in self.environment {
            git = git.env(key, value);
        }
        for (key, value) in FETCH_ONLY {
            git = git.env(key, value);
        }
        git
    }

    /// Whether the user says how ssh is run, in the environment or in git's configuration: one that
    /// we set would come before either.
    fn user_has_ssh_command(&self) -> bool {
        let variables = ["GIT_SSH_COMMAND", "GIT_SSH"];
        if variables
            .iter()
            .any(|name| self.environment.contains_key(*name))
        {
            return true;
        }
        let git = self.git_of_user().arg("-C").arg(self.place);
        let git = git.args(["config", "--get", "core.sshCommand"]);
        // It says no where there is none.
        git.read(self.sink).is_ok()
    }

    fn commit_of(&self, name: &str) -> Result<String, ToolError> {
        let git = self
            .git()
            .args(["rev-parse", "--verify", "--end-of-options"]);
        let text = git.arg(format!("{name}^{{commit}}")).read(self.sink)?;
        Ok(text.trim().to_owned())
    }

    fn run(&self, tool: Tool) -> Result<(), BuildError> {
        Ok(tool.run(self.sink)?)
    }

    /// git without anything of the user's.
    fn git(&self) -> Tool {
        let mut git = Tool::new("git").clear_environment();
        if let Some(path) = self.environment.get("PATH") {
            git = git.env("PATH", path);
        }
        self.with_settings(git)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
    }

    fn with_settings(&self, mut git: Tool) -> Tool {
        git = git.env("LC_ALL", "C.UTF-8").arg("-C").arg(self.place);
        for setting in SETTINGS {
            git = git.args(["-c", setting]);
        }
        git
    }
}

/// What git says of its failure, in the locale that it runs in: it ends with 128 whatever it is. It
/// chooses what a user is told to do about it, and nothing else.
fn failure_kind(error: &ToolError) -> Option<FailureKind> {
    let refused = [
        "terminal prompts disabled",
        "could not read Username",
        "could not read Password",
        "Authentication failed",
        "Permission denied",
        "Host key verification failed",
    ];
    let is_refused = refused.iter().any(|words| error.says(words));
    Some(if is_refused {
        FailureKind::SourceRefused
    } else {
        FailureKind::SourceUnreachable
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn only_what_git_says_tells_that_a_commit_is_gone() {
        let (environment, cancel) = (BTreeMap::new(), Cancel::new());
        let checkout = Checkout {
            environment: &environment,
            url: "u",
            reference: None,
            sparse: &[],
            place: Path::new("/x"),
            sink: &avocado_events::Silent,
            cancel: &cancel,
        };
        let failed = |status: i32| ToolError::Failed {
            tool: "git".into(),
            status: ExitStatus::from_raw(status),
            output: Vec::new(),
        };
        let none = || BuildError::CommitGone {
            commit: "c".into(),
            source: Box::new(BuildError::Invalid("x".into())),
        };
        let kind = |error| checkout.unless_it_has_none(error, none).kind();
        let gone = Some(FailureKind::CommitGone);
        assert_eq!(kind(failed(128 << 8)), gone);
        let lost = || (io::Error::other("x"), "git".to_owned());
        let (source, tool) = lost();
        assert_ne!(kind(ToolError::Lost { tool, source }), gone);
        let (source, tool) = lost();
        assert_ne!(kind(ToolError::Start { tool, source }), gone);
        // Ended by a signal: for want of memory, say.
        assert_ne!(kind(failed(9)), gone);
        cancel.cancel();
        for status in [2, 128 << 8] {
            let error = checkout.unless_it_has_none(failed(status), none);
            assert!(error.is_cancelled(), "{error:?}");
        }
    }
}
