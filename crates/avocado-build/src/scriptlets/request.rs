//! Running scriptlets, in a job that sees nothing but their tree and the SDK.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use avocado_backend::{MountAccess, Tool};
use avocado_events::Event;
use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};

use super::commands::{self, CommandSettings};
use super::{PackageScriptlets, Scriptlet, ScriptletKind};
use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::step_context::StepContext;
use crate::step_request::{StepRequest, StepView};
use crate::trees::{self, CopyModes, Tree};

/// Where a job has the commands that answer scriptlets, and what these leave. It ends with the job.
const PLACE: &str = "/tmp/avocado-scriptlets";

/// Directories of programs that not every user has on PATH.
const SYSTEM_DIRECTORIES: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/// What the published tool has its shims in, where an SDK brings them.
const PUBLISHED_SHIMS: &str = "ext-rpm-config-scripts";

/// Files that say which users there are, lent to a tree that has none for as long as its scriptlets
/// run: they ask whether a user is there. Each with its text, which is empty for one that the rootfs
/// does not have either.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BorrowedAccounts(Vec<(PathBuf, String)>);

const ACCOUNT_FILES: [(&str, u32); 4] = [
    ("etc/passwd", 0o644),
    ("etc/group", 0o644),
    ("etc/shadow", 0o640),
    ("etc/gshadow", 0o640),
];

impl BorrowedAccounts {
    /// Lends to `tree` what it does not have of the rootfs.
    pub(crate) fn lend(rootfs: &Tree, tree: &Tree) -> Result<Self, BuildError> {
        let mut lent = Vec::new();
        for (file, mode) in ACCOUNT_FILES {
            if tree.has(file) {
                continue;
            }
            let text = rootfs.read(file)?;
            if let Some(text) = &text {
                tree.write(file, text, mode)?;
            }
            lent.push((PathBuf::from(file), text.unwrap_or_default()));
        }
        Ok(BorrowedAccounts(lent))
    }

    /// Takes them away again. Answers what scriptlets did to them.
    fn take_back(&self, tree: &Tree) -> Result<AccountChanges, BuildError> {
        let mut changes = AccountChanges::default();
        for (file, before) in &self.0 {
            let now = tree.read(file)?.unwrap_or_default();
            let lines = |text| -> BTreeSet<&str> { str::lines(text).collect() };
            let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
            let (before, now) = (lines(before), lines(&now));
            let known: BTreeSet<String> = before.iter().copied().map(name).collect();
            let differ = before.symmetric_difference(&now).copied().map(name);
            for name in differ.filter(|name| !name.is_empty()) {
                if known.contains(&name) {
                    changes.changed.insert(name);
                } else {
                    changes.added.insert(name);
                }
            }
            tree.clear(file)?;
        }
        tree.remove_if_empty("etc");
        let AccountChanges { added, changed } = &mut changes;
        changed.retain(|name| !added.contains(name));
        Ok(changes)
    }
}

/// The users and groups that scriptlets add to lent accounts, and whom of them they change or remove.
#[derive(Debug, Default, PartialEq, Eq)]
struct AccountChanges {
    added: BTreeSet<String>,
    changed: BTreeSet<String>,
}

impl AccountChanges {
    /// What there is to tell of them.
    fn told(&self) -> impl Iterator<Item = String> {
        let added = self.added.iter().map(|name| ("add", name, "bring"));
        let changed = self.changed.iter().map(|name| ("change", name, "do"));
        added.chain(changed).map(|(done, name, cannot)| {
            format!(
                "scriptlets {done} the user or group `{name}`, which an extension cannot {cannot}: name \
                 it in `permissions` of the rootfs, or in sysusers.d of the extension"
            )
        })
    }
}

/// The scriptlets of one tree.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ScriptletsRequest {
    /// The tree, below the state of the target.
    pub(crate) tree: PathBuf,
    pub(crate) packages: Vec<PackageScriptlets>,
    /// It is a whole system: its services can be enabled. An extension says itself which it enables.
    pub(crate) is_system: bool,
    pub(crate) accounts: BorrowedAccounts,
}

/// What scriptlets made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ScriptletsResult {
    /// Of the whole tree.
    pub(crate) digest: Digest,
}

impl StepRequest for ScriptletsRequest {
    const KIND: &'static str = "scriptlets";
    type Result = ScriptletsResult;

    fn runs_programs(&self) -> bool {
        true
    }

    fn view(&self, layout: &Layout) -> StepView {
        let sdk = layout.sdk();
        let sdk = sdk.strip_prefix(layout.prefix()).unwrap_or(&sdk).to_owned();
        StepView::Parts(vec![
            (self.tree.clone(), MountAccess::Write),
            (sdk, MountAccess::Read),
        ])
    }

