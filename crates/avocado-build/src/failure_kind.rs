use std::io;

use avocado_backend::ToolError;

/// What kind of failure a build ended with, where there is something that a user can do about it.
/// A step fails in another process, and what it says there is for people; by this the program that
/// shows it chooses what to advise. Tools have no codes for most of it, so their words may lead here
/// and no further: what a step does next hangs on facts, never on a kind that words have chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The file system that something was written to is full.
    StorageFull,
    /// The feed has no package, or not the version, that is asked for.
    PackageNotFound,
    /// The feed has none of the kernels that the project wants.
    KernelNotFound,
    /// The feed has a locked package with other contents.
    PackageChanged,
    /// A package is not what it says of itself.
    PackageDamaged,
    /// A package has no signature, or one of a key that the project does not name.
    PackageSignature,
    /// The feed cannot be reached, or does not answer as a feed does.
    FeedUnreachable,
    /// The feed does not have what its index says that it has.
    FeedChanged,
    /// Nothing was to be requested, and something is not there.
    NotInCache,
    /// The pinned snapshot is no longer in the feed.
    SnapshotGone,
    /// The image writer of this host cannot compress as the project asks for.
    CompressionUnsupported,
    /// A result of an earlier step is no longer what that step made.
    ResultChanged,
    /// The repository was published with another signing key.
    OtherSigningKey,
    /// The signing key is not in the registry.
    SigningKeyMissing,
    /// The host lets this user make no namespace to run steps in.
    NamespaceRefused,
    /// The container engine does not do what it is asked.
    ContainerEngine,
    /// This machine does not run programs for the processor that the SDK is for.
    NotEmulated,
    /// A container cannot do it, and the host can.
    NotInContainer,
    /// A script of the project names an interpreter that cannot be started.
    InterpreterMissing,
    /// A tool cannot be started.
    ToolMissing,
    /// This user cannot make the image of the var partition with this host's tools.
    VarImageNeedsRoot,
    /// A git repository wants to know who asks, or does not let them in.
    SourceRefused,
    /// A git repository cannot be reached, or does not have what is asked for.
    SourceUnreachable,
    /// A registry of container images does not give one.
    ContainerRegistry,
    /// A git repository no longer has the commit that the lock has.
    CommitGone,
    /// The package of an extension is for other targets.
    OtherTarget,
    /// A scriptlet of a package failed.
    ScriptletFailed,
    /// There is no connection to the machine that steps are to run on.
    RemoteUnreachable,
    /// The user on that machine is not root.
    RemoteNotRoot,
    /// That machine cannot do it.
    NotOnRemote,
    /// The project cannot be exported over NFS.
    NotExported,
    /// That machine does not reach the project over NFS.
    ShareUnreachable,
    /// Something is not in the project.
    NotShared,
}

impl FailureKind {
    const ALL: [(FailureKind, &str); 33] = [
        (FailureKind::StorageFull, "storage_full"),
        (FailureKind::PackageNotFound, "package_not_found"),
        (FailureKind::KernelNotFound, "kernel_not_found"),
        (FailureKind::PackageChanged, "package_changed"),
        (FailureKind::PackageDamaged, "package_damaged"),
        (FailureKind::PackageSignature, "package_signature"),
        (FailureKind::FeedUnreachable, "feed_unreachable"),
        (FailureKind::FeedChanged, "feed_changed"),
        (FailureKind::NotInCache, "not_in_cache"),
        (FailureKind::SnapshotGone, "snapshot_gone"),
        (
            FailureKind::CompressionUnsupported,
            "compression_unsupported",
        ),
        (FailureKind::ResultChanged, "result_changed"),
        (FailureKind::OtherSigningKey, "other_signing_key"),
        (FailureKind::SigningKeyMissing, "signing_key_missing"),
        (FailureKind::NamespaceRefused, "namespace_refused"),
        (FailureKind::ContainerEngine, "container_engine"),
        (FailureKind::NotEmulated, "not_emulated"),
        (FailureKind::NotInContainer, "not_in_container"),
        (FailureKind::InterpreterMissing, "interpreter_missing"),
        (FailureKind::ToolMissing, "tool_missing"),
        (FailureKind::VarImageNeedsRoot, "var_image_needs_root"),
        (FailureKind::SourceRefused, "source_refused"),
        (FailureKind::SourceUnreachable, "source_unreachable"),
        (FailureKind::ContainerRegistry, "container_registry"),
        (FailureKind::CommitGone, "commit_gone"),
        (FailureKind::OtherTarget, "other_target"),
        (FailureKind::ScriptletFailed, "scriptlet_failed"),
        (FailureKind::RemoteUnreachable, "remote_unreachable"),
        (FailureKind::RemoteNotRoot, "remote_not_root"),
        (FailureKind::NotOnRemote, "not_on_remote"),
        (FailureKind::NotExported, "not_exported"),
        (FailureKind::ShareUnreachable, "share_unreachable"),
        (FailureKind::NotShared, "not_shared"),
    ];

