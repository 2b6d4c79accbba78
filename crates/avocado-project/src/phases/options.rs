use std::path::Path;

/// What a project is resolved for, and with.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// The avocado.yaml.
    pub config: &'a Path,
    /// What the avocado.yaml says, where that is not what is in the file (yet).
    pub text: Option<&'a str>,
    /// The target from the command line. It comes before `AVOCADO_TARGET`, which comes before
    /// `default_target`.
    pub target: Option<&'a str>,
    /// The environment: `AVOCADO_TARGET`, `AVOCADO_TARGET_BOARD`, `AVOCADO_RUNTIME`,
    /// `AVOCADO_REPO_URL`, `AVOCADO_SDK_REPO_URL`, `AVOCADO_RELEASEVER`,
    /// `AVOCADO_SDK_REPO_RELEASE`, `AVOCADO_DISTRO_RELEASE`, `AVOCADO_DISTRO_CHANNEL`,
    /// `AVOCADO_REPO_CA`, `AVOCADO_REPO_INSECURE`, `AVOCADO_REPO_USERNAME`,
    /// `AVOCADO_REPO_PASSWORD`, and what `{{ env.X }}` names. Options of the
    /// command line that take the place of a variable are answered here. An empty value counts
    /// as not set, except for `{{ env.X }}`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The version that `cli_requirement` is compared with, for example `0.41.0`.
    pub cli_version: &'a str,
}
