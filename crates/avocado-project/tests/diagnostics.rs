//! What is said about projects that are wrong: the message, its place, its hint.

mod common;

use common::{Site, table};

#[test]
fn yaml() {
    let deep = "[".repeat(100_000);
    let cases = [
        ("syntax", "a: 1\nb: c: d\n"),
        ("open bracket", "default_target: [a, b\nsdk: {}\n"),
        ("open quote", "default_target: \"abc\n"),
        ("tab", "distro:\n\trelease: 2024\n"),
        (
            "key twice",
            "distro:\n  release: 2024\n  channel: edge\n  release: 2025\n",
        ),
        ("two documents", "distro: {}\n---\nsdk: {}\n"),
        ("not a map", "- a\n- b\n"),
        ("only text", "hello\n"),
        (
            "template without quotes",
            "sdk:\n  image: {{ config.distro.release }}\n",
        ),
        (
            "template at the start of text",
            "sdk:\n  image: {{ env.X }}:2024\n",
        ),
        ("map as a key", "? {a: 1}\n: b\n"),
        ("unknown alias", "sdk: *nothing\n"),
        ("alias of itself", "sdk: &x {packages: *x}\n"),
        ("tag", "sdk: !include sdk.yaml\n"),
        ("merge of text", "sdk:\n  <<: text\n"),
        ("empty key", "sdk:\n  : 1\n"),
        ("umlauts before", "sdk: {image: \"äöü\", packages: [x]}\n"),
        ("deep", deep.as_str()),
    ];
    insta::assert_snapshot!(table(&Site::new(), &cases));
}

#[test]
fn templates() {
    let cases = [
        (
            "unclosed",
            "sdk:\n  image: \"sdk:{{ config.distro.release\"\n",
        ),
        (
            "unclosed in a block",
            "extensions:\n  app:\n    version: 0.1.0\n    on_merge:\n      - |\n        one\n        two {{ env.X\n",
        ),
        (
            "second is unclosed",
            "sdk: {image: \"{{ avocado.target }}-{{ x\"}\n",
        ),
        (
            "unclosed in a key",
            "extensions:\n  \"app-{{ env.X\": {version: 0.1.0}\n",
        ),
        (
            "missing path",
            "distro: {release: 2024}\nsdk: {image: \"x:{{ config.distro.relase }}\"}\n",
        ),
        (
            "two missing paths in one text",
            "sdk: {image: \"{{ config.a }}{{ config.b }}\"}\n",
        ),
        (
            "path to a map",
            "distro: {release: 2024}\nsdk: {image: \"{{ config.distro }}\"}\n",
        ),
        (
            "path to nothing",
            "distro: {release: }\nsdk: {image: \"{{ config.distro.release }}\"}\n",
        ),
        (
            "circular",
            "distro:\n  release: \"{{ config.distro.channel }}\"\n  channel: \"{{ config.sdk.image }}\"\nsdk: {image: \"{{ config.distro.release }}\"}\n",
        ),
        ("itself", "sdk: {image: \"{{ config.sdk.image }}\"}\n"),
        (
            "unset variable",
            "sdk: {image: \"sdk:{{ env.NOT_SET }}\"}\n",
        ),
        (
            "unknown namespace",
            "sdk: {image: \"{{ confg.a }} {{ .Names }}\"}\n",
        ),
        ("unknown avocado", "sdk: {image: \"{{ avocado.taget }}\"}\n"),
        (
            "kernel version stays",
            "sdk: {packages: {\"kernel-{{ avocado.kernel.version }}\": \"*\"}}\n",
        ),
        (
            "keys that become one",
            "extensions:\n  app-qemux86-64: {version: 0.1.0}\n  \"app-{{ avocado.target }}\": {version: 0.1.0}\n",
        ),
    ];
    insta::assert_snapshot!(table(&Site::new(), &cases));
}