    fn work(self, context: &StepContext<'_>) -> Result<ScriptletsResult, BuildError> {
        let root = context.layout.prefix().join(&self.tree);
        let tree = Tree::open(&root)?;
        let place = ScriptletPlace::new(context, &root, &self)?;
        for (package, scriptlet) in in_order(&self.packages) {
            let ended = place.run(scriptlet, context);
            let told = ended.and_then(|()| commands::take_notes(&place.settings.notes));
            let told = told.map_err(|source| BuildError::Scriptlet {
                package: package.to_owned(),
                scriptlet: scriptlet.kind.as_str(),
                source: Box::new(source),
            })?;
            let of = format!("{} of package {package}", scriptlet.kind.as_str());
            for told in told {
                let warning = Event::warning(format!("{of}: {told}"));
                context.sink.emit(warning);
            }
        }
        for told in self.accounts.take_back(&tree)?.told() {
            context.sink.emit(Event::warning(told));
        }
        Ok(ScriptletsResult {
            digest: trees::digest(&root, CopyModes::Keep)?,
        })
    }
}

/// As rpm has them: before all packages, for each package, after all.
fn in_order(packages: &[PackageScriptlets]) -> impl Iterator<Item = (&str, &Scriptlet)> {
    let of = |kinds: &'static [ScriptletKind]| {
        packages.iter().flat_map(move |package| {
            let scriptlets = package.scriptlets.iter();
            let scriptlets = scriptlets.filter(move |s| kinds.contains(&s.kind));
            scriptlets.map(|scriptlet| (package.package.as_str(), scriptlet))
        })
    };
    of(&[ScriptletKind::Pretrans])
        .chain(of(&[ScriptletKind::Pre, ScriptletKind::Post]))
        .chain(of(&[ScriptletKind::Posttrans]))
}

/// What a scriptlet finds around it.
struct ScriptletPlace {
    settings: CommandSettings,
    search_path: OsString,
    /// The directory of the published shims, where the SDK has them.
    shims: Option<PathBuf>,
    repositories: PathBuf,
}

impl ScriptletPlace {
    fn new(
        context: &StepContext<'_>,
        root: &Path,
        request: &ScriptletsRequest,
    ) -> Result<Self, BuildError> {
        let place = Path::new(PLACE);
        trees::fresh(place)?;
        let layout = &context.layout;
        let shims = published_shims(layout);
        let outer = std::env::split_paths(&context.search_path);
        let system = std::env::split_paths(SYSTEM_DIRECTORIES);
        let outer = join(outer.chain(system))?;
        let settings = CommandSettings {
            root: root.to_owned(),
            epoch: context.epoch,
            is_system: request.is_system,
            notes: place.join("notes"),
            search_path: outer.clone(),
        };
        let own = commands::install(&settings, &place.join("bin"))?;
        let first = shims.iter().map(|shims| shims.join("bin")).chain([own]);
        Ok(ScriptletPlace {
            search_path: join(first.chain(std::env::split_paths(&outer)))?.into(),
            settings,
            shims,
            repositories: layout.target_repoconf(),
        })
    }

    fn run(&self, scriptlet: &Scriptlet, context: &StepContext<'_>) -> Result<(), BuildError> {
        let root = &self.settings.root;
        let Some((program, arguments)) = scriptlet.program.split_first() else {
            return Ok(());
        };
        let mut tool = Tool::new(self.program(program)).args(arguments);
        if !scriptlet.text.is_empty() {
            // Through a file, as rpm does it, and with the count of its package's installations.
            let file = Path::new(PLACE).join("scriptlet");
            let mut options = fs::OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o700);
            let written = options
                .open(&file)
                .and_then(|mut f| std::io::Write::write_all(&mut f, scriptlet.text.as_bytes()));
            written.at("write", &file)?;
            tool = tool.arg(file).arg("1");
        }
        let tool = tool
            .called(program)
            .current_dir("/")
            .env("PATH", &self.search_path)
            .env("HOME", "/tmp")
            .env("SOURCE_DATE_EPOCH", context.epoch.to_string())
            .env("OPT", "--opt")
            .env("INTERCEPT_DIR", Path::new(PLACE).join("bin"))
            .env("RPM_NO_CHROOT_FOR_SCRIPTS", "1")
            .env("RPM_ETCCONFIGDIR", &self.repositories)
            // Where an emulated program of the tree finds its libraries, until it has the tree as its root
            // directory: for QEMU alone.
            .env("QEMU_LD_PREFIX", root)
            .env("AVOCADO_EXT_INSTALLROOT", root);
        let roots = [
            "D",
            "OFFLINE_ROOT",
            "OPKG_OFFLINE_ROOT",
            "IPKG_OFFLINE_ROOT",
        ];
        let mut tool = roots.iter().fold(tool, |tool, name| tool.env(name, root));
        if self.settings.is_system {
            tool = tool.env("AVOCADO_SYSROOT_SCRIPTS", "1");
        }
        if let Some(shims) = &self.shims {
            tool = tool.env("RPM_CONFIGDIR", shims);
        }
        Ok(tool.run(context.sink)?)
    }

    /// A program that we have an answer for, as `%post -p /sbin/ldconfig` names one, is that answer.
    fn program(&self, program: &str) -> PathBuf {
        let path = Path::new(program);
        let own = path.file_name().filter(|name| commands::has(name));
        match own {
            Some(name) => Path::new(PLACE).join("bin").join(name),
            None => path.to_owned(),
        }
    }
}

