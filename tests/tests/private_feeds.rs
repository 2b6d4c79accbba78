//! Feeds that do not answer everybody: with a CA of their own, and with a password that is shown
//! nowhere.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use avocado_serve::{ServeOptions, TlsIdentity};
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::tools::{TestNeed, ToolCall, ToolOutput, skip_without, source_root};
use common::authority::authority;
use common::{Sandbox, cannot_build, feed};

/// What dnf would take for a variable of its own is in it as well.
const FEED_PASSWORD: &str = "s3cret$releasever-feed";
const VENDOR_PASSWORD: &str = "s3cret:@/%41${releasever}$arch-vendor";

fn serve(root: &Path, tls: &TlsIdentity, password: &str) -> SampleFeed {
    SampleFeed::serve(ServeOptions {
        tls: Some(tls.clone()),
        token: Some(password.to_owned()),
        ..ServeOptions::new(root)
    })
    .unwrap()
}

/// A repository with a package and an extension, for whoever paid for them. Where it is.
fn vendor(place: &Path) -> PathBuf {
    let home = place.join("build");
    fs::create_dir_all(&home).unwrap();
    let repository = place.join("vendor/2024");
    fs::create_dir_all(&repository).unwrap();
    for name in ["vendor-tool", "vendor-ext"] {
        let spec = format!("tests/private_feeds/{name}.spec");
        ToolCall::new("rpmbuild")
            .args(["-bb", "--quiet", "--target", "noarch-avocado-linux"])
            .args(["--define", "_arch noarch", "--define"])
            .arg(format!("_topdir {}", home.display()))
            .env("HOME", &home)
            .arg(source_root().join(spec))
            .ok()
            .unwrap();
        let package = format!("{name}-1.0.0-r0.noarch.rpm");
        let built = walkdir::WalkDir::new(home.join("RPMS")).into_iter();
        let mut built = built.map(|entry| entry.unwrap().into_path());
        let built = built.find(|path| path.ends_with(&package));
        fs::copy(built.unwrap(), repository.join(package)).unwrap();
    }
    index(&repository);
    repository
}

fn index(repository: &Path) {
    ToolCall::new("createrepo_c")
        .args(["-q", "--no-database", "--general-compress-type=gz"])
        .arg(repository)
        .ok()
        .unwrap();
}

/// Signs the packages of a repository with a new key, and returns its public half.
fn sign(repository: &Path, owner: &str, place: &Path) -> String {
    let home = place.join(owner);
    fs::create_dir(&home).unwrap();
    let gpg = || {
        ToolCall::new("gpg")
            .arg("--batch")
            .arg("--homedir")
            .arg(&home)
    };
    let create = [
        "--passphrase",
        "",
        "--quick-generate-key",
        owner,
        "rsa2048",
        "sign",
    ];
    gpg().args(create).ok().unwrap();
    for entry in fs::read_dir(repository).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rpm") {
            ToolCall::new("rpmsign")
                .arg(format!("--define=_gpg_path {}", home.display()))
                .arg(format!("--define=_gpg_name {owner}"))
                // Debian's rpm looks for it under another name.
                .arg("--define=__gpg /usr/bin/gpg")
                .arg("--addsign")
                .arg(path)
                .ok()
                .unwrap();
        }
    }
    index(repository);
    let exported = gpg().args(["--armor", "--export", owner]).ok();
    let end = ToolCall::new("gpgconf").arg("--homedir").arg(&home);
    end.args(["--kill", "all"]).ok().unwrap();
    exported.unwrap().stdout
}

/// Neither password, in clear or as it would be in a URL.
fn shows_no_secret(text: &[u8], whose: &str) {
    for secret in ["s3cret", "czNjcmV0"] {
        let mut windows = text.windows(secret.len());
        let found = windows.any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is in {whose}");
    }
}