#[test]
fn keys_and_types() {
    let cases = [
        (
            "unknown keys",
            "defalt_target: x\nextensions:\n  app:\n    version: 0.1.0\n    pakages: {curl: '*'}\n    banana: {a: {b: c}}\n",
        ),
        (
            "known keys without a meaning yet",
            "connect: {org: o}\nprovision_profiles: {p: {container_args: [x]}}\nkernel: {package: k}\nextensions:\n  app:\n    version: 0.1.0\n    docker_images: [{image: a, tag: b}]\n    subvolumes: {a: {nodatacow: true, compression: lzo}}\n    stone_include_paths: [a]\n    summary: s\nruntimes:\n  dev: {stone_manifest: x, var: {compression: zstd}, target_board: b, container_dev: {}}\nsdk: {container_args: [--privileged], host_uid: 1, compile: {x: {compile: x}}}\n",
        ),
        (
            "wrong types",
            "source_date_epoch: yesterday\nsupported_targets: 5\nsigning_keys: {a: b}\nextensions:\n  app:\n    version: [1]\n    types: sysext\n    packages: [curl]\n    reload_service_manager: yes\n    enable_services: {a: b}\n    filesystem: {}\nruntimes: text\nsdk: [a]\ndistro: {repo: {tls_verify: 0}}\n",
        ),
        ("quoted number", "source_date_epoch: \"0\"\n"),
        ("negative number", "source_date_epoch: -1\n"),
        (
            "large numbers",
            "source_date_epoch: 99999999999999999999\npermissions: {users: {root: {uid: 4294967296}}}\n",
        ),
        (
            "both names",
            "extensions:\n  app: {version: 0.1.0, packages: {a: '*'}, dependencies: {b: '*'}}\nruntimes: {}\nruntime: {}\n",
        ),
        (
            "section is a list",
            "extensions: [app]\nrootfs: [a]\npermissions: x\n",
        ),
    ];
    insta::assert_snapshot!(table(&Site::new(), &cases));
}

#[test]
fn not_yet_supported() {
    let cases = [
        (
            "extensions",
            "extensions:\n  a: {source: {type: package, version: '*'}}\n  b: {version: 0.1.0, extensions: [a]}\n  c: {version: {file: Cargo.toml}}\n  d: {version: 0.1.0, image: {type: kab}}\n  e: {version: 0.1.0, users: {root: {}}, groups: {a: {}}}\n  f: {version: 0.1.0, overlay: {dir: overlay, preprocess: true}}\n  g: {version: 0.1.0, overlay: {dir: overlay, preprocess: false}}\n",
        ),
        (
            "packages",
            "extensions:\n  a:\n    version: 0.1.0\n    packages:\n      x: {compile: x, install: x.sh}\n      y: {extensions: b, config: c}\nruntimes:\n  dev: {packages: {z: {install: x.sh}}}\n",
        ),
        (
            "kernel",
            "kernel: {compile: k, install: i}\nruntimes:\n  dev: {kernel: {compile: k}}\n  prod: {kernel: named}\n",
        ),
        (
            "images",
            "rootfs: {source: {type: path, path: ../os}}\ninitramfs: {image: {type: kab}, filesystem: cpio}\n",
        ),
        (
            "runtime",
            "runtimes:\n  dev: {type: kos, signing: {key: k, content_key: c, checksum_algorithm: blake3, server_key: s}}\n",
        ),
        (
            "kernel override",
            "rootfs: {filesystem: erofs-lz4, kernel-6.6.*: {packages: {x: '*'}}}\nextensions:\n  a: {version: 0.1.0, kernel-6.6.*: {overlay: overlay}, kernel-6 6: {packages: {}}}\n",
        ),
    ];
    insta::assert_snapshot!(table(&Site::new(), &cases));
}

