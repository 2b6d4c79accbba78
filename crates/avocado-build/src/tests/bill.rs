//! Whether a bill is of the images, and not of what the project has become since.

use std::fs;

use avocado_events::{Cancel, Silent};

use super::fake_backend::FakeBackend;
use super::graphs::HELLO;
use super::test_project::TestProject;
use crate::bill::{BillBackends, BillScope, bill_on};
use crate::error::BuildError;
use crate::goal::Goal;

/// How many images are in the bill of `scope`.
fn images_in_bill(project: &TestProject, scope: &BillScope) -> Result<usize, BuildError> {
    let backend = || Box::new(FakeBackend::new(&project.options.project));
    let backends = BillBackends {
        reads: backend(),
        asks: backend(),
    };
    let bill = bill_on(&project.options, backends, scope, &Cancel::new(), &Silent)?;
    Ok(bill.images.len())
}

fn refused_for(project: &TestProject, scope: &BillScope) -> String {
    match images_in_bill(project, scope).unwrap_err() {
        BuildError::BillOfOutdated { stage, .. } => stage,
        other => panic!("{other}"),
    }
}

#[test]
fn images_of_other_packages_than_are_installed_have_no_bill() {
    let project = TestProject::new(HELLO);
    let runtime = BillScope::Runtime("dev".parse().unwrap());
    let extension = BillScope::Extension("hello".parse().unwrap());
    project.build();
    assert_eq!(images_in_bill(&project, &runtime).unwrap(), 2);
    assert_eq!(images_in_bill(&project, &extension).unwrap(), 1);

    let lock = fs::read_to_string(project.path("avocado.lock")).unwrap();
    let hello = lock.find("\"hello\": {").unwrap();
    let (before, after) = lock.split_at(hello);
    let pinned = before.to_owned() + &after.replacen("1-r0.all", "2-r0.all", 1);
    project.write("avocado.lock", &pinned);
    // Locked, and not installed yet.
    assert_eq!(refused_for(&project, &runtime), "ext install hello");
    assert_eq!(refused_for(&project, &extension), "ext install hello");
    let mut backend = FakeBackend::new(&project.options.project);
    backend.header = "2";
    project.run_on(backend, &Goal::Install).unwrap();
    // Installed, and in no image yet.
    assert_eq!(refused_for(&project, &runtime), "ext build hello");
    assert_eq!(refused_for(&project, &extension), "ext build hello");
    project.build();
    assert_eq!(images_in_bill(&project, &runtime).unwrap(), 2);
    assert_eq!(images_in_bill(&project, &extension).unwrap(), 1);

    // What the images do not have makes no difference, and what tells their files apart does.
    project.write("seed.txt", "another\n");
    assert_eq!(images_in_bill(&project, &runtime).unwrap(), 2);
    fs::remove_file(project.path("overlay/app/etc/app.conf")).unwrap();
    assert_eq!(refused_for(&project, &runtime), "ext build hello-config");
    // The other extension is what it was.
    assert_eq!(images_in_bill(&project, &extension).unwrap(), 1);
}
