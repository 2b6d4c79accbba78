//! Root file systems, initial RAM file systems and kernels that another project states.

mod common;

use avocado_project::{Filesystem, KernelOrigin, OsImageConfig, Project};
use common::Site;

fn write(site: &Site, path: &str, text: &str) {
    let path = site.dir.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn loaded(site: &Site, yaml: &str) -> Project {
    let loaded = site.load(yaml).unwrap();
    assert_eq!(loaded.warnings, []);
    loaded.project
}

fn packages(os: &OsImageConfig) -> Vec<&str> {
    os.packages.template().keys().map(String::as_str).collect()
}

#[test]
fn a_section_is_filled_with_what_the_other_project_says_of_it() {
    let site = Site::new();
    write(
        &site,
        "os/avocado.yaml",
        "
distro: {release: not-taken}
sdk: {compile: {kernel: {compile: k.sh}, other: {compile: o.sh}}}
permissions: {dev: {users: {root: {password: ''}}}}
rootfs:
  filesystem: erofs-zst
  dependencies: {of-os: '*'}
  overlay: files
  post_install: hook.sh
  permissions: dev
  target-qemux86-64: {packages: {for-target: '*'}}
initramfs:
  small: {packages: {small: '*'}}
  default: {packages: {usual: '*'}}
kernel: {compile: kernel, install: i.sh}
",
    );
    let yaml = "
rootfs: {source: {type: path, path: os}, filesystem: squashfs}
initramfs:
  small: {source: {type: path, path: os}}
  other: {source: {type: path, path: os}}
kernel: {source: {type: path, path: os}}
runtimes:
  a: {initramfs: small}
  b: {initramfs: other}
";
    let project = loaded(&site, yaml);
    let (_, rootfs) = &project.rootfs[0];
    // What the project says itself comes first.
    assert_eq!(rootfs.filesystem, Filesystem::Squashfs);
    assert_eq!(packages(rootfs), ["for-target", "of-os"]);
    assert_eq!(rootfs.permissions.as_ref().unwrap().users.len(), 1);
    let os = site.dir.path().join("os");
    for place in [
        &rootfs.overlay.as_ref().unwrap().place,
        &rootfs.post_install.as_ref().unwrap().place,
    ] {
        let source = project.source_of_file(&place.file).unwrap();
        assert_eq!(source.fetched_to.as_ref(), Some(&os));
    }
    assert_eq!(project.source_of_file(&project.config_path), None);
    let initramfs = project.initramfs.iter().map(|(_, os)| packages(os));
    assert_eq!(initramfs.collect::<Vec<_>>(), [["small"], ["usual"]]);
    let kernel = project.runtimes[0].kernel.as_ref().unwrap();
    assert!(matches!(kernel.origin, KernelOrigin::Compiled { .. }));
    let sections = project.sdk.compile.iter().map(|s| s.name.as_str());
    assert_eq!(sections.collect::<Vec<_>>(), ["kernel"]);
    assert!(project.extensions.is_empty());
}

#[test]
fn a_section_that_is_not_here_stops_nothing_yet() {
    let site = Site::new();
    let yaml = "
rootfs: {source: {type: git, url: 'https://example.org/os', ref: main}}
initramfs: {source: {type: path, path: ../nowhere}}
kernel: {source: {type: package, package: kernel-project, version: '*'}}
runtimes: {dev: {}}
";
    let project = loaded(&site, yaml);
    let places = [
        project.rootfs[0].1.not_fetched.as_ref(),
        project.initramfs[0].1.not_fetched.as_ref(),
        project.runtimes[0]
            .kernel
            .as_ref()
            .unwrap()
            .not_fetched
            .as_ref(),
    ];
    let columns = places.map(|place| (place.unwrap().line, place.unwrap().column));
    assert_eq!(columns, [(2, 18), (3, 21), (4, 18)]);
    let sources = project.sources.iter();
    let sources: Vec<String> = sources
        .map(|s| s.section.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(sources, ["`rootfs`", "`initramfs`", "`kernel`"]);
}

#[test]
fn what_is_wrong_with_the_source_of_a_section_is_told_at_its_place() {
    let site = Site::new();
    write(&site, "none/avocado.yaml", "sdk: {}\n");
    write(
        &site,
        "chain/avocado.yaml",
        "kernel: {version: 6.6.*}\nrootfs:\n  source: {type: path, path: ../os}\n",
    );
    write(&site, "typo/avocado.yaml", "rootfs:\n  filesystem: erfs\n");
    std::fs::create_dir(site.dir.path().join("empty")).unwrap();
    let cases = [
        ("no type", "rootfs: {source: {path: x}}\n"),
        (
            "no package",
            "kernel: {source: {type: package, version: '*'}}\n",
        ),
        ("no path", "rootfs: {a: {source: {type: path}}}\n"),
        (
            "program",
            "rootfs: {source: {type: git, url: 'ext::sh -c id'}}\n",
        ),
        ("not there", "rootfs: {source: {type: path, path: none}}\n"),
        (
            "no project",
            "rootfs: {source: {type: path, path: empty}}\n",
        ),
        ("chain", "rootfs: {source: {type: path, path: chain}}\n"),
        (
            "wrong in the other",
            "rootfs: {source: {type: path, path: typo}}\n",
        ),
        (
            "in a runtime",
            "runtimes: {dev: {rootfs: {source: {type: path, path: os}}, kernel: {source: {type: path, path: os}}}}\n",
        ),
        (
            "name of an extension",
            "rootfs: {source: {type: path, path: empty}}\nextensions: {rootfs~default: {version: 1.0.0}}\n",
        ),
    ];
    insta::assert_snapshot!(common::table(&site, &cases));
}
