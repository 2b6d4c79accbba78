//! The configuration by which dnf works on a tree of ours: in files and in options, and
//! what of it is secret in files that go with the step.

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Component, Path, PathBuf};

use super::Dnf;
use crate::architecture::Architectures;
use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::packages::feed::FeedAccess;
use crate::packages::feed_repositories;
use crate::packages::repository::{DOLLAR, RepositoryAccess, SecretDirectory, write_secret};

/// The repository that every feed has, and that has the package with the descriptions of the others.
const OWN_REPOSITORY: &str =
    "[avocado-sdk]\nname=Avocado SDK\nbaseurl=${repo_url}/$releasever/sdk/all\nenabled=1\n";

/// Which repositories dnf sees, and for which architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepositoryView {
    /// Only the repository with the target's repository configuration.
    Bootstrap,
    /// The build host's packages.
    Sdk,
    /// The target's packages.
    Target,
    /// Those, and the packages of extensions.
    Includes,
}

impl<'a> Dnf<'a> {
    /// Prepares the configuration for installing into `root`.
    pub(crate) fn new(
        layout: &Layout,
        access: &FeedAccess,
        view: RepositoryView,
        root: &'a Path,
        weak_dependencies: bool,
    ) -> Result<Self, BuildError> {
        let home = crate::trees::hidden(root, ".dnf");
        crate::trees::fresh(&home)?;
        let at = |name: &str| home.join(name);
        // The keys of a hash map are the randomness that the standard library has.
        let random = || RandomState::new().build_hasher().finish();
        let database = PathBuf::from(format!(".rpm-{:016x}{:016x}", random(), random()));
        // Whatever a host is set to, a package has the digests that it says it has: the lock goes
        // by them.
        write(
            &at(".rpmmacros"),
            &format!(
                "%_dbpath /{}\n%_pkgverify_level digest\n",
                database.display()
            ),
        )?;
        write(&at("repos/avocado-sdk.repo"), OWN_REPOSITORY)?;
        write(&at("vars/repo_url"), &access.url)?;
        let target = layout.target_repoconf();
        let architectures = match view {
            RepositoryView::Target | RepositoryView::Includes => Architectures::of_target(&target)?,
            _ => Architectures::of_sdk(layout.sdk_processor()),
        };
        write(&at("vars/arch"), &architectures.to_string())?;
        let repositories = target.join("etc/yum.repos.d");
        let others: Vec<&RepositoryAccess> = access
            .repositories
            .iter()
            .filter(|other| match view {
                RepositoryView::Bootstrap => false,
                RepositoryView::Sdk => other.for_sdk,
                RepositoryView::Target | RepositoryView::Includes => other.for_target,
            })
            .collect();
        let secrets = match (&access.credentials, &others[..]) {
            (None, []) => None,
            _ => Some(SecretDirectory::new()?),
        };
        let mut repositories = match view {
            RepositoryView::Bootstrap => vec![at("repos")],
            RepositoryView::Sdk | RepositoryView::Includes => vec![at("repos"), repositories],
            RepositoryView::Target => vec![repositories],
        };
        if let (Some(who), Some(secrets)) = (&access.credentials, &secrets) {
            for (nth, directory) in repositories.iter_mut().enumerate() {
                let with_who = secrets.path().join(nth.to_string());
                feed_repositories::write(directory, &with_who, &access.url, who)?;
                *directory = with_who;
            }
        }
        if let Some(secrets) = secrets.as_ref().filter(|_| !others.is_empty()) {
            for other in &others {
                other.write(secrets.path())?;
            }
            repositories.push(secrets.path().to_owned());
        }
        // `ignorearch`: the feed's architectures are its own, not those of the build host.
        let cache = layout.dnf_cache();
        fs::create_dir_all(&cache).at("create", &cache)?;
        let mut conf = format!(
            "[main]\ngpgcheck={}\nassumeyes=1\nplugins=0\nbest=1\nkeepcache=1\nignorearch=1\n\
             tsflags=noscripts\nskip_if_unavailable=0\nmetadata_expire=1\n\
             check_config_file_age=0\ninstall_weak_deps={}\nreposdir={}\nvarsdir={}\ncachedir={}\n",
            u8::from(access.signing_keys.is_some()),
            u8::from(weak_dependencies),
            joined(&repositories),
            joined(&[at("vars")]),
            seen_from(root, &cache).display(),
        );
        if let Some(ca) = &access.ca {
            conf += &format!("sslcacert={}\n", ca.display());
        }
        if !access.tls_verify {
            conf += "sslverify=0\n";
        }
        let conf_path = match &secrets {
            None => at("dnf.conf"),
            Some(secrets) => secrets.path().join("dnf.conf"),
        };
        if secrets.is_some() {
            write(&at("vars").join(DOLLAR), "$")?;
            write_secret(&conf_path, &conf)?;
        } else {
            write(&conf_path, &conf)?;
        }
        let mut options = vec!["-c".into(), conf_path.into(), "--installroot".into()];
        options.push(root.into());
        options.push(format!("--releasever={}", access.releasever).into());
        if access.cached {
            options.push("--cacheonly".into());
        }
        if let Some(keys) = &access.signing_keys {
            let file = at("feed-keys.asc");
            write(&file, keys)?;
            // For all repositories: those of the target come from the feed, and say what the feed
            // wants them to say.
            options.push("--setopt=*.gpgcheck=1".into());
            options.push(format!("--setopt=*.gpgkey=file://{}", file.display()).into());
        }
        if let Some(secrets) = &secrets {
            let own = others
                .iter()
                .flat_map(|other| other.options(secrets.path()));
            options.extend(own.map(OsString::from));
        }
        if matches!(view, RepositoryView::Sdk | RepositoryView::Target) {
            // The lowest layer is for fetched extensions, never for a tree's packages.
            options.push("--disablerepo=*-target-ext".into());
        }
        options.extend(access.dnf_args.iter().map(OsString::from));
        Ok(Dnf {
            root,
            home,
            options,
            database,
            cache,
            may_ask: !access.cached,
            secrets,
        })
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), BuildError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    fs::write(path, text).at("write", path)
}

fn joined(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(",")
}

/// The path of `directory` as dnf takes it from its configuration: dnf puts the tree before it, so
/// it leads out of the tree again. Otherwise each new tree would begin without a cache.
pub(super) fn seen_from(root: &Path, directory: &Path) -> PathBuf {
    let common = root.components().zip(directory.components());
    let common = common.take_while(|(a, b)| a == b).count();
    let mut path = PathBuf::from("/");
    path.extend(root.components().skip(common).map(|_| Component::ParentDir));
    path.extend(directory.components().skip(common));
    path
}
