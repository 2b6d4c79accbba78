//! Whether what was built is what a build from nothing makes.

mod common;

use std::fs::{self, File};

use avocado_testbed::tools::ToolCall;
use common::{Sandbox, cannot_build};

#[test]
fn a_planted_difference_is_found_and_its_file_named() {
    if cannot_build("a_planted_difference_is_found_and_its_file_named") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let lock = project.read("avocado.lock").unwrap();
    let verify = ["verify", "dev", "--rebuild"];
    let events = project.events(&verify).unwrap();
    let rebuilt = events.complete()["rebuilt"].as_array().unwrap().clone();
    assert_eq!(rebuilt.len(), 4, "{rebuilt:?}");
    assert!(
        rebuilt.iter().all(|image| image["same"] == true),
        "{rebuilt:?}"
    );
    let audit = [&verify[..], &["--audit", "1%"]].concat();
    let events = project.events(&audit).unwrap();
    assert_eq!(events.complete()["rebuilt"].as_array().unwrap().len(), 1);
    // It leaves nothing, and changes nothing.
    assert!(!project.directory().join(".avocado/rebuild").exists());
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
    assert_eq!(
        project.events(&["build"]).unwrap().steps("success"),
        [""; 0]
    );

    // As who has a key of the cache could have made it: for the stamp it is what was made.
    let image = project.state().join("output/extensions/hello-1.0.0.raw");
    let before = fs::metadata(&image).unwrap();
    let tree = sandbox.directory.path().join("tree");
    let unpack = ToolCall::new("unsquashfs").arg("-dest").arg(&tree);
    unpack.arg(&image).ok().unwrap();
    let planted = tree.join("usr/bin/hello-server");
    let mut bytes = fs::read(&planted).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&planted, bytes).unwrap();
    let pack = ToolCall::new("mksquashfs").arg(&tree).arg(&image);
    let pack = pack.args([
        "-noappend",
        "-all-root",
        "-quiet",
        "-no-progress",
        "-comp",
        "zstd",
    ]);
    pack.ok().unwrap();
    let file = File::options().write(true).open(&image).unwrap();
    assert!(file.metadata().unwrap().len() <= before.len());
    file.set_len(before.len()).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    drop(file);
    let said = project.avocado(&verify).run().unwrap();
    assert!(!said.status.success());
    let said = said.stderr;
    assert!(
        said.contains("1 of 4 images is not what a build from nothing makes"),
        "{said}"
    );
    assert!(said.contains("extension hello-1.0.0"), "{said}");
    assert!(said.contains("differs in usr/bin/hello-server"), "{said}");
}
