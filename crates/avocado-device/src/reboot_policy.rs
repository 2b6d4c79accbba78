//! When the device reboots by itself: the value of `avocado.update.reboot`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// When the device reboots by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RebootPolicy {
    /// Never: those who manage it do that.
    Never,
    /// When an OS update has not proven itself: the slot before is started again.
    #[default]
    Rollback,
    /// Then, and when an OS update is written.
    Now,
    /// As `Rollback`, and after an OS update was written, at the next time of this calendar event.
    At(CalendarEvent),
}

/// A time as systemd has it (`OnCalendar=`), for example `03:00` or `Sun *-*-* 02:30`. Which times there are
/// is known to systemd alone: this has nothing but characters that such an expression can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarEvent(String);

/// A text is no time and no time of reboots. The message says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RebootPolicyError(String);

impl CalendarEvent {
    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CalendarEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CalendarEvent {
    type Err = RebootPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim_matches(' ');
        if text.is_empty() {
            let why = "after `at` comes a time, for example `at 03:00` or `at Sun *-*-* 02:30`";
            return Err(RebootPolicyError(why.to_owned()));
        }
        // The names of days and time zones, and the signs of systemd.time(7).
        let allowed = |c: char| c.is_ascii_alphanumeric() || " *-:/.,~+_@".contains(c);
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            return Err(RebootPolicyError(format!(
                "{text:?} is no time: no calendar event of systemd has {other:?} in it"
            )));
        }
        Ok(CalendarEvent(text.to_owned()))
    }
}

impl FromStr for RebootPolicy {
    type Err = RebootPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" => Ok(RebootPolicy::Never),
            "rollback" => Ok(RebootPolicy::Rollback),
            "now" => Ok(RebootPolicy::Now),
            _ => match text.strip_prefix("at") {
                Some(time) if time.is_empty() || time.starts_with(' ') => {
                    time.parse().map(RebootPolicy::At)
                }
                _ => Err(RebootPolicyError(format!(
                    "{text:?} is none of `never`, `rollback`, `now` and `at TIME`"
                ))),
            },
        }
    }
}

impl<'de> Deserialize<'de> for RebootPolicy {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let text = String::deserialize(value)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_has_its_word() {
        let at = |time: &str| RebootPolicy::At(CalendarEvent(time.to_owned()));
        for (text, policy) in [
            ("never", RebootPolicy::Never),
            ("rollback", RebootPolicy::Rollback),
            ("now", RebootPolicy::Now),
            ("at 03:00", at("03:00")),
            ("at  Sun *-*-* 02:30 ", at("Sun *-*-* 02:30")),
            (
                "at Mon..Fri *-*~1/2 3,5:00:00 America/New_York",
                at("Mon..Fri *-*~1/2 3,5:00:00 America/New_York"),
            ),
            ("at 3:00 Etc/GMT+5", at("3:00 Etc/GMT+5")),
        ] {
            assert_eq!(text.parse(), Ok(policy), "{text}");
        }
    }

    #[test]
    fn what_is_no_policy_is_told() {
        let told = |text: &str| text.parse::<RebootPolicy>().unwrap_err().to_string();
        for text in ["", "at03:00", "At 03:00", "atlas", "later", "never "] {
            assert!(told(text).contains("is none of `never`"), "{text:?}");
        }
        for text in ["at", "at ", "at   "] {
            assert!(told(text).contains("after `at` comes a time"), "{text:?}");
        }
        for text in [
            "at 03:00\nPersistent=true",
            "at 03:00\t",
            "at %h",
            "at 03:00 \\",
            "at 03:00;",
            "at 03:00\u{a0}",
            "at $(reboot)",
        ] {
            assert!(told(text).contains("no calendar event"), "{text:?}");
        }
    }
}
