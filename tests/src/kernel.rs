//! What the kernel counts of a process. All of it is there until the process is waited for, but
//! for its memory, which goes with its end.

use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::HarnessError;
use crate::error::file;

/// Memory that is in use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Now (`VmRSS`).
    pub resident: u64,
    /// At most so far (`VmHWM`).
    pub peak: u64,
}

/// Bytes that were moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessIo {
    /// By `read` and its like, from files, pipes and terminals, cached or not (`rchar`). What
    /// `recv` takes from a socket is not among it.
    pub read: u64,
    /// By `write` and its like (`wchar`).
    pub written: u64,
    /// From the disk (`read_bytes`).
    pub from_disk: u64,
    /// To the disk, now or later (`write_bytes`).
    pub to_disk: u64,
}

/// What a process did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessWork {
    /// Time on a CPU, of all its threads that still live.
    pub cpu: Duration,
    /// How often one of them was woken up, or had to make way.
    pub switches: u64,
}

/// The memory of a process.
///
/// # Errors
/// There is no such process, or it has ended.
pub fn memory(process: u32) -> Result<Memory, HarnessError> {
    let fields = Fields::read(process, "status")?;
    Ok(Memory {
        resident: fields.get::<u64>("VmRSS")? * 1024,
        peak: fields.get::<u64>("VmHWM")? * 1024,
    })
}

/// The bytes that a process moved, with the children that it waited for.
///
/// # Errors
/// There is no such process.
pub fn io(process: u32) -> Result<ProcessIo, HarnessError> {
    let fields = Fields::read(process, "io")?;
    Ok(ProcessIo {
        read: fields.get("rchar")?,
        written: fields.get("wchar")?,
        from_disk: fields.get("read_bytes")?,
        to_disk: fields.get("write_bytes")?,
    })
}

/// What a process did.
///
/// # Errors
/// There is no such process.
pub fn work(process: u32) -> Result<ProcessWork, HarnessError> {
    let path = format!("/proc/{process}/task");
    let mut work = ProcessWork::default();
    for task in fs::read_dir(&path).map_err(file("read", &path))?.flatten() {
        let name = task.file_name();
        let place = format!("{process}/task/{}", name.display());
        let (Ok(times), Ok(fields)) = (
            fs::read_to_string(format!("/proc/{place}/schedstat")),
            Fields::read(&place, "status"),
        ) else {
            // This thread is over.
            continue;
        };
        let time = times.split(' ').next().unwrap_or_default();
        work.cpu += Duration::from_nanos(parsed(time, &path)?);
        work.switches += fields.get::<u64>("voluntary_ctxt_switches")?;
        work.switches += fields.get::<u64>("nonvoluntary_ctxt_switches")?;
    }
    Ok(work)
}

/// Lines of the form `name: value` with or without a unit.
struct Fields {
    path: String,
    text: String,
}

impl Fields {
    fn read(process: impl std::fmt::Display, name: &str) -> Result<Self, HarnessError> {
        let path = format!("/proc/{process}/{name}");
        let text = fs::read_to_string(&path).map_err(file("read", &path))?;
        Ok(Fields { path, text })
    }

    fn get<T: FromStr>(&self, name: &str) -> Result<T, HarnessError> {
        let mut lines = self.text.lines().filter_map(|line| line.split_once(':'));
        let value = lines.find(|(key, _)| *key == name).map(|(_, value)| value);
        let number = value.and_then(|value| value.split_whitespace().next());
        parsed(number.unwrap_or_default(), &self.path)
    }
}

fn parsed<T: FromStr>(number: &str, path: &str) -> Result<T, HarnessError> {
    let wrong =
        |_| file("understand", Path::new(path))(io::Error::from(io::ErrorKind::InvalidData));
    number.parse().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_counted() {
        let me = std::process::id();
        let before = io(me).unwrap();
        let ballast = vec![1u8; 64 << 20];
        let file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut &file, &ballast).unwrap();
        let after = io(me).unwrap();
        assert!(after.written - before.written >= 64 << 20);
        let Memory { resident, peak } = memory(me).unwrap();
        assert!(
            peak >= resident && resident >= 64 << 20,
            "{resident} {peak}"
        );
        assert!(work(me).unwrap().cpu > Duration::ZERO);
        assert!(memory(u32::MAX).is_err());
    }
}
