//! Where idle states are worth it.

use super::Choice;
use super::version::Version;
use crate::{Accelerator, Architecture, Spec};

/// The first version with the regression: the development towards 11.0.
const BROKEN: Version = Version(10, 2, 50);
/// The first that certainly or probably is without: the fix came after 11.0.0, and which of the
/// later 11.0 have it is not known for sure. Users of those can choose for themselves.
const REPAIRED: Version = Version(11, 0, 1);

/// What is known before QEMU is asked for its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    No,
    Yes,
    /// If [`is_affected`].
    IfAffected,
}

pub(super) fn verdict(spec: &Spec, choice: Choice) -> Verdict {
    match choice {
        // PSCI is ARM's.
        _ if spec.architecture != Architecture::Aarch64 => Verdict::No,
        Choice::Never => Verdict::No,
        Choice::Always => Verdict::Yes,
        // The TPM is the one device of a `Spec` that sits on the platform bus.
        Choice::Automatic if spec.tpm.is_some() => Verdict::No,
        Choice::Automatic if spec.accelerator == Accelerator::Hvf => Verdict::IfAffected,
        Choice::Automatic => Verdict::No,
    }
}

/// Whether this QEMU does not sleep when the guest waits.
pub(super) fn is_affected(version: Version) -> bool {
    (BROKEN..REPAIRED).contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_helps_and_takes_nothing_away() {
        use Accelerator::{Hvf, Kvm, Tcg};
        use Architecture::{Aarch64, X86_64};
        use Choice::{Always, Automatic, Never};
        for (architecture, accelerator, tpm, choice, verdict) in [
            (Aarch64, Hvf, false, Automatic, Verdict::IfAffected),
            (Aarch64, Hvf, true, Automatic, Verdict::No),
            (Aarch64, Kvm, false, Automatic, Verdict::No),
            (Aarch64, Tcg, false, Automatic, Verdict::No),
            (X86_64, Hvf, false, Automatic, Verdict::No),
            (Aarch64, Hvf, false, Never, Verdict::No),
            (Aarch64, Hvf, true, Always, Verdict::Yes),
            (Aarch64, Tcg, false, Always, Verdict::Yes),
            (X86_64, Hvf, false, Always, Verdict::No),
        ] {
            let spec = Spec {
                architecture,
                accelerator,
                tpm: tpm.then(|| crate::Tpm {
                    binary: "/swtpm".into(),
                    directory: "/tpm".into(),
                }),
                ..super::super::tests::spec("qemu".as_ref())
            };
            let case = (architecture, accelerator, tpm, choice);
            assert_eq!(super::verdict(&spec, choice), verdict, "{case:?}");
        }
    }

    #[test]
    fn versions_with_the_regression() {
        for (version, affected) in [
            (Version(9, 2, 4), false),
            (Version(10, 2, 2), false),
            (Version(10, 2, 50), true),
            (Version(10, 2, 91), true),
            (Version(11, 0, 0), true),
            (Version(11, 0, 1), false),
            (Version(11, 0, 50), false),
            (Version(11, 1, 0), false),
            (Version(12, 0, 0), false),
        ] {
            assert_eq!(is_affected(version), affected, "{version:?}");
        }
    }
}
