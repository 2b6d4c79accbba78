//! What is installed into the SDK.

use super::test_project::TestProject;

#[test]
fn extensions_of_the_runtimes_add_to_the_sdk() {
    let project = TestProject::new(
        "default_target: t\n\
         sdk: {packages: {both: 1.0-r0}}\n\
         runtimes: {dev: {extensions: [app]}}\n\
         extensions:\n  \
           app: {version: 1.0.0, sdk: {packages: {nativesdk-cargo: '*', both: '*'}}}\n  \
           unused: {version: 1.0.0, sdk: {packages: {nativesdk-go: '*'}}}\n",
    );
    let packages = project.options.project.sdk_packages();
    let packages = packages.template().iter();
    let packages: Vec<(&str, &str)> = packages.map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(packages, [("both", "1.0-r0"), ("nativesdk-cargo", "*")]);
    project.build();
    let lock = std::fs::read_to_string(project.path("avocado.lock")).unwrap();
    assert!(lock.contains("nativesdk-cargo"), "{lock}");
    assert!(!lock.contains("nativesdk-go"), "{lock}");
}
