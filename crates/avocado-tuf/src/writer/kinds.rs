use crate::delegation::matches;

/// What a published file is. A runtime's role may speak about every kind, whether it publishes one
/// today or not: devices then need no new delegation for what comes tomorrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// The runtime's manifest, `manifest.json`.
    Manifest,
    /// An image of the pool, `*.raw`.
    Image,
    /// A bundle with an OS, `*.aos`.
    OsBundle,
    /// An index of the chunks of another target, `*.chunks`.
    ChunkIndex,
    /// A signed statement of how the others were made, `*.intoto.jsonl`. Our agent does not fetch it;
    /// published ones fetch every target.
    Attestation,
}

impl TargetKind {
    /// Every kind, in the order in which delegations name them.
    pub const ALL: [TargetKind; 5] = [
        TargetKind::Manifest,
        TargetKind::Image,
        TargetKind::OsBundle,
        TargetKind::ChunkIndex,
        TargetKind::Attestation,
    ];

    /// The pattern that the names of this kind match, as delegations write it.
    pub const fn pattern(self) -> &'static str {
        match self {
            TargetKind::Manifest => "manifest.json",
            TargetKind::Image => "*.raw",
            TargetKind::OsBundle => "*.aos",
            TargetKind::ChunkIndex => "*.chunks",
            TargetKind::Attestation => "*.intoto.jsonl",
        }
    }

    /// The kind of the target `name`; none where no delegation would cover it.
    pub fn of(name: &str) -> Option<Self> {
        TargetKind::ALL
            .into_iter()
            .find(|kind| matches(kind.pattern(), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        for (name, kind) in [
            ("manifest.json", Some(TargetKind::Manifest)),
            ("a.raw", Some(TargetKind::Image)),
            ("a.aos", Some(TargetKind::OsBundle)),
            ("a.raw.chunks", Some(TargetKind::ChunkIndex)),
            ("provenance.intoto.jsonl", Some(TargetKind::Attestation)),
            ("other.json", None),
            ("other.jsonl", None),
            ("raw", None),
            ("a/b.raw", None),
            ("a.raw.gz", None),
        ] {
            assert_eq!(TargetKind::of(name), kind, "{name}");
        }
    }
}
