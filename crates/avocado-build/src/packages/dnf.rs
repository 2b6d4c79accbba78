//! dnf and rpm: the configuration and the argument vectors that make them work on a tree of
//! ours, whatever the build host is.

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Component, Path, PathBuf};

use avocado_backend::{Tool, ToolError};
use avocado_events::{Event, Sink};
use avocado_fs::{FileLock, LockPlace};
use avocado_project::PackageHeaders;

use crate::architecture::Architectures;
use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::packages::dnf_output::{failure, feed_moved, transaction_step};
use crate::packages::feed::FeedAccess;
use crate::packages::feed_repositories;
use crate::packages::indexes::Indexes;
use crate::packages::installed;
use crate::packages::lost;
use crate::packages::repository::{DOLLAR, RepositoryAccess, SecretDirectory, write_secret};
use crate::scriptlets::{self, PackageScriptlets};
use crate::trees::Tree;

/// Where later steps find rpm's database in a tree.
pub(crate) const DATABASE: &str = "var/lib/rpm";

/// The repository that every feed has, and that has the package with the descriptions of the others.
const OWN_REPOSITORY: &str =
    "[avocado-sdk]\nname=Avocado SDK\nbaseurl=${repo_url}/$releasever/sdk/all\nenabled=1\n";

/// Where rpm's database goes in the end.
pub(crate) enum DatabasePlace {
    /// Where it belongs in the tree.
    Tree,
    /// Beside the tree, until [`put_database`].
    Aside(PathBuf),
}

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