#[test]
fn feeds_that_ask_who_one_is_are_used_and_tell_nobody() {
    if cannot_build("feeds_that_ask_who_one_is_are_used_and_tell_nobody") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let place = sandbox.directory.path();
    vendor(place);
    let ((ca, tls), (other_ca, _)) = (authority(), authority());
    let (vendor_ca, vendor_tls) = authority();
    for (name, pem) in [("ca", ca), ("other", other_ca), ("hello/vendor", vendor_ca)] {
        fs::write(place.join(name).with_extension("pem"), pem).unwrap();
    }
    let main = serve(feed().directory(), &tls, FEED_PASSWORD);
    let vendor = serve(&place.join("vendor"), &vendor_tls, VENDOR_PASSWORD);
    let yaml = format!(
        "default_target: qemux86-64
distro:
  release: '2024'
  channel: edge
  repo: {{url: '{}', username: me, password: \"{{{{ env.FEED_PASSWORD }}}}\"}}
repos:
  vendor:
    url: '{}/2024'
    username: me
    password: \"{{{{ env.VENDOR_PASSWORD }}}}\"
    ca: vendor.pem
rootfs: {{packages: {{libgreeting: '*'}}}}
initramfs: {{packages: {{libgreeting: '*'}}}}
extensions:
  app: {{version: 1.0.0, packages: {{hello: '*', vendor-tool: '*'}}}}
runtimes:
  dev: {{extensions: [app]}}
",
        main.url(),
        vendor.url()
    );
    let bin = place.join("bin");
    fs::create_dir(&bin).unwrap();
    let logged = source_root().join("tests/private_feeds/logged-dnf");
    fs::copy(logged, bin.join("dnf")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let project = sandbox.project.clone();
    project.write("avocado.yaml", &yaml).unwrap();
    fs::remove_file(project.directory().join("avocado.lock")).unwrap();
    let project = project
        // What the file says of who asks is for the URL that it states.
        .with_env("AVOCADO_REPO_URL", "")
        .with_env("AVOCADO_REPO_CA", place.join("ca.pem"))
        .with_env("FEED_PASSWORD", FEED_PASSWORD)
        .with_env("VENDOR_PASSWORD", VENDOR_PASSWORD)
        .with_env("AVOCADO_LOG", "trace")
        .with_env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()));
    let said = |output: &ToolOutput| {
        shows_no_secret(output.stdout.as_bytes(), "stdout");
        shows_no_secret(output.stderr.as_bytes(), "stderr");
    };
    let fails = |project: &avocado_testbed::project::TestProject| {
        let output = project.avocado(&["install", "-vv"]).run().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output}");
        said(&output);
        output.stderr
    };

    // Another CA, another password of the feed, and another one of the vendor.
    let wrong = project.clone();
    let error = fails(&wrong.with_env("AVOCADO_REPO_CA", place.join("other.pem")));
    assert!(error.contains(&main.url()), "{error}");
    let wrong = project.clone().with_env("FEED_PASSWORD", "s3cret-other");
    let error = fails(&wrong);
    assert!(error.contains("status 401"), "{error}");
    let wrong = project.clone().with_env("VENDOR_PASSWORD", "s3cret-other");
    let error = fails(&wrong);
    assert!(
        error.contains("vendor") && error.contains("Status code: 401"),
        "{error}"
    );

    let output = project.avocado(&["install", "-vv"]).ok().unwrap();
    said(&output);
    let app = project.state().join(".work/extensions/app/usr");
    assert!(app.join("share/vendor-tool").is_file() && app.join("bin/hello-server").is_file());
    let shown = ["config", "show", "--detail", "--output", "json"];
    said(&project.avocado(&shown).ok().unwrap());
    // The arguments of dnf, the lock, the stamps, the logs, the cache.
    let seen = fs::read_to_string(project.state().join("seen-of-dnf")).unwrap();
    assert!(seen.contains("install\n"), "{seen}");
    for entry in walkdir::WalkDir::new(project.directory()) {
        let entry = entry.unwrap();
        shows_no_secret(entry.path().as_os_str().as_encoded_bytes(), "a name");
        if entry.file_type().is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            shows_no_secret(&bytes, &entry.path().display().to_string());
        }
    }

    // With nothing to do, and where the URL itself says who asks.
    let escaped = FEED_PASSWORD.replace('$', "%24");
    let url = main.url().replace("://", &format!("://me:{escaped}@"));
    let unknown = project.clone().with_env("FEED_PASSWORD", "");
    let events = unknown.events(&["install"]).unwrap();
    assert_eq!(events.complete()["ran"], 0);
    let own = format!(
        "  repo: {{url: '{}', username: me, password: \"{{{{ env.FEED_PASSWORD }}}}\"}}\n",
        main.url()
    );
    assert!(yaml.contains(&own));
    let with_password = yaml;
    let without = with_password.replace(&own, "");
    project.write("avocado.yaml", &without).unwrap();
    let by_url = project.clone().with_env("AVOCADO_REPO_URL", url);
    let events = by_url.events(&["install"]).unwrap();
    assert_eq!(events.complete()["ran"], 0);
    let output = by_url.avocado(&["install", "--no-stamps", "-vv"]);
    said(&output.ok().unwrap());

    // Who asks is wanted where somebody is asked.
    project.write("avocado.yaml", &with_password).unwrap();
    let output = unknown.avocado(&["install", "--no-stamps"]).run().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains("is the variable set"), "{output}");
}

