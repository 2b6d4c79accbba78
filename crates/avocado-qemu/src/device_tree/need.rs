//! Where idle states are worth it.

use super::version::QemuVersion;
use crate::spec::{Accelerator, Architecture, MachineSpec};

/// The first version with the regression: the development towards 11.0.
const BROKEN: QemuVersion = QemuVersion(10, 2, 50);
/// The first that certainly or probably is without: the fix came after 11.0.0, and which of the
/// later 11.0 have it is not known for sure. Users of those can choose for themselves.
const REPAIRED: QemuVersion = QemuVersion(11, 0, 1);

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdleStatesChoice {
    /// Idle states where they help.
    #[default]
    Automatic,
    /// Idle states whatever the QEMU, and even where a TPM disappears. For arm64 guests only.
    Always,
    /// Never idle states.
    Never,
}

/// What is known before QEMU is asked for its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleStatesNeed {
    No,
    Yes,
    /// If [`is_affected`].
    IfAffected,
}

pub(super) fn idle_states_need(spec: &MachineSpec, choice: IdleStatesChoice) -> IdleStatesNeed {
    match choice {
        // PSCI is ARM's.
        _ if spec.architecture != Architecture::Aarch64 => IdleStatesNeed::No,
        IdleStatesChoice::Never => IdleStatesNeed::No,
        IdleStatesChoice::Always => IdleStatesNeed::Yes,
        // The TPM is the one device of a `MachineSpec` that sits on the platform bus.
        IdleStatesChoice::Automatic if spec.tpm.is_some() => IdleStatesNeed::No,
        IdleStatesChoice::Automatic if spec.accelerator == Accelerator::Hvf => {
            IdleStatesNeed::IfAffected
        }
        IdleStatesChoice::Automatic => IdleStatesNeed::No,
    }
}

/// Whether this QEMU does not sleep when the guest waits.
pub(super) fn is_affected(version: QemuVersion) -> bool {
    (BROKEN..REPAIRED).contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_helps_and_takes_nothing_away() {
        use Accelerator::{Hvf, Kvm, Tcg};
        use Architecture::{Aarch64, X86_64};
        use IdleStatesChoice::{Always, Automatic, Never};
        for (architecture, accelerator, tpm, choice, verdict) in [
            (Aarch64, Hvf, false, Automatic, IdleStatesNeed::IfAffected),
            (Aarch64, Hvf, true, Automatic, IdleStatesNeed::No),
            (Aarch64, Kvm, false, Automatic, IdleStatesNeed::No),
            (Aarch64, Tcg, false, Automatic, IdleStatesNeed::No),
            (X86_64, Hvf, false, Automatic, IdleStatesNeed::No),
            (Aarch64, Hvf, false, Never, IdleStatesNeed::No),
            (Aarch64, Hvf, true, Always, IdleStatesNeed::Yes),
            (Aarch64, Tcg, false, Always, IdleStatesNeed::Yes),
            (X86_64, Hvf, false, Always, IdleStatesNeed::No),
        ] {
            let spec = MachineSpec {
                architecture,
                accelerator,
                tpm: tpm.then(|| crate::tpm::SoftwareTpm {
                    binary: "/swtpm".into(),
                    directory: "/tpm".into(),
                }),
                ..super::super::tests::spec("qemu".as_ref())
            };
            let case = (architecture, accelerator, tpm, choice);
            assert_eq!(super::idle_states_need(&spec, choice), verdict, "{case:?}");
        }
    }

    #[test]
    fn versions_with_the_regression() {
        for (version, affected) in [
            (QemuVersion(9, 2, 4), false),
            (QemuVersion(10, 2, 2), false),
            (QemuVersion(10, 2, 50), true),
            (QemuVersion(10, 2, 91), true),
            (QemuVersion(11, 0, 0), true),
            (QemuVersion(11, 0, 1), false),
            (QemuVersion(11, 0, 50), false),
            (QemuVersion(11, 1, 0), false),
            (QemuVersion(12, 0, 0), false),
        ] {
            assert_eq!(is_affected(version), affected, "{version:?}");
        }
    }
}
