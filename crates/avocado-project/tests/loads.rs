//! What projects resolve to.

mod common;

use avocado_project::{Filesystem, OverlayMode, Project};
use common::Site;

fn project(site: &Site, yaml: &str) -> Project {
    match site.load(yaml) {
        Ok(loaded) => loaded.project,
        Err(error) => panic!("{error}\n{yaml}"),
    }
}

/// The project as text, without the path of its directory.
fn show(site: &Site, project: &Project) -> String {
    let dir = site.dir.path().display().to_string();
    let text = serde_json::to_string_pretty(project).unwrap();
    text.replace(&dir, "[dir]")
}

#[test]
fn an_empty_project_has_its_defaults() {
    let site = Site::new();
    for yaml in [
        "",
        "{}",
        "# nothing\n",
        "sdk:\nextensions:\nruntimes: ~\nrootfs:\n",
    ] {
        insta::allow_duplicates! {
            insta::assert_snapshot!("empty", show(&site, &project(&site, yaml)));
        }
    }
}

#[test]
fn everything() {
    let site = Site::new().env("KEY_ID", "abc").env("EPOCH", "1700000000");
    let yaml = r#"
cli_requirement: ">=0.41.0"
source_date_epoch: "{{ env.EPOCH }}"
default_target: raspberrypi4
default_target_board: board
default_runtime: dev
supported_targets: [raspberrypi4, qemux86-64]
distro:
  release: 2024
  channel: edge
  repo: {url: "https://feed.example.org/", ca: ca.pem, tls_verify: false}
signing_keys:
  - dev-key: "{{ env.KEY_ID }}"
sdk:
  image: "docker.io/avocadolinux/sdk:{{ config.distro.release }}"
  packages: {avocado-sdk-toolchain: "*"}
  disable_weak_dependencies: true
permissions:
  dev:
    users:
      root: {password: ""}
      pi: {uid: 1000, gid: 1000, groups: [dialout], home: /srv/pi, shell: /bin/bash, gecos: A User, password: "$6$x", expire_date: 20000}
    groups:
      dialout:
      docker: 999
      wheel: {gid: 10, members: [pi]}
rootfs:
  packages: {avocado-pkg-rootfs: "1.2-r0", extra: {version: 2.0}}
  filesystem: erofs-zst
  overlay: overlay
  post_install: hook.sh
  permissions: dev
initramfs:
  small:
    filesystem: cpio.lz4
    permissions: {users: [{name: root, password: x}], groups: [video]}
common: &common
  enable_services: [app.service]
  var_files: [var/lib/app/**, /var/cache/app/]
extensions:
  app:
    <<: *common
    version: 0.1.0
    types: [sysext]
    packages: {app: , lib: {version: 1.0}}
    overlay: {dir: ./overlay/, mode: opaque}
    on_merge: [systemctl restart app]
    on_unmerge: "echo 'bye'"
    modprobe: [loop]
    reload_service_manager: true
    scopes: [system, initrd]
    confext_scopes: [portable]
    post_build: ./hook.sh
    target-qemux86-64: {version: 0.2.0, packages: {qemu-guest: "*"}}
    target-raspberrypi4: {packages: {firmware: "*"}}
  "bsp-{{ avocado.target.board }}": {version: 1.2.3-rc.1+b, filesystem: erofs}
runtimes:
  dev:
    target: qemux86-64
    version: "{{ avocado.extensions.app.version }}-{{ avocado.runtime }}"
    extensions:
      - app
      - bsp-board: {enabled: false}
    packages: {avocado-runtime: "*"}
    var_files: [{source: overlay/seed, dest: lib/app}]
    signing: {key: dev-key}
    post_build: hook.sh
  other:
    target: raspberrypi4
    extensions: [does-not-exist-here]
  inline:
    rootfs: {filesystem: squashfs}
    initramfs: small
"#;
    insta::assert_snapshot!(show(&site, &project(&site, yaml)));
    let warnings = site.load(yaml).unwrap().warnings;
    let warnings: Vec<&str> = warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(warnings, ["unknown key `common`; it is ignored"]);
}

#[test]
fn the_target_comes_from_the_command_line_then_the_environment_then_the_file() {
    let yaml = "default_target: from-file\n";
    let site = Site::new()
        .target(Some("from-cli"))
        .env("AVOCADO_TARGET", "from-env");
    assert_eq!(project(&site, yaml).target.as_str(), "from-cli");
    let site = site.target(None);
    assert_eq!(project(&site, yaml).target.as_str(), "from-env");
    let site = site.env("AVOCADO_TARGET", "");
    assert_eq!(project(&site, yaml).target.as_str(), "from-file");
    let site = site.env("T", "from-template");
    let yaml = "default_target: \"{{ env.T }}\"\nsdk: {image: \"{{ avocado.target }}\"}\n";
    let project = project(&site, yaml);
    assert_eq!(project.target.as_str(), "from-template");
    assert_eq!(project.sdk.image.as_deref(), Some("from-template"));
}

#[test]
fn the_feed_comes_from_the_environment_then_distro_then_sdk() {
    let url = |site: &Site, yaml| project(site, yaml).distro.repo_url;
    let site = Site::new();
    assert_eq!(url(&site, ""), "https://repo.avocadolinux.org");
    assert_eq!(url(&site, "sdk: {repo_url: http://sdk/}"), "http://sdk");
    let both = "sdk: {repo_url: http://sdk}\ndistro: {repo: {url: http://distro//}}";
    assert_eq!(url(&site, both), "http://distro");
    let site = site.env("AVOCADO_SDK_REPO_URL", "http://old-env");
    assert_eq!(url(&site, both), "http://old-env");
    let site = site.env("AVOCADO_REPO_URL", "http://127.0.0.1:8000/feed");
    assert_eq!(url(&site, both), "http://127.0.0.1:8000/feed");
}

#[test]
fn the_release_comes_from_the_environment_then_the_file() {
    let yaml = "distro: {version: 2024, channel: edge, repo: {releasever: 2024/edge/snapshots/1}}\n\
                sdk: {repo_release: old, image: \"{{ avocado.distro.release }}-{{ avocado.distro.channel }}\"}\n";
    let site = Site::new();
    let found = project(&site, yaml);
    assert_eq!(found.distro.release.as_deref(), Some("2024"));
    assert_eq!(
        found.distro.releasever.as_deref(),
        Some("2024/edge/snapshots/1")
    );
    assert_eq!(found.sdk.image.as_deref(), Some("2024-edge"));
    let site = site
        .env("AVOCADO_DISTRO_RELEASE", "2025")
        .env("AVOCADO_DISTRO_CHANNEL", "stable")
        .env("AVOCADO_SDK_REPO_RELEASE", "x/y");
    let found = project(&site, yaml);
    assert_eq!(found.distro.release.as_deref(), Some("2025"));
    assert_eq!(found.distro.channel.as_deref(), Some("stable"));
    assert_eq!(found.distro.releasever.as_deref(), Some("x/y"));
    assert_eq!(found.sdk.image.as_deref(), Some("2025-stable"));
    let site = site.env("AVOCADO_RELEASEVER", "z");
    assert_eq!(project(&site, yaml).distro.releasever.as_deref(), Some("z"));
}

#[test]
fn a_stated_key_is_one_to_check_with() {
    let site = Site::new();
    let key = |repo: &str| {
        project(&site, &format!("distro: {{repo: {repo}}}"))
            .distro
            .gpg_key
    };
    let file = Some(site.dir.path().join("ca.pem"));
    assert_eq!(key("{}"), None);
    assert_eq!(key("{gpgcheck: false}"), None);
    assert_eq!(key("{gpgkey: ca.pem}"), file);
    assert_eq!(key("{gpgkey: ca.pem, gpgcheck: true}"), file);
    assert_eq!(key("{gpgkey: ca.pem, gpgcheck: false}"), None);
}

#[test]
fn the_certificate_of_the_feed() {
    let site = Site::new();
    let strict = "distro: {repo: {ca: ca.pem}}";
    let found = project(&site, strict).distro;
    assert_eq!(found.ca, Some(site.dir.path().join("ca.pem")));
    assert!(found.tls_verify);
    assert!(
        !project(&site, "distro: {repo: {tls_verify: false}}")
            .distro
            .tls_verify
    );
    for (value, insecure) in [
        ("1", true),
        ("true", true),
        ("YES", true),
        ("0", false),
        ("", false),
    ] {
        let site = Site::new().env("AVOCADO_REPO_INSECURE", value);
        assert_eq!(
            project(&site, strict).distro.tls_verify,
            !insecure,
            "{value}"
        );
    }
    let other = site.dir.path().join("hook.sh");
    let site = site.env("AVOCADO_REPO_CA", other.to_str().unwrap());
    assert_eq!(project(&site, strict).distro.ca, Some(other));
}

#[test]
fn a_runtime_is_made_up_where_the_file_states_an_os_only() {
    let site = Site::new();
    let names = |yaml| -> Vec<String> {
        let found = project(&site, yaml);
        found.runtimes.iter().map(|r| r.name.to_string()).collect()
    };
    assert_eq!(
        names("default_target: qemux86-64\nrootfs: {}\n"),
        ["default"]
    );
    assert_eq!(
        names("default_target: qemux86-64\nkernel: {package: k}\n"),
        ["default"]
    );
    assert_eq!(names("default_target: qemux86-64\n"), [""; 0]);
    assert_eq!(names("rootfs: {}\n"), [""; 0]);
    assert_eq!(
        names("default_target: qemux86-64\nrootfs: {}\nruntime: {dev: {}}\n"),
        ["dev"]
    );
}

#[test]
fn a_sole_image_is_the_default_one() {
    let site = Site::new();
    let found = project(
        &site,
        "rootfs: {os: {}}\ninitramfs: {a: {}, default: {}}\nruntimes: {dev: {}}\n",
    );
    assert_eq!(found.runtimes[0].rootfs.as_str(), "os");
    assert_eq!(found.runtimes[0].initramfs.as_str(), "default");
    assert_eq!(found.rootfs.len(), 1);
}

#[test]
fn a_template_in_one_place_serves_keys_overrides_and_numbers() {
    let site = Site::new()
        .env("N", "7")
        .env("ON", "true")
        .env("NOTHING", "");
    let found = project(
        &site,
        r#"
extensions:
  "{{ config.names.app }}":
    version: "1.{{ env.N }}.0"
    reload_service_manager: "{{ env.ON }}"
    "target-{{ avocado.target }}": {filesystem: erofs}
permissions: {users: {root: {uid: "{{ env.N }}", password: "{{ env.NOTHING }}"}}}
rootfs: {permissions: default}
names: {app: "{{ config.names.real }}", real: my-app}
"#,
    );
    let extension = &found.extensions[0];
    assert_eq!(extension.name.as_str(), "my-app");
    assert_eq!(extension.version.known().unwrap().as_str(), "1.7.0");
    assert!(extension.reload_service_manager);
    assert_eq!(extension.filesystem, Filesystem::Erofs);
    let user = &found.rootfs[0].1.permissions.as_ref().unwrap().users[0];
    assert_eq!(user.uid, Some(7));
    // Empty text is text: a password that is not needed, not one that is locked.
    assert_eq!(user.password.as_deref(), Some(""));
}

#[test]
fn a_password_in_the_clear_is_told() {
    let site = Site::new();
    let warnings = |password: &str| {
        let yaml = format!("permissions: {{users: {{root: {{password: '{password}'}}}}}}\n");
        let warnings = site.load(&yaml).unwrap().warnings;
        warnings.into_iter().map(|w| w.message).collect::<Vec<_>>()
    };
    for hash in [
        "",
        "*",
        "!",
        "!$6$salt$hash",
        "$6$salt$hash",
        "$y$j9T$salt$hash",
        "abJnggxhB/yWI",
        "_J9..K0AyUubDrfOgO4s",
    ] {
        assert_eq!(warnings(hash), [""; 0], "{hash}");
    }
    for clear in ["secret", "1234", "a longer sentence", "$money"] {
        let told = "this is no hash of a password: nobody can log in with it";
        assert_eq!(warnings(clear), [told], "{clear}");
    }
}

#[test]
fn the_source_directory_may_be_elsewhere() {
    let site = Site::new();
    std::fs::create_dir_all(site.dir.path().join("src/files")).unwrap();
    let found = project(
        &site,
        "src_dir: ./src\nextensions: {a: {version: 0.1.0, overlay: files}}\n",
    );
    assert_eq!(found.src_dir, site.dir.path().join("src"));
    assert_eq!(found.config_path, site.config());
    let overlay = found.extensions[0].overlay.as_ref().unwrap();
    assert_eq!(overlay.dir.to_str(), Some("files"));
    assert_eq!(overlay.mode, OverlayMode::Merge);
}

/// Where it stands in the feed is asked of those who install.
#[test]
fn a_project_without_a_feed_can_be_read() {
    let said = |yaml: &str, site: &Site| {
        let loaded = site.load(yaml).unwrap();
        let found = loaded.project.distro.unusable;
        let found = found.iter().map(|d| (d.line, d.column, d.message.clone()));
        found.collect::<Vec<_>>()
    };
    let site = Site::new();
    let unstated = |key: &str| format!("nothing can be installed: `distro.{key}` is not stated");
    assert_eq!(
        said("sdk: {}\n", &site),
        [(0, 0, unstated("release")), (0, 0, unstated("channel"))]
    );
    assert_eq!(
        said("distro: {release: 2024}\n", &site),
        [(1, 9, unstated("channel"))]
    );
    let stated = Site::new().env("AVOCADO_RELEASEVER", "2024/edge");
    assert_eq!(said("sdk: {}\n", &stated), []);
}

#[test]
fn two_versions_of_a_package_of_the_sdk_are_told() {
    let site = Site::new();
    let yaml = "
sdk: {packages: {make: '4.0', tool: '*'}}
extensions:
  a: {version: 1.0.0, sdk: {packages: {tool: '1.0', make: '*'}}}
  b: {version: 1.0.0, sdk: {packages: {tool: '1.0'}}}
  c: {version: 1.0.0, sdk: {packages: {tool: '2.0', make: '4.1'}}}
";
    let loaded = site.load(yaml).unwrap();
    let told = loaded
        .warnings
        .iter()
        .map(|d| (d.line, d.column, &*d.message));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (
                6,
                46,
                "the extension `c` wants `tool` in the version 2.0, and the extension `a` wants 1.0"
            ),
            (
                6,
                59,
                "the extension `c` wants `make` in the version 4.1, and `sdk.packages` wants 4.0"
            ),
        ]
    );
    let packages = loaded.project.sdk_packages();
    assert_eq!(packages.template()["tool"], "1.0");
    assert_eq!(packages.template()["make"], "4.0");
}