#[test]
fn references_and_values() {
    let cases = [
        (
            "extension",
            "extensions: {app: {version: 0.1.0}, net: {version: 0.1.0}}\nruntimes:\n  dev:\n    extensions: [app, nett, app, {net: {enabled: false}}, {a: {}, b: {}}]\n",
        ),
        ("no extensions", "runtimes: {dev: {extensions: [app]}}\n"),
        (
            "images",
            "rootfs: {a: {}, b: {}}\ninitramfs: {small: {}}\nruntimes:\n  dev: {rootfs: c, initramfs: smal}\n  prod: {}\n",
        ),
        (
            "permissions",
            "permissions: {dev: {users: {}}}\nrootfs: {permissions: prod}\n",
        ),
        (
            "mixed",
            "rootfs:\n  filesystem: erofs-lz4\n  other: {packages: {}}\n",
        ),
        (
            "typo in an unnamed entry",
            "rootfs:\n  filesytem: erofs-lz4\n",
        ),
        (
            "typo among named entries",
            "rootfs:\n  default: {}\n  filesytem: erofs-lz4\n",
        ),
        (
            "filesystems",
            "rootfs: {filesystem: cpio}\ninitramfs: {filesystem: erofs}\nextensions: {app: {version: 0.1.0, filesystem: squahsfs}}\n",
        ),
        (
            "versions",
            "extensions:\n  a: {}\n  b: {version: \"1.0\"}\n  c: {version: 1.2.x}\n  d: {version: }\n",
        ),
        (
            "names",
            "extensions:\n  ../x: {version: 0.1.0}\nruntimes:\n  a/b: {}\nrootfs: {default: {}, ..: {}}\n",
        ),
        (
            "types",
            "extensions:\n  a: {version: 0.1.0, types: [sysex]}\n  b: {version: 0.1.0, types: []}\n",
        ),
        (
            "overlays",
            "rootfs: {overlay: ovrlay}\ninitramfs: {overlay: overlay.txt}\nextensions:\n  a: {version: 0.1.0, overlay: {dir: overlay, mode: opak}}\n  b: {version: 0.1.0, overlay: ../x}\n  c: {version: 0.1.0, overlay: {mode: merge}}\n  d: {version: 0.1.0, overlay: /etc}\n",
        ),
        (
            "scripts",
            "rootfs: {post_install: hook}\nextensions: {a: {version: 0.1.0, post_build: overlay}}\nruntimes: {dev: {post_build: hook.sh}}\n",
        ),
        (
            "var files",
            "extensions:\n  a: {version: 0.1.0, var_files: [var/../../etc, 'var/*/x', /var/lib/ok/**]}\nruntimes:\n  dev: {var_files: [{source: ../x, dest: lib/x}, {source: x, dest: /var/lib/x}, {source: x}]}\n",
        ),
        (
            "packages",
            "sdk: {packages: {--setopt=x: '*', 'a b': '*', c: '>= 1', d: '', e: }}\n",
        ),
        (
            "hooks",
            "extensions:\n  a: {version: 0.1.0, on_merge: ['', \"a\\nb\"], enable_services: ['a b.service'], modprobe: ['-x'], scopes: ['a\"b']}\n",
        ),
        (
            "users",
            "permissions:\n  users:\n    root: {shell: bash, password: 'a:b', groups: [wheel, 'a b']}\n    'x:y': {}\n    a: {name: b}\n  groups:\n    - name: g\n    - name: g\n    - h\n    - {gid: 5}\n",
        ),
        (
            "numbers and passwords of users",
            "permissions:\n  users:\n    a: {uid: 010, gid: 99O}\n    b: {password: secret}\n    c: {password: '$6$salt$hash'}\n    d: {password: '!'}\n    e: {password: ''}\n  groups:\n    gpio: 99O\n    spi: 010\n    i2c: auto\n    video: 44\n",
        ),
        ("keys", "signing_keys: [{a: k1, b: k2}, {c: k3}, {c: k4}]\n"),
        (
            "default runtime",
            "default_runtime: prd\nruntimes: {dev: {}, prod: {}}\n",
        ),
        (
            "feed",
            "distro:\n  release: ../x\n  channel: \"a b\"\n  repo: {url: feed.example.org, ca: none.pem}\n",
        ),
        (
            "signatures of the feed",
            "distro:\n  repo: {gpgcheck: true}\n",
        ),
        ("keys of the feed", "distro:\n  repo: {gpgkey: none.asc}\n"),
        ("source directory", "src_dir: nowhere\n"),
        (
            "old override",
            "supported_targets: [qemux86-64, other]\nextensions:\n  a:\n    version: 0.1.0\n    qemux86-64: {version: 0.2.0}\n    other: {version: nonsense}\n",
        ),
    ];
    insta::assert_snapshot!(table(&Site::new(), &cases));
}

#[test]
fn what_no_device_would_take() {
    let (name, pre) = ("n".repeat(100), "p".repeat(127));
    let extension = |pre: &str| format!("extensions:\n  {name}: {{version: 0.1.0-{pre}}}\n");
    let runtime = |length| format!("runtimes:\n  dev: {{version: {}}}\n", "v".repeat(length));
    let site = Site::new();
    for good in [extension(&pre), runtime(255)] {
        assert_eq!(table(&site, &[("", &good)]).matches("error").count(), 0);
    }
    let cases = [
        ("long extension", extension(&format!("{pre}p"))),
        ("long version", runtime(256)),
        (
            "one name of two",
            "extensions:\n  a: {version: 1.0.0-2.0.0}\n  b: {version: 2.0.0}\n  a-1.0.0: {version: 2.0.0}\n"
                .to_owned(),
        ),
    ];
    let cases = cases.each_ref().map(|(name, yaml)| (*name, yaml.as_str()));
    insta::assert_snapshot!(table(&site, &cases));
}

