//! A feed, overlays and hooks that mean harm to the build host: with the real package manager, as
//! root and as another user. Each attack has files of the host that its builder could change.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, ToolOutput, source_root, static_binary};
use common::{Sandbox, cannot_build, feed};
use tempfile::TempDir;

const SECRET: &str = "the-own-secret-of-the-host";

const FILES: [&str; 4] = [
    "directory/dnf/kept",
    "directory/kept",
    "keys/dev.key",
    "secret",
];

/// A project beside files of the host, and a feed with bad packages.
struct Attack {
    sandbox: Sandbox,
    host: TempDir,
    feed: SampleFeed,
    program: PathBuf,
    as_root: bool,
}

impl Attack {
    fn new(as_root: bool, specs: &str, repository: &str) -> Self {
        let sandbox = Sandbox::fresh();
        let at = |name: &str| sandbox.directory.path().join(name);
        // Temporary directories are a step's own anyway.
        let host = tempfile::Builder::new()
            .prefix("avocado-attack")
            .tempdir_in("/srv");
        let host = host.unwrap();
        for directory in ["directory/dnf", "keys", ".config", "bin"] {
            fs::create_dir_all(host.path().join(directory)).unwrap();
        }
        for file in FILES {
            fs::write(host.path().join(file), SECRET).unwrap();
        }
        let tool = host.path().join("bin/attacked-tool");
        std::os::unix::fs::symlink("/usr/bin/true", tool).unwrap();
        let specs = source_root().join("tests/feed_attacks").join(specs);
        let macros = [("host", host.path())];
        let feed = feed().with_packages(&at("feed"), &specs, repository, &macros);
        let feed = feed.unwrap();
        // The work tree may be where another user cannot look.
        let program = at("avocado");
        fs::copy(static_binary("avocado").unwrap(), &program).unwrap();
        let attack = Attack {
            sandbox,
            host,
            feed,
            program,
            as_root,
        };
        attack.give_away();
        attack
    }

    fn project(&self) -> &TestProject {
        &self.sandbox.project
    }

    /// A file of the host, whose home directory this is.
    fn host(&self, name: &str) -> PathBuf {
        self.host.path().join(name)
    }

    fn give_away(&self) {
        let owner = if self.as_root { "0:0" } else { "65534:65534" };
        let call = ToolCall::new("chown").args(["-h", "-R", owner]);
        let call = call.arg(self.sandbox.directory.path());
        call.arg(self.host.path()).ok().unwrap();
    }

    /// Runs `avocado` on a project of `yaml`.
    fn run(&self, yaml: &str, arguments: &[&str]) -> ToolOutput {
        let yaml = format!(
            "default_target: qemux86-64\ndistro: {{release: '2024', channel: edge}}\n{yaml}"
        );
        self.project().write("avocado.yaml", &yaml).unwrap();
        self.give_away();
        let call = if self.as_root {
            ToolCall::new(&self.program)
        } else {
            ToolCall::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(&self.program)
        };
        let output = call
            .args(arguments)
            .clear_env()
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", self.host("bin").display()),
            )
            .env("HOME", self.host(""))
            .env("AVOCADO_SIGNING_KEYS_DIR", self.host("keys"))
            .env("AVOCADO_REPO_URL", self.feed.url())
            .directory(self.project().directory())
            .limit(Duration::from_secs(300))
            .run()
            .unwrap();
        self.host_is_untouched(arguments);
        output
    }

    fn host_is_untouched(&self, arguments: &[&str]) {
        let list = ToolCall::new("find")
            .arg(self.host(""))
            .args(["-type", "f", "-printf", "%P %s\n"])
            .ok()
            .unwrap();
        let mut found: Vec<&str> = list.stdout.lines().collect();
        found.sort_unstable();
        let size = SECRET.len();
        let whole = FILES.map(|file| format!("{file} {size}"));
        assert_eq!(found, whole, "{arguments:?}");
    }

    /// The run fails and says why.
    fn refuses(&self, yaml: &str, arguments: &[&str], words: &[&str]) {
        let output = self.run(yaml, arguments);
        assert!(!output.status.success(), "{arguments:?} {output}");
        for word in words {
            assert!(output.stderr.contains(word), "{word}: {output}");
        }
        assert!(!output.stderr.contains(SECRET), "{output}");
    }

    fn allows(&self, yaml: &str, arguments: &[&str]) -> ToolOutput {
        let output = self.run(yaml, arguments);
        assert!(output.status.success(), "{arguments:?} {output}");
        output
    }

    /// Nothing that was built has a secret in it.
    fn state_knows_no_secret(&self) {
        let call = ToolCall::new("grep").args(["-r", "-l", "-a", "-D", "skip", SECRET]);
        let found = call.arg(self.project().directory()).run().unwrap();
        assert_eq!(found.stdout, "");
    }
}

fn extension(packages: &str, rest: &str) -> String {
    format!(
        "extensions:\n  app: {{version: 1.0.0, types: [sysext], packages: {{{packages}}}{rest}}}\n\
         runtimes: {{dev: {{extensions: [app]}}}}\n"
    )
}

