use std::collections::BTreeMap;

/// Package name → requested version: `*` or an exact `version-release[.arch]`.
///
/// What a project asks for is [`Late`](crate::late::Late): a name may have the version of the kernel in it.
pub type Packages = BTreeMap<String, String>;