/// What the published tool answers scriptlets with, where the SDK brings it.
pub(crate) fn published_shims(layout: &Layout) -> Option<PathBuf> {
    let shims = layout.sdk().join(PUBLISHED_SHIMS);
    shims.join("bin").is_dir().then_some(shims)
}

fn join(paths: impl Iterator<Item = PathBuf>) -> Result<String, BuildError> {
    let joined = std::env::join_paths(paths)
        .map_err(|e| BuildError::Invalid(format!("PATH cannot be used for scriptlets: {e}")))?;
    Ok(joined.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scriptlets_run_in_the_order_of_rpm() {
        let package = |name: &str, kinds: &[ScriptletKind]| PackageScriptlets {
            package: name.to_owned(),
            order: 0,
            scriptlets: kinds
                .iter()
                .map(|kind| Scriptlet {
                    kind: *kind,
                    program: Vec::new(),
                    text: String::new(),
                    has_macros: false,
                })
                .collect(),
        };
        use ScriptletKind::{Post, Posttrans, Pre, Pretrans};
        let packages = [
            package("a", &[Pre, Post, Posttrans]),
            package("b", &[Pretrans, Pre, Post]),
        ];
        let order: Vec<String> = in_order(&packages)
            .map(|(package, scriptlet)| format!("{}{}", package, scriptlet.kind.as_str()))
            .collect();
        assert_eq!(
            order,
            [
                "b%pretrans",
                "a%pre",
                "a%post",
                "b%pre",
                "b%post",
                "a%posttrans"
            ]
        );
    }

    #[test]
    fn accounts_are_lent_and_taken_back() {
        let place = tempfile::tempdir().unwrap();
        let tree = |name: &str| Tree::fresh(&place.path().join(name)).unwrap();
        let (rootfs, extension) = (tree("rootfs"), tree("extension"));
        rootfs.write("etc/passwd", "root:x:0:\n", 0o644).unwrap();
        let groups = "root:x:0:\naudio:x:29:\nold:x:3:\n";
        rootfs.write("etc/group", groups, 0o644).unwrap();
        let lent = BorrowedAccounts::lend(&rootfs, &extension).unwrap();
        let passwd = extension.read("etc/passwd").unwrap().unwrap();
        let more = format!("{passwd}app:x:9:9::/:/bin/sh\n\n");
        extension.write("etc/passwd", more, 0o644).unwrap();
        let members = "root:x:0:\naudio:x:29:app\napp:x:9:\n";
        extension.write("etc/group", members, 0o644).unwrap();
        let told: Vec<String> = lent.take_back(&extension).unwrap().told().collect();
        let told: Vec<&str> = told
            .iter()
            .filter_map(|text| text.split_once(": ").map(|(what, _)| what))
            .collect();
        assert_eq!(
            told,
            [
                "scriptlets add the user or group `app`, which an extension cannot bring",
                "scriptlets change the user or group `audio`, which an extension cannot do",
                "scriptlets change the user or group `old`, which an extension cannot do",
            ]
        );
        assert!(!extension.has("etc"));
    }

    #[test]
    fn accounts_of_the_tree_itself_are_not_lent() {
        let place = tempfile::tempdir().unwrap();
        let tree = |name: &str| Tree::fresh(&place.path().join(name)).unwrap();
        let (rootfs, extension) = (tree("rootfs"), tree("extension"));
        for (of, text) in [(&rootfs, "root:x:0:\n"), (&extension, "own:x:1:\n")] {
            of.write("etc/group", text, 0o644).unwrap();
        }
        let lent = BorrowedAccounts::lend(&rootfs, &extension).unwrap();
        extension.write("etc/group", "mine:x:1:\n", 0o644).unwrap();
        let changes = lent.take_back(&extension).unwrap();
        assert_eq!(changes, AccountChanges::default());
        assert!(extension.has("etc/group"));
    }
}
