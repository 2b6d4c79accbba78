//! The scriptlets of packages: what rpm would run before and after it unpacks a package's files.
//!
//! rpm itself runs them with the tree as its root directory, where there may be no shell, or one for
//! another processor. So dnf unpacks without them, and they run afterwards, in the order of the
//! transaction: on the build host, with the tree in `D`, as Yocto's packages expect it of a build.
//! [`ScriptletsRequest`] runs them in a job that sees the tree and nothing else of the project.
//! What they call to change a system that runs is answered by [`commands`], on the tree.

pub(crate) mod commands;
mod installed;
mod request;

use serde::{Deserialize, Serialize};

pub(crate) use commands::SYSTEMCTL;
pub(crate) use installed::{QUERY, parse};
pub(crate) use request::{BorrowedAccounts, ScriptletsRequest, published_shims};

/// Counts that the same packages come to mean another tree.
pub(crate) const REVISION: u32 = 1;

/// When a scriptlet runs, by the name that it has in a spec file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScriptletKind {
    Pretrans,
    Pre,
    Post,
    Posttrans,
    /// Of any kind. None of them runs.
    Trigger,
}

impl ScriptletKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ScriptletKind::Pretrans => "%pretrans",
            ScriptletKind::Pre => "%pre",
            ScriptletKind::Post => "%post",
            ScriptletKind::Posttrans => "%posttrans",
            ScriptletKind::Trigger => "%trigger",
        }
    }
}

/// One scriptlet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scriptlet {
    pub(crate) kind: ScriptletKind,
    /// The program that it is for, with its arguments.
    pub(crate) program: Vec<String>,
    pub(crate) text: String,
    /// It has macros in it, which rpm would fill in.
    pub(crate) has_macros: bool,
}

impl Scriptlet {
    /// Why it cannot run here, if so.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        let program = self.program.first().map(String::as_str);
        match program {
            _ if self.kind == ScriptletKind::Trigger => Some("triggers do not run in a build"),
            Some("<lua>") => Some("it is for the interpreter of Lua that is built into rpm"),
            _ if self.has_macros => Some("it has macros of rpm in it"),
            _ => None,
        }
    }
}

/// The scriptlets of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackageScriptlets {
    pub(crate) package: String,
    /// Where in the transactions of its tree the package was.
    pub(crate) order: u64,
    pub(crate) scriptlets: Vec<Scriptlet>,
}

/// Scriptlets of a package that did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedScriptlets {
    /// The tree that the package is in, by the step that installs it.
    pub tree: String,
    /// The package.
    pub package: String,
    /// Which of its scriptlets: `%pre`, `%post`, …
    pub scriptlets: Vec<String>,
    /// Why.
    pub reason: String,
}

/// Parts what can run from what cannot, or is not to.
pub(crate) fn part(
    tree: &str,
    packages: Vec<PackageScriptlets>,
    are_wanted: bool,
) -> (Vec<PackageScriptlets>, Vec<SkippedScriptlets>) {
    let (mut to_run, mut skipped) = (Vec::new(), Vec::new());
    for mut package in packages {
        let reason = |scriptlet: &Scriptlet| {
            if are_wanted {
                scriptlet.refused()
            } else {
                Some("--no-scripts")
            }
        };
        let refused = package.scriptlets.iter().filter_map(|scriptlet| {
            Some(SkippedScriptlets {
                tree: tree.to_owned(),
                package: package.package.clone(),
                scriptlets: vec![scriptlet.kind.as_str().to_owned()],
                reason: reason(scriptlet)?.to_owned(),
            })
        });
        for one in refused {
            match skipped.last_mut() {
                Some(SkippedScriptlets {
                    package,
                    scriptlets,
                    reason,
                    ..
                }) if (&*package, &*reason) == (&one.package, &one.reason) => {
                    scriptlets.extend(one.scriptlets);
                }
                _ => skipped.push(one),
            }
        }
        package.scriptlets.retain(|s| reason(s).is_none());
        if !package.scriptlets.is_empty() {
            to_run.push(package);
        }
    }
    (to_run, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scriptlet(kind: ScriptletKind, program: &str) -> Scriptlet {
        Scriptlet {
            kind,
            program: vec![program.to_owned()],
            text: String::new(),
            has_macros: false,
        }
    }

    #[test]
    fn what_cannot_run_is_told_and_the_rest_runs() {
        let app = PackageScriptlets {
            package: "app".to_owned(),
            order: 1,
            scriptlets: vec![
                scriptlet(ScriptletKind::Pre, "/bin/sh"),
                scriptlet(ScriptletKind::Post, "<lua>"),
                scriptlet(ScriptletKind::Posttrans, "<lua>"),
                scriptlet(ScriptletKind::Trigger, "/bin/sh"),
            ],
        };
        let (to_run, skipped) = part("rootfs install", vec![app.clone()], true);
        assert_eq!(to_run[0].scriptlets, app.scriptlets[..1]);
        let of = |skipped: &[SkippedScriptlets]| -> Vec<String> {
            let skipped = skipped.iter();
            skipped.map(|s| s.scriptlets.join(" ")).collect()
        };
        assert_eq!(of(&skipped), ["%post %posttrans", "%trigger"]);

        let (to_run, skipped) = part("rootfs install", vec![app], false);
        assert!(to_run.is_empty());
        assert_eq!(of(&skipped), ["%pre %post %posttrans %trigger"]);
        assert_eq!(skipped[0].reason, "--no-scripts");
    }
}
