//! The sample project on a machine with UEFI, for which the sample feed has what a board's BSP has.

use avocado_testbed::project::TestProject;

/// Lets the project have a disk that boots and takes updates of its OS.
pub(crate) fn on_a_board(project: &TestProject) {
    let yaml = project.read("avocado.yaml").unwrap();
    let changed = yaml
        .replace(
            "    avocado-sdk-toolchain: \"*\"\n",
            "    avocado-sdk-toolchain: \"*\"\n    avocado-bsp-qemux86-64: \"*\"\n",
        )
        .replace(
            "    kernel-image: \"*\"\n",
            "    kernel-image: \"*\"\n    avocado-efi-boot: \"*\"\n    avocado-vm-guest: \"*\"\n",
        );
    assert_eq!(changed.lines().count(), yaml.lines().count() + 3);
    project.write("avocado.yaml", &changed).unwrap();
}