/// dnf for one tree.
pub(crate) struct Dnf<'a> {
    root: &'a Path,
    /// Beside the tree: configuration, and what rpm and dnf take for the user's home.
    home: PathBuf,
    options: Vec<OsString>,
    /// In the tree: where rpm has its database until [`Dnf::finish`]. Its name is new each time, so
    /// that no package can bring a file for it: what is installed is asked of it.
    database: PathBuf,
    /// The cache of metadata and packages that all trees share.
    cache: PathBuf,
    /// Where its configuration is, if there is something secret in it.
    secrets: Option<SecretDirectory>,
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
            _ => Architectures::of_sdk(),
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
            secrets,
        })
    }

    /// Asks one repository alone.
    pub(crate) fn only_from(mut self, repository: &str) -> Self {
        self.options.push(format!("--repo={repository}").into());
        self
    }

    /// The names of what a package that is installed provides.
    pub(crate) fn provided_by(
        &self,
        package: &str,
        sink: &dyn Sink,
    ) -> Result<Vec<String>, BuildError> {
        let query = self.tool("rpm").arg("--root").arg(self.root);
        let text = query.args(["-q", "--provides", package]).read(sink)?;
        let names = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// The versions that the feed has of a package, as `version-release`.
    pub(crate) fn versions_of(
        &self,
        package: &str,
        sink: &dyn Sink,
    ) -> Result<Vec<String>, BuildError> {
        let query = ["--quiet", "--qf", "%{version}-%{release}", package];
        let text = self.with_cache(|| self.dnf("repoquery").args(query).read(sink))?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// In the tree: where rpm has its database for now.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// Waits until no other step uses the shared cache. dnf has locks of its own for that, but
    /// they hold process numbers, which mean nothing to a step in another process namespace, or
    /// after its dnf was killed.
    fn lock_cache(&self) -> Result<FileLock, BuildError> {
        let path = crate::trees::hidden(&self.cache, ".lock");
        let lock = LockPlace::file(&path).lock()?;
        for entry in fs::read_dir(&self.cache).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with("_lock.pid") {
                crate::trees::clear(&entry.path())?;
            }
        }
        Ok(lock)
    }

    fn tool(&self, name: &str) -> Tool {
        Tool::new(name).env("HOME", &self.home)
    }

    pub(super) fn dnf(&self, command: &str) -> Tool {
        self.tool("dnf").args(&self.options).arg(command)
    }

    /// Removes what dnf leaves in a tree beside the packages. Their database stays: it says what
    /// is installed.
    pub(crate) fn finish(self, place: &DatabasePlace) -> Result<(), BuildError> {
        let Dnf {
            root,
            home,
            database,
            secrets,
            ..
        } = self;
        drop(secrets);
        crate::trees::clear(&home)?;
        let root = Tree::open(root)?;
        if root.has(&database) {
            let from = root.resolve(&database)?;
            match place {
                DatabasePlace::Tree => put_database(&root, &from)?,
                DatabasePlace::Aside(place) => {
                    crate::trees::clear(place)?;
                    fs::rename(&from, place).at("rename", &from)?;
                }
            }
        }
        for path in ["var/cache/dnf", "var/lib/dnf", "etc/dnf/modules.d"] {
            root.clear(path)?;
        }
        for name in root.names("var/log").unwrap_or_default() {
            let text = name.to_string_lossy();
            if text.starts_with("dnf") || text == "hawkey.log" {
                root.clear(Path::new("var/log").join(&name))?;
            }
        }
        // Directories that only these were in. Those with anything else in them stay.
        for path in ["var/cache", "var/log", "etc/dnf", "etc"] {
            root.remove_if_empty(path);
        }
        Ok(())
    }

    /// The scriptlets of everything that is installed in the tree.
    pub(crate) fn scriptlets(&self, sink: &dyn Sink) -> Result<Vec<PackageScriptlets>, BuildError> {
        if !Tree::open(self.root)?.is_directory(&self.database) {
            return Ok(Vec::new());
        }
        let tool = self.tool("rpm").arg("--root").arg(self.root);
        let text = tool
            .args(["-qa", "--qf", scriptlets::QUERY])
            .read_text(sink)?;
        scriptlets::parse(&text)
    }

    /// Installs `specs`; nothing to install is fine.
    pub(crate) fn install(&self, specs: &[String], sink: &dyn Sink) -> Result<(), BuildError> {
        if specs.is_empty() {
            return Ok(());
        }
        let counted = |event: Event| {
            if let Some((package, done, total)) = transaction_step(&event.message) {
                sink.emit(Event::items("", package, done, Some(total)));
            }
            sink.emit(event);
        };
        self.with_cache(|| self.dnf("install").args(specs).run(&counted))
    }

    /// Asks dnf what a user asks: the status, which is one of `answered`, and standard output.
    pub(crate) fn query(
        &self,
        arguments: &[String],
        answered: &[i32],
        sink: &dyn Sink,
    ) -> Result<(i32, String), BuildError> {
        let tool = || self.tool("dnf").args(&self.options).args(arguments);
        self.with_cache(|| tool().answer(answered, sink))
    }

    /// Asks dnf something while no other step uses the cache, in which it finds no index that is
    /// not as a dnf that succeeded left it.
    pub(super) fn with_cache<T>(
        &self,
        ask: impl Fn() -> Result<T, ToolError>,
    ) -> Result<T, BuildError> {
        let _lock = self.lock_cache()?;
        let indexes = Indexes::of(&self.cache);
        indexes.drop_damaged()?;
        let answer = match ask() {
            // The head of a feed may move on between its index and the packages. Nothing of them
            // is installed before all are here, so the new index can be asked.
            Err(error) if feed_moved(&error) => {
                indexes.forget()?;
                ask()
            }
            answer => answer,
        };
        let answer = answer.map_err(failure)?;
        indexes.record()?;
        Ok(answer)
    }

    /// Everything that is installed in the tree, by name.
    pub(crate) fn installed(&self, sink: &dyn Sink) -> Result<PackageHeaders, BuildError> {
        if !Tree::open(self.root)?.is_directory(&self.database) {
            return Ok(PackageHeaders::new());
        }
        let text = self
            .tool("rpm")
            .arg("--root")
            .arg(self.root)
            .args(["-qa", "--qf", installed::QUERY])
            .read(sink)?;
        installed::parse(&text)
    }

    /// What there is to tell of the files of `packages`, which are installed in the tree: what of
    /// them no image holds.
    pub(crate) fn lost_owners(
        &self,
        packages: &PackageHeaders,
        sink: &dyn Sink,
    ) -> Result<Option<String>, BuildError> {
        if packages.is_empty() {
            return Ok(None);
        }
        let tool = self.tool("rpm").arg("--root").arg(self.root);
        let text = tool.args(["-qa", "--qf", lost::QUERY]).read(sink)?;
        Ok(lost::told(&text, packages))
    }

    /// Leaves packages out of everything that follows.
    pub(crate) fn exclude(&mut self, patterns: impl Iterator<Item = String>) {
        let options = patterns.map(|pattern| format!("--exclude={pattern}").into());
        self.options.extend(options);
    }
}

/// Puts rpm's database, which is at `from`, where it belongs in a tree.
pub(crate) fn put_database(root: &Tree, from: &Path) -> Result<(), BuildError> {
    root.clear(DATABASE)?;
    root.make_directories(DATABASE)?;
    let to = root.resolve(DATABASE)?;
    fs::rename(from, &to).at("rename", from)
}