fn rootfs(packages: &str, rest: &str) -> String {
    format!(
        "rootfs: {{filesystem: erofs, packages: {{{packages}}}{rest}}}\n\
         permissions: {{dev: {{users: {{app: {{uid: 77}}}}}}}}\n\
         runtimes: {{dev: {{}}}}\n"
    )
}

fn packages_mean_harm(as_root: bool) {
    let attack = Attack::new(as_root, "target", "target/qemux86-64");

    let yaml = rootfs("bad-temporaries: '*'", ", permissions: dev");
    attack.allows(&yaml, &["rootfs", "image"]);
    let yaml = rootfs("bad-shadow: '*'", ", permissions: dev");
    attack.refuses(&yaml, &["rootfs", "image"], &["etc/shadow", "is a link to"]);
    let yaml = rootfs("kernel-image-6.66.0: '*'", "");
    attack.refuses(&yaml, &["rootfs", "image"], &["boot/vmlinuz-6.66.0"]);

    let yaml = extension("bad-release: '*'", "");
    attack.refuses(&yaml, &["ext", "build"], &["usr/lib/extension-release.d"]);
    let yaml = extension("bad-links: '*'", ", enable_services: [bad.service]");
    attack.refuses(&yaml, &["ext", "build"], &["bad.target.wants"]);
    let yaml = extension("bad-cache: '*'", "");
    attack.run(&yaml, &["ext", "build"]);
    let yaml = extension("bad-var: '*'", ", var_files: [var/lib/bad]");
    attack.allows(&yaml, &["ext", "image"]);
    attack.state_knows_no_secret();

    // What an overlay of the project brings is no more to be trusted than that.
    let project = attack.project();
    let link = |path: &str, to: &Path| {
        let path = project.directory().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, path).unwrap();
    };
    link("lib/usr/lib", &attack.host("directory"));
    let yaml = extension("", ", overlay: lib");
    attack.refuses(&yaml, &["ext", "build"], &["usr/lib", "overlay `lib`"]);
    link("etc/etc", &attack.host("directory"));
    let yaml = rootfs("bad-temporaries: '*'", ", overlay: etc, permissions: dev");
    attack.refuses(&yaml, &["rootfs", "image"], &["/etc", "overlay `etc`"]);
    attack.state_knows_no_secret();
}

/// The scriptlet tries everything and says what it got.
fn a_scriptlet_means_harm(as_root: bool) {
    let attack = Attack::new(as_root, "target", "target/qemux86-64");
    let yaml = rootfs("bad-scriptlet: '*'", "");
    let output = attack.allows(&yaml, &["rootfs", "install", "--verbose"]);
    let said = attack.project().state();
    let said = said.join("rootfs/usr/share/bad-scriptlet/said");
    let said = fs::read_to_string(said).unwrap();
    assert_eq!(said, "done\n", "{output}");
    let yaml = extension("bad-scriptlet: '*'", "");
    attack.allows(&yaml, &["ext", "install"]);
    attack.state_knows_no_secret();
}

#[test]
fn a_scriptlet_means_harm_to_root() {
    if !cannot_build("a_scriptlet_means_harm_to_root") {
        a_scriptlet_means_harm(true);
    }
}

#[test]
fn a_scriptlet_means_harm_to_a_user() {
    if !cannot_build("a_scriptlet_means_harm_to_a_user") {
        a_scriptlet_means_harm(false);
    }
}

#[test]
fn packages_mean_harm_to_root() {
    if !cannot_build("packages_mean_harm_to_root") {
        packages_mean_harm(true);
    }
}

#[test]
fn packages_mean_harm_to_a_user() {
    if !cannot_build("packages_mean_harm_to_a_user") {
        packages_mean_harm(false);
    }
}

#[test]
fn no_file_of_the_host_becomes_part_of_a_url() {
    if cannot_build("no_file_of_the_host_becomes_part_of_a_url") {
        return;
    }
    for as_root in [true, false] {
        let attack = Attack::new(as_root, "sdk", "sdk/all");
        let words = ["target-repoconf/etc/dnf/vars/arch"];
        attack.refuses(&extension("hello: '*'", ""), &["ext", "build"], &words);
        let asked = attack.feed.server().requests();
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|request| !request.path.contains(SECRET)));
    }
}

/// The hook tries everything and says what it got.
#[test]
fn a_hook_reads_no_key_and_changes_nothing_else() {
    if cannot_build("a_hook_reads_no_key_and_changes_nothing_else") {
        return;
    }
    for as_root in [true, false] {
        let attack = Attack::new(as_root, "target", "target/qemux86-64");
        let hook = source_root().join("tests/feed_attacks/hook");
        fs::copy(hook, attack.project().directory().join("hook")).unwrap();
        let host = attack.host("");
        attack
            .project()
            .write("host-directory", &host.display().to_string())
            .unwrap();
        let yaml = extension("", ", post_build: hook");
        let output = attack.allows(&yaml, &["ext", "build", "--verbose"]);
        let said = fs::read_to_string(attack.project().directory().join("said"));
        assert_eq!(said.unwrap(), "done\n", "as root: {as_root} {output}");
        for place in ["/tmp", "/var/tmp", "/run", "/usr", "/etc"] {
            assert!(!Path::new(place).join("avocado-attack").exists(), "{place}");
        }
    }
}
