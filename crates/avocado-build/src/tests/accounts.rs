//! The users and groups of an extension, the old place for them.

use super::test_project::TestProject;
use crate::goal::Goal;

#[test]
fn users_of_an_extension_follow_it_and_its_rootfs() {
    let mut project = TestProject::new(
        "default_target: t\n\
         distro: {release: '2024', channel: edge}\n\
         rootfs: {overlay: overlay/app, permissions: {users: {pi: {uid: 1500}}}}\n\
         extensions: {config: {version: 1.0.0, types: [confext], users: {root: {password: ''}}}}\n",
    );
    let built = |project: &TestProject| {
        let config = Goal::ExtImage(Some("config".parse().unwrap()));
        project.run(&config).unwrap().ran
    };
    let both = ["ext build config", "ext image config"];
    assert_eq!(
        built(&project),
        ["sdk install", "rootfs install", both[0], both[1]]
    );
    assert_eq!(built(&project), [""; 0]);
    project.edit("password: ''", "password: x");
    assert_eq!(built(&project), both);
    project.edit("uid: 1500", "uid: 1501");
    assert_eq!(built(&project), both);
    project.write("overlay/app/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    assert_eq!(built(&project), both);
    // A sysext has no /etc to put them into.
    project.edit("types: [confext]", "types: [sysext]");
    built(&project);
    project.edit("uid: 1501", "uid: 1502");
    assert_eq!(built(&project), [""; 0]);
}
