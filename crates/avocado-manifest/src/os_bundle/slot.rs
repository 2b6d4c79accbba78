use std::fmt;

/// One of the two places that hold an operating system: one runs, the other one is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OsSlot {
    /// `a`, or `0`.
    First,
    /// `b`, or `1`.
    Second,
}

/// What the slots of a board are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotNaming {
    /// `a` and `b`.
    Letters,
    /// `0` and `1` (Tegra).
    Digits,
}

/// The kind of boot loader of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// `uboot-ab`, the default; `a-b` in published documentation.
    UbootAb,
    /// `sdboot-ab`: systemd-boot.
    SdbootAb,
    /// `mbr-ab`: the partition table is switched.
    MbrAb,
    /// `gpt-ab`
    GptAb,
    /// `tegra-ab`, whose slots are `0` and `1`.
    TegraAb,
    /// `rpi-tryboot`: the firmware of a Raspberry Pi.
    RpiTryboot,
}

/// Something for each slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BySlot<T> {
    /// For the slot `a` or `0`.
    pub first: T,
    /// For the slot `b` or `1`.
    pub second: T,
}

impl OsSlot {
    /// Both.
    pub const ALL: [OsSlot; 2] = [OsSlot::First, OsSlot::Second];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            OsSlot::First => OsSlot::Second,
            OsSlot::Second => OsSlot::First,
        }
    }
}

impl SlotNaming {
    /// The name of a slot.
    pub fn name(self, slot: OsSlot) -> &'static str {
        match (self, slot) {
            (SlotNaming::Letters, OsSlot::First) => "a",
            (SlotNaming::Letters, OsSlot::Second) => "b",
            (SlotNaming::Digits, OsSlot::First) => "0",
            (SlotNaming::Digits, OsSlot::Second) => "1",
        }
    }

    /// The slot of a name.
    pub fn slot(self, name: &str) -> Option<OsSlot> {
        OsSlot::ALL
            .into_iter()
            .find(|slot| self.name(*slot) == name)
    }

    /// The naming that a name of a slot is of.
    pub fn of(name: &str) -> Option<(Self, OsSlot)> {
        [SlotNaming::Letters, SlotNaming::Digits]
            .into_iter()
            .find_map(|naming| Some((naming, naming.slot(name)?)))
    }
}

impl UpdateStrategy {
    const ALL: [UpdateStrategy; 6] = [
        UpdateStrategy::UbootAb,
        UpdateStrategy::SdbootAb,
        UpdateStrategy::MbrAb,
        UpdateStrategy::GptAb,
        UpdateStrategy::TegraAb,
        UpdateStrategy::RpiTryboot,
    ];

    /// What it is called in a bundle.
    pub fn as_str(self) -> &'static str {
        match self {
            UpdateStrategy::UbootAb => "uboot-ab",
            UpdateStrategy::SdbootAb => "sdboot-ab",
            UpdateStrategy::MbrAb => "mbr-ab",
            UpdateStrategy::GptAb => "gpt-ab",
            UpdateStrategy::TegraAb => "tegra-ab",
            UpdateStrategy::RpiTryboot => "rpi-tryboot",
        }
    }

    /// The strategy of a name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "a-b" => Some(UpdateStrategy::UbootAb),
            name => Self::ALL.into_iter().find(|s| s.as_str() == name),
        }
    }

    /// What its slots are called.
    pub fn naming(self) -> SlotNaming {
        match self {
            UpdateStrategy::TegraAb => SlotNaming::Digits,
            _ => SlotNaming::Letters,
        }
    }
}

impl fmt::Display for UpdateStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<T> BySlot<T> {
    /// What a slot has.
    pub fn get(&self, slot: OsSlot) -> &T {
        match slot {
            OsSlot::First => &self.first,
            OsSlot::Second => &self.second,
        }
    }

    /// The slot that has this.
    pub fn find(&self, is: impl Fn(&T) -> bool) -> Option<OsSlot> {
        OsSlot::ALL.into_iter().find(|slot| is(self.get(*slot)))
    }
}