    /// How the kind is called between processes. Names stay.
    pub fn name(self) -> &'static str {
        let mut all = FailureKind::ALL.into_iter();
        all.find(|(kind, _)| *kind == self)
            .map_or("", |(_, name)| name)
    }

    /// The kind of that name. One of another version of this program may be unknown.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let mut all = FailureKind::ALL.into_iter();
        all.find(|(_, n)| *n == name).map(|(kind, _)| kind)
    }

    pub(crate) fn of_io(error: &io::Error) -> Option<Self> {
        (error.kind() == io::ErrorKind::StorageFull).then_some(FailureKind::StorageFull)
    }

    /// What any tool's failure can be about.
    pub(crate) fn of_tool(error: &ToolError) -> Option<Self> {
        match error {
            // The script was there when it was looked at: what is missing is what its first line
            // names. Tools are started by their names.
            ToolError::Start { tool, .. } if tool.starts_with('/') => {
                Some(FailureKind::InterpreterMissing)
            }
            ToolError::Start { .. } => Some(FailureKind::ToolMissing),
            // The C library's words for the error, in the locale that steps run in. Tools have no
            // other way to pass it on.
            ToolError::Failed { .. } if error.says("No space left on device") => {
                Some(FailureKind::StorageFull)
            }
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            FailureKind::StorageFull => "free some space and run it again; finished steps are kept",
            FailureKind::PackageNotFound => {
                "check the package's name, or run `avocado update` if the feed no longer has the locked version"
            }
            FailureKind::KernelNotFound => {
                "change `kernel.version`, or run `avocado update` if a newer snapshot of the feed has it"
            }
            FailureKind::PackageChanged => {
                "the feed, or what is between it and here, changed the package under its version; find out why, and if it is meant run `avocado update`, which locks what the feed has now"
            }
            FailureKind::PackageDamaged => {
                "the feed, or what is between it and here, damaged or forged the package: run it again, and tell who runs the feed"
            }
            FailureKind::PackageSignature => {
                "`gpgkey` of `distro.repo`, or of the entry of `repos`, names the keys that may sign packages: is the right one among them? `distro.repo.gpgcheck: false` installs what of the feed nobody signed"
            }
            FailureKind::FeedUnreachable => {
                "check the network and `distro.repo.url` (or AVOCADO_REPO_URL), then run it again"
            }
            FailureKind::FeedChanged => {
                "the feed does not have what its index says, and that index was asked for once more: run it later, or tell who runs the feed; a snapshot (no AVOCADO_RELEASEVER, no `distro.repo.releasever`) never changes"
            }
            FailureKind::NotInCache => {
                "--frozen makes no request: run the same once without it, where the feed can be reached; what that fetches stays in .avocado/state"
            }
            FailureKind::SnapshotGone => {
                "run `avocado update` to move the project to the newest snapshot"
            }
            FailureKind::CompressionUnsupported => {
                "this mkfs.erofs cannot do that compression: zstd needs erofs-utils 1.8; `erofs-lz4` works with older ones"
            }
            FailureKind::ResultChanged => "remove it and run the build again",
            FailureKind::OtherSigningKey => {
                "sign with the key it was published with; to change the key, remove that directory, and know that devices trust only the old one until they are provisioned anew"
            }
            FailureKind::SigningKeyMissing => "create the key with `avocado signing-keys create`",
            FailureKind::NamespaceRefused => {
                "run it as root, or let users make namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
            }
            FailureKind::InterpreterMissing => {
                "is the interpreter in the first line of the script installed?"
            }
            FailureKind::SourceRefused => {
                "nothing is asked here: give git a credential helper, or an ssh key that needs no question"
            }
            FailureKind::SourceUnreachable => {
                "check the network, and `url` and `ref` of the source"
            }
            FailureKind::ContainerRegistry => {
                "check the network, and `image`, `tag` and `digest` of the entry; `skopeo login` or `docker login` logs in where that is needed, and `avocado update` takes what is under the tag now"
            }
            FailureKind::OtherTarget => {
                "use a version of it that is for this target, or have the extension for the others only"
            }
            FailureKind::CommitGone => {
                "run `avocado update`, which takes what the branch or the tag is now"
            }
            FailureKind::ScriptletFailed => {
                "it ran on the build host, where it may change nothing but its tree, which is in $D; tell who made the package, or install with --no-scripts, which says whose scriptlets are left out"
            }
            FailureKind::RemoteUnreachable => {
                "check the machine and the network, and run it again: it goes on from what is finished"
            }
            FailureKind::RemoteNotRoot => {
                "log in there as root, or let the user become it without a password for this: a line `USER ALL=(root) NOPASSWD: ALL` in /etc/sudoers.d"
            }
            FailureKind::NotOnRemote => {
                "run it without --runs-on, or on a Linux machine with the same processor, whose user may start programs in ~/.cache"
            }
            FailureKind::NotExported => {
                "leave --nfs-port out to take any free port of 12050 to 12099; where all are taken, `ss -ltnp` tells by what"
            }
            FailureKind::ShareUnreachable => {
                "that machine has to reach this one at the address and port above (is there a firewall?), and its kernel needs the client of NFS 4.2 (`modprobe nfsv4`)"
            }
            FailureKind::NotShared => "put it into the project, or run it without --runs-on",
            FailureKind::ContainerEngine => {
                "see that podman or docker is there and works, and that `sdk.image` is what you mean; or use `--backend host`, which needs dnf and the image writers on PATH and no container engine"
            }
            FailureKind::NotEmulated => {
                "install QEMU's emulators of programs and have them registered with binfmt_misc, which root does once: on Debian the packages qemu-user-static and binfmt-support, on Fedora qemu-user-static, anywhere `podman run --rm --privileged docker.io/tonistiigi/binfmt --install all`; from Linux 6.7 on `--backend host` needs qemu-user-static alone, and nothing registered"
            }
            FailureKind::NotInContainer => {
                "use `--backend host`, or AVOCADO_SDK=host where the command has no such option"
            }
            FailureKind::ToolMissing => {
                "install it and run this again: on this machine, where PATH leads to it, or in the image of the SDK where that is used"
            }
            FailureKind::VarImageNeedsRoot => {
                "no deployment needs it: `avocado build --no-var` leaves it out; or run it as root with `--backend host`, or let a newer btrfs-progs make it, here or in the image of the SDK: 6.12, and 6.13 where `var.compression` is stated"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_keeps_its_name_on_the_way() {
        for (kind, name) in FailureKind::ALL {
            assert_eq!(kind.name(), name);
            assert_eq!(FailureKind::from_name(name), Some(kind));
            assert!(!kind.hint().is_empty());
        }
        assert_eq!(FailureKind::from_name("of_the_future"), None);
    }

    #[test]
    fn a_tool_that_cannot_be_started_is_a_tool_or_an_interpreter() {
        let start = |tool: &str| ToolError::Start {
            tool: tool.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        };
        for (tool, kind) in [
            ("dnf", FailureKind::ToolMissing),
            ("/opt/src/hooks/install.sh", FailureKind::InterpreterMissing),
            ("/opt/includes/app/install", FailureKind::InterpreterMissing),
        ] {
            assert_eq!(FailureKind::of_tool(&start(tool)), Some(kind), "{tool}");
        }
    }
}