#[test]
fn targets_and_requirements() {
    let mut out = String::new();
    let none = Site::new().target(None);
    let other = Site::new().target(Some("qemux86"));
    for (name, site, yaml) in [
        ("none", &none, "sdk: {}\n"),
        ("none, some supported", &none, "supported_targets: [a, b]\n"),
        ("empty", &Site::new().target(Some("")), "sdk: {}\n"),
        ("unusable", &Site::new().target(Some("../x")), "sdk: {}\n"),
        ("unusable default", &none, "default_target: a/b\n"),
        (
            "not supported",
            &other,
            "supported_targets:\n  - qemux86-64\n  - qemuarm64\n",
        ),
        ("not a list", &other, "supported_targets: qemux86\n"),
        (
            "requirement",
            &other,
            "cli_requirement: \">=0.42.0\"\nnew_syntax: [1]\nextensions: 5\n",
        ),
        ("met", &other, "cli_requirement: \">=0.41.0, <1.0.0\"\n"),
        ("not a requirement", &other, "cli_requirement: newest\n"),
    ] {
        out.push_str(&table(site, &[(name, yaml)]));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn environment() {
    let site = Site::new()
        .env("AVOCADO_REPO_URL", "not a url")
        .env("AVOCADO_DISTRO_RELEASE", "a b")
        .env("AVOCADO_REPO_CA", "/nowhere/ca.pem");
    insta::assert_snapshot!(site.said("distro: {release: 2024}\n"));
}

#[test]
fn files() {
    let site = Site::new();
    insta::assert_snapshot!(site.said(b"a: 1\nb: \"\xff\"\n"), @r#"
    error: the file is not UTF-8 here
     --> avocado.yaml:2:5
      |
    2 | b: "
      |     ^
    "#);
    insta::assert_snapshot!(site.said("#".repeat(5 << 20)), @r"
    error: the file is larger than 4 MiB
    --> avocado.yaml
    ");
    std::fs::remove_file(site.config()).unwrap();
    let error = avocado_project::load(&avocado_project::LoadOptions {
        text: None,
        config: &site.config(),
        target: None,
        env: &|_| None,
        cli_version: "0.41.0",
    })
    .unwrap_err();
    assert!(
        matches!(error, avocado_project::ProjectError::Read { .. }),
        "{error}"
    );
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut yaml = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..20 {
        let last = format!("*a{}", n - 1);
        let list = [last.as_str(); 10].join(", ");
        yaml.push_str(&format!("a{n}: &a{n} [{list}]\n"));
    }
    let said = Site::new().said(&yaml);
    assert!(
        said.contains("error: the document is too large here"),
        "{said}"
    );
}

#[test]
fn templates_that_multiply_are_refused() {
    let mut yaml = String::from("sdk:\n  a0: xxxxxxxxxxxxxxxx\n");
    for n in 1..30 {
        let last = n - 1;
        yaml.push_str(&format!(
            "  a{n}: \"{{{{ config.sdk.a{last} }}}}{{{{ config.sdk.a{last} }}}}\"\n"
        ));
    }
    let said = Site::new().said(&yaml);
    assert!(said.contains("produce too much text"), "{said}");
}

#[test]
fn the_error_lists_its_errors() {
    let error = Site::new()
        .load("typo: 1\nextensions: {a: {}, b: {}}\n")
        .unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("avocado.yaml:2:14: the extension `a` has no `version`"),
        "{text}"
    );
    assert_eq!(error.diagnostics().len(), 3);
}

/// The device runs no shell: a quotation mark would end the value in the release file early, and
/// without it the device would run another command than the one written here.
#[test]
fn a_hook_with_a_quotation_mark_is_refused() {
    for key in ["on_merge", "on_unmerge"] {
        let said = Site::new().said(format!(
            "default_target: t\nextensions:\n  a:\n    version: 1.0.0\n    {key}: 'sh -c \"x > /y\"'\n"
        ));
        assert!(said.contains("has a quotation mark"), "{said}");
        assert!(said.contains("avocado.yaml:5:"), "{said}");
    }
}

/// A carriage return ends a line of YAML, alone or before a line feed: the source line that is
/// shown is the one that the number counts.
#[test]
fn every_line_end_counts_once() {
    let site = Site::new();
    let before = "# of many hands\rdistro: {release: 2024, channel: edge}\r\n";
    for (after, place, line) in [
        ("relese: 1\r", "3:1", "3 | relese: 1"),
        ("sdk:\r  imag: x\r\r", "4:3", "4 |   imag: x"),
        (
            "sdk:\n  image: |\r\r\n    {{ env.X\n",
            "6:5",
            "6 |     {{ env.X",
        ),
        ("a: [\r\tb: c\r", "4:", "4 |     b: c"),
        ("a: {{ env.X }}\r", "3:", "3 | a: {{ env.X }}"),
    ] {
        let said = site.said(format!("{before}{after}"));
        let shown = said.lines().nth(3).unwrap_or_default().trim();
        assert!(said.contains(&format!("avocado.yaml:{place}")), "{said}");
        assert_eq!(shown, line, "{said}");
    }
    let said = site.said(b"distro: {}\r# \xff\n");
    assert!(said.contains("avocado.yaml:2:3"), "{said}");
}