#[test]
fn packages_of_a_repository_beside_the_feed_are_signed_by_its_key_or_refused() {
    const NAME: &str = "packages_of_a_repository_beside_the_feed_are_signed_by_its_key_or_refused";
    let needs = ["gpg", "gpgconf", "rpmsign"].map(TestNeed::Tool);
    if cannot_build(NAME) || skip_without(NAME, &needs) {
        return;
    }
    let sandbox = Sandbox::fresh();
    let (place, project) = (sandbox.directory.path(), &sandbox.project);
    let repository = vendor(place);
    let server = SampleFeed::serve(ServeOptions::new(place.join("vendor"))).unwrap();
    let yaml = format!(
        "default_target: qemux86-64
distro: {{release: '2024', channel: edge}}
repos:
  vendor: {{url: '{}/2024', gpgkey: vendor.asc}}
rootfs: {{packages: {{libgreeting: '*'}}}}
initramfs: {{packages: {{libgreeting: '*'}}}}
extensions:
  # What the feed has is not signed, and need not be.
  app: {{version: 1.0.0, packages: {{hello: '*', vendor-tool: '*'}}}}
  vendor-ext: {{source: {{type: package, version: '*', repo_name: vendor}}}}
runtimes:
  dev: {{extensions: [app, vendor-ext]}}
",
        server.url()
    );
    project.write("avocado.yaml", &yaml).unwrap();
    fs::remove_file(project.directory().join("avocado.lock")).unwrap();
    let stranger = sign(&repository, "stranger", place);
    project.write("vendor.asc", &stranger).unwrap();
    project.avocado(&["fetch"]).ok().unwrap();
    let fetched = project.state().join("includes/vendor-ext");
    assert!(fetched.join("avocado.yaml").is_file());

    // Whom the project trusts is another one now, and then nobody signed.
    let own = sign(&repository, "vendor-key", place);
    project.write("vendor.asc", &own).unwrap();
    let refused = |what: &[&str]| {
        fs::remove_dir_all(project.directory().join(".avocado")).unwrap();
        let _ = fs::remove_file(project.directory().join("avocado.lock"));
        let output = project.avocado(what).run().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(output.stderr.contains("`gpgkey`"), "{output}");
        assert!(!fetched.exists());
    };
    for package in ["vendor-tool", "vendor-ext"] {
        let path = repository.join(format!("{package}-1.0.0-r0.noarch.rpm"));
        let signed = fs::read(&path).unwrap();
        ToolCall::new("rpmsign")
            .arg("--delsign")
            .arg(&path)
            .ok()
            .unwrap();
        index(&repository);
        let what: &[&str] = if package == "vendor-ext" {
            &["fetch"]
        } else {
            &["install", "-e", "app"]
        };
        refused(what);
        fs::write(&path, signed).unwrap();
        index(&repository);
    }
    project.write("vendor.asc", &stranger).unwrap();
    refused(&["fetch"]);

    project.write("vendor.asc", &own).unwrap();
    project.avocado(&["install"]).ok().unwrap();
    assert!(fetched.join("avocado.yaml").is_file());
    let app = project.state().join(".work/extensions/app/usr");
    assert!(app.join("share/vendor-tool").is_file() && app.join("bin/hello-server").is_file());
}