fn write(path: &Path, text: &str) -> Result<(), BuildError> {
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
fn seen_from(root: &Path, directory: &Path) -> PathBuf {
    let common = root.components().zip(directory.components());
    let common = common.take_while(|(a, b)| a == b).count();
    let mut path = PathBuf::from("/");
    path.extend(root.components().skip(common).map(|_| Component::ParentDir));
    path.extend(directory.components().skip(common));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> FeedAccess {
        FeedAccess {
            url: "http://feed".into(),
            releasever: "2024/edge".into(),
            ca: None,
            tls_verify: true,
            credentials: None,
            repositories: Vec::new(),
            cached: false,
            signing_keys: None,
            dnf_args: vec!["--nobest".into()],
        }
    }

    fn layout(state: &Path) -> Layout {
        let layout = Layout::new(state, &"t".parse().unwrap());
        let vars = layout.target_repoconf().join("etc/dnf/vars");
        fs::create_dir_all(&vars).unwrap();
        fs::write(vars.join("arch"), "core2_64:noarch\n").unwrap();
        layout
    }

    #[test]
    fn the_cache_is_reached_from_every_tree() {
        for (root, cache, seen) in [
            ("/s/t/.rootfs.new", "/s/t/.work/c", "/../.work/c"),
            ("/s/t/.work/e/.a.new", "/s/t/.work/c", "/../../c"),
            ("/a/b", "/c", "/../../c"),
            ("/a", "/a/c", "/c"),
        ] {
            let found = seen_from(Path::new(root), Path::new(cache));
            assert_eq!(found, Path::new(seen), "{root} {cache}");
        }
    }

    #[test]
    fn each_view_has_its_repositories_and_architectures() {
        let state = tempfile::tempdir().unwrap();
        let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
        let home = state.path().join("t/.tree.dnf");
        let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
        let line = |key: &str| {
            let conf = read("dnf.conf");
            let lines = conf.lines().filter_map(|line| line.split_once('='));
            let mut values = lines.filter(|(k, _)| *k == key).map(|(_, v)| v.to_owned());
            values.next()
        };
        let (own, target) = (
            home.join("repos").display().to_string(),
            layout.target_repoconf().join("etc/yum.repos.d"),
        );
        let target = target.display().to_string();
        for (view, repositories, arch, lowest_layer) in [
            (
                RepositoryView::Bootstrap,
                own.clone(),
                "avocado_nativesdk",
                true,
            ),
            (
                RepositoryView::Sdk,
                format!("{own},{target}"),
                "avocado_nativesdk",
                false,
            ),
            (RepositoryView::Target, target.clone(), "core2_64", false),
            (
                RepositoryView::Includes,
                format!("{own},{target}"),
                "core2_64",
                true,
            ),
        ] {
            let dnf = Dnf::new(&layout, &access(), view, &root, false).unwrap();
            assert_eq!(line("reposdir"), Some(repositories), "{view:?}");
            assert_eq!(line("cachedir").unwrap(), "/../.work/dnf-cache");
            assert_eq!(line("install_weak_deps").unwrap(), "0");
            assert_eq!((line("sslverify"), line("sslcacert")), (None, None));
            assert!(read("vars/arch").contains(arch), "{view:?}");
            assert_eq!(read("vars/repo_url"), "http://feed");
            let words = dnf.dnf("install").command_line();
            let has = |word: &str| words.iter().any(|w| w == word);
            assert_eq!(has("--disablerepo=*-target-ext"), !lowest_layer, "{view:?}");
            assert!(
                has("--releasever=2024/edge") && has("--nobest"),
                "{words:?}"
            );
        }
        let access = FeedAccess {
            ca: Some("/ca.pem".into()),
            tls_verify: false,
            cached: true,
            ..access()
        };
        let dnf = Dnf::new(&layout, &access, RepositoryView::Target, &root, true).unwrap();
        let words = dnf.dnf("repoquery").command_line();
        assert!(words.iter().any(|word| word == "--cacheonly"), "{words:?}");
        assert_eq!(line("sslcacert").unwrap(), "/ca.pem");
        assert_eq!(line("sslverify").unwrap(), "0");
        assert_eq!(line("install_weak_deps").unwrap(), "1");
    }

    #[test]
    fn who_asks_stands_in_files_that_go_with_dnf() {
        use crate::packages::repository::AccessCredentials;
        let state = tempfile::tempdir().unwrap();
        let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
        let other = |name: &str, for_sdk: bool, keys: bool| {
            let keys = if keys { "\"KEYS\"" } else { "null" };
            let text = format!(
                "{{\"name\": \"{name}\", \"url\": \"https://{name}/$releasever\", \"credentials\": \
                 {{\"username\": \"me\", \"password\": \"hidden\"}}, \"for_sdk\": {for_sdk}, \
                 \"for_target\": true, \"ca\": null, \"tls_verify\": true, \"signing_keys\": {keys}, \
                 \"priority\": 5}}"
            );
            serde_json::from_str::<RepositoryAccess>(&text).unwrap()
        };
        let access = FeedAccess {
            credentials: Some(AccessCredentials {
                username: "user".into(),
                password: "pass$word".into(),
            }),
            repositories: vec![other("vendor", false, true), other("tools", true, false)],
            ..access()
        };
        let of_target = layout.target_repoconf().join("etc/yum.repos.d/t.repo");
        write(&of_target, "[t]\nbaseurl=${repo_url}/t\n").unwrap();
        let dnf = Dnf::new(&layout, &access, RepositoryView::Target, &root, true).unwrap();
        let words = dnf.dnf("install").command_line();
        let words: Vec<String> = words.iter().map(|w| w.to_string_lossy().into()).collect();
        for secret in ["hidden", "pass", "me"] {
            assert!(
                !words.iter().any(|w| w == secret || w.contains("hidden")),
                "{words:?}"
            );
        }
        let conf = Path::new(&words[2]).to_owned();
        let text = fs::read_to_string(&conf).unwrap();
        assert!(!text.contains("pass"), "{text}");
        let place = conf.parent().unwrap().to_owned();
        let of_feed = fs::read_to_string(place.join("0/t.repo")).unwrap();
        let own = "username=user\npassword=pass${avocado_dollar}word\n";
        assert_eq!(of_feed, format!("[t]\nbaseurl=${{repo_url}}/t\n{own}"));
        assert!(text.contains(&format!(",{}", place.display())), "{text}");
        let vendor = fs::read_to_string(place.join("vendor.repo")).unwrap();
        for line in [
            "baseurl=https://vendor/$releasever",
            "username=me",
            "password=hidden",
            "sslverify=1",
            "priority=5",
            "gpgcheck=1",
        ] {
            assert!(vendor.lines().any(|l| l == line), "{line}: {vendor}");
        }
        let keys = format!(
            "--setopt=vendor.gpgkey=file://{}/vendor.asc",
            place.display()
        );
        assert!(words.contains(&keys), "{words:?}");
        drop(dnf);
        assert!(!place.exists());
        // Each tree has its own, and the configuration of the feed comes from the feed alone.
        for (view, vendor, tools) in [
            (RepositoryView::Sdk, false, true),
            (RepositoryView::Includes, true, true),
            (RepositoryView::Bootstrap, false, false),
        ] {
            let dnf = Dnf::new(&layout, &access, view, &root, true).unwrap();
            let place = dnf.secrets.as_ref().unwrap().path();
            let has = |name: &str| place.join(name).exists();
            assert_eq!(
                (has("vendor.repo"), has("tools.repo")),
                (vendor, tools),
                "{view:?}"
            );
        }
    }

    #[test]
    fn dnf_leaves_no_trace_but_the_database() {
        let state = tempfile::tempdir().unwrap();
        let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
        let dnf = Dnf::new(&layout, &access(), RepositoryView::Target, &root, false).unwrap();
        for file in [
            "var/lib/rpm/rpmdb.sqlite",
            "var/lib/dnf/history.sqlite",
            "var/log/dnf.log",
            "var/log/dnf.rpm.log",
            "var/log/hawkey.log",
            "var/cache/app/kept",
            "etc/dnf/modules.d/m",
        ] {
            write(&root.join(file), "").unwrap();
        }
        dnf.finish(&DatabasePlace::Tree).unwrap();
        let walk = walkdir::WalkDir::new(&root).sort_by_file_name();
        let left = walk.into_iter().map(|entry| entry.unwrap());
        let left = left.filter(|entry| entry.depth() > 0 && !entry.path().is_symlink());
        let left: Vec<String> = left
            .map(|e| e.path().strip_prefix(&root).unwrap().display().to_string())
            .collect();
        assert_eq!(
            left,
            [
                "var",
                "var/cache",
                "var/cache/app",
                "var/cache/app/kept",
                "var/lib",
                "var/lib/rpm",
                "var/lib/rpm/rpmdb.sqlite",
            ]
        );
        assert!(!state.path().join("t/.tree.dnf").exists());
        assert!(layout.dnf_cache().is_dir());
    }

    #[test]
    fn locks_of_a_dnf_that_is_gone_are_removed() {
        let state = tempfile::tempdir().unwrap();
        let (layout, root) = (layout(state.path()), state.path().join("t/tree"));
        let dnf = Dnf::new(&layout, &access(), RepositoryView::Target, &root, false).unwrap();
        let stale = layout.dnf_cache().join("download_lock.pid");
        fs::write(&stale, "123").unwrap();
        fs::write(layout.dnf_cache().join("a.solv"), "").unwrap();
        let _lock = dnf.lock_cache().unwrap();
        assert!(!stale.exists());
        assert!(layout.dnf_cache().join("a.solv").exists());
    }
}
