//! Files that are copied into a real guest and out of it.

use std::fs;

use crate::harness::{SOON, image, lock_qemu};
use crate::story::Story;

/// A name with everything that a shell, ssh or a pattern could take for something else.
const ODD: &str = "it's \"a\" $(touch pwned) `id` [x]* ? ~ \\ a:b ü";

#[test]
fn copies_go_both_ways_with_any_name_and_wake_the_guest() {
    let name = "copies_go_both_ways_with_any_name_and_wake_the_guest";
    let Some(image) = image(name) else { return };
    let _lock = lock_qemu();
    let story = Story::new(&image);
    story.start();
    let here = story.vm.scratch().join("files");
    let tree = here.join(ODD);
    fs::create_dir_all(&tree).unwrap();
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(tree.join(ODD), &bytes).unwrap();
    fs::write(here.join("-r"), "dash").unwrap();
    fs::create_dir(here.join("out")).unwrap();
    let copy = |paths: &[&str]| {
        let mut line = vec!["cp"];
        line.extend(paths);
        story.vm.vm(&line).directory(&here)
    };

    story.asleep();
    // Into the guest that it wakes, and out again.
    let odd = format!("guest:/var/{ODD}");
    copy(&["-r", ODD, &odd]).ok().unwrap();
    assert_eq!(story.status()["last_wake"]["reason"], "ssh");
    copy(&["--", "-r", "guest:/tmp"]).ok().unwrap();
    let back = format!("{odd}/{ODD}");
    copy(&[&back, "guest:/tmp/-r", "out"]).ok().unwrap();
    assert_eq!(fs::read(here.join("out").join(ODD)).unwrap(), bytes);
    copy(&["-r", &odd, "back"]).ok().unwrap();
    assert_eq!(fs::read(here.join("back").join(ODD)).unwrap(), bytes);
    assert_eq!(fs::read_to_string(here.join("out/-r")).unwrap(), "dash");
    assert!(!here.join("pwned").exists());
    // scp's own exit code, and its words.
    let missing = copy(&["guest:/nothing", "."]).run().unwrap();
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    story.vm.vm(&["stop"]).ok().unwrap();
    story.vm.gone(SOON).unwrap();
}
