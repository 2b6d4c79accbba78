use serde::Serialize;

use crate::place::Placed;

/// The var partition of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VarPartition {
    /// `compression`, for example `zstd`.
    pub compression: Option<String>,
    /// `subvolumes`.
    pub subvolumes: Vec<Subvolume>,
}

/// A subvolume of the var partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subvolume {
    /// Where it is, relative to /var.
    pub path: Placed<String>,
    /// False: it is not made.
    pub enabled: bool,
    /// False: it is read-only.
    pub writable: bool,
    /// `compression`, where it has its own.
    pub compression: Option<String>,
    /// `nodatacow`.
    pub nodatacow: bool,
    /// `quota`, as it is written.
    pub quota: Option<String>,
}
