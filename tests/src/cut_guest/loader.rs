//! The environment of U-Boot, as U-Boot reads it at its start: of two copies the newest one that is whole.

/// Where both copies are, for the programs in the guest.
pub(super) const CONFIG: &str = "/dev/environment 0x0 0x2000\n/dev/environment 0x2000 0x2000\n";

/// The size of a copy, and of the disk that they are on, in bytes.
const COPY: usize = 0x2000;
const DISK: usize = 1 << 17;

/// The variable that says which slot is started.
const VARIABLE: &str = "slot";

/// Neither copy is whole: a board like this does not start any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("both copies of the boot loader's environment are torn")]
pub struct LostEnvironment;

/// The content of a disk with an environment that starts a slot. Its second copy is of another time.
pub fn environment(slot: &str) -> Vec<u8> {
    let mut disk = Vec::new();
    for count in [2, 1] {
        let mut variables = format!("upgrade_available=0\0{VARIABLE}={slot}\0\0").into_bytes();
        variables.resize(COPY - 5, 0);
        disk.extend(crc32(&variables).to_le_bytes());
        disk.push(count);
        disk.extend(variables);
    }
    disk.resize(DISK, 0);
    disk
}

/// The slot that is started with the environment on this disk.
///
/// # Errors
/// [`LostEnvironment`]
pub fn started_slot(disk: &[u8]) -> Result<String, LostEnvironment> {
    let copy = |number: usize| {
        let copy = disk.get(number * COPY..(number + 1) * COPY)?;
        let (sum, rest) = copy.split_first_chunk()?;
        let (count, variables) = rest.split_first()?;
        (u32::from_le_bytes(*sum) == crc32(variables)).then_some((*count, variables))
    };
    let variables = match (copy(0), copy(1)) {
        (Some((first, a)), Some((second, b))) => {
            // The counter begins again after 255.
            let second_is_newer = match (first, second) {
                (255, 0) => true,
                (0, 255) => false,
                (first, second) => second > first,
            };
            if second_is_newer { b } else { a }
        }
        (Some((_, one)), None) | (None, Some((_, one))) => one,
        (None, None) => return Err(LostEnvironment),
    };
    let variables = variables
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy);
    let mut pairs = variables.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name == VARIABLE).then(|| value.to_owned())
    });
    pairs.next().ok_or(LostEnvironment)
}

/// The CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let of_byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(u32::MAX, of_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_copy_that_is_whole_is_started_with() {
        let mut disk = environment("a");
        assert_eq!(started_slot(&disk).as_deref(), Ok("a"));
        let newer = environment("b");
        // What a program writes is the other copy, with a higher count.
        disk[COPY..2 * COPY].copy_from_slice(&newer[..COPY]);
        disk[4] = 1;
        assert_eq!(started_slot(&disk).as_deref(), Ok("b"));
        disk[COPY + 100] ^= 1;
        assert_eq!(started_slot(&disk).as_deref(), Ok("a"));
        (disk[4], disk[COPY + 4]) = (255, 0);
        disk[COPY + 100] ^= 1;
        assert_eq!(started_slot(&disk).as_deref(), Ok("b"));
        disk[7] ^= 1;
        disk[COPY + 7] ^= 1;
        assert_eq!(started_slot(&disk), Err(LostEnvironment));
    }
}
