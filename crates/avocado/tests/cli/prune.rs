use crate::{Place, there};

const STATE: &str = ".avocado/state/qemux86-64";

#[test]
fn what_the_project_does_not_name_goes_when_it_is_not_only_asked_about() {
    let place = Place::new();
    place.run(&["init", "--target", "qemux86-64"]).ok();
    let none = place.run(&["prune"]).ok();
    assert_eq!(none.stderr, "Nothing to remove\n");
    let kept = format!("{STATE}/extensions/app/usr/bin/app");
    let repository = format!("{STATE}/output/runtimes/old/repository/metadata/1.root.json");
    let gone = format!("{STATE}/extensions/old/usr/bin/old");
    for file in [&kept, &repository, &gone] {
        place.write(file, "x");
    }
    let would = place.run(&["prune", "--dry-run"]).ok();
    let mut row = would.stdout.lines().nth(1).unwrap().split_whitespace();
    assert!(
        row.next().unwrap().ends_with("extensions/old"),
        "{}",
        would.stdout
    );
    assert!(would.stdout.contains("extension `old` is gone"));
    assert!(would.stderr.contains("Would free "), "{}", would.stderr);
    assert!(there(place.path(&gone)));

    let json = place.run(&["prune", "--output", "json"]).ok().stdout;
    let complete: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(complete["removed"][0]["why"], "extension `old` is gone");
    assert_eq!(complete["dry_run"], false);
    assert!(complete["bytes"].as_u64().unwrap() > 0);
    assert!(!there(place.path(&format!("{STATE}/extensions/old"))));
    assert!(there(place.path(&kept)) && there(place.path(&repository)));
}
