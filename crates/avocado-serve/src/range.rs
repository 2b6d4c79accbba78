//! The `Range` header: which part of a file a client wants.

use std::ops::Range;

/// What a `Range` header asks for, given the file's length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RequestedRange {
    /// Everything: no header, one that is not understood, or several ranges at once.
    WholeFile,
    /// These bytes; never empty, never beyond the end.
    Bytes(Range<u64>),
    /// Bytes that the file does not have.
    BeyondEnd,
}

/// Reads `header` for a file of `length` bytes.
///
/// A header that is not understood is ignored, as HTTP says, so it never fails.
pub(crate) fn requested(header: Option<&str>, length: u64) -> RequestedRange {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return RequestedRange::WholeFile;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return RequestedRange::WholeFile;
    };
    let range = match (position(first), position(last)) {
        (Ok(None), Ok(Some(suffix))) => length.saturating_sub(suffix)..length,
        (Ok(Some(first)), Ok(None)) => first..length,
        (Ok(Some(first)), Ok(Some(last))) if first <= last => {
            first..last.saturating_add(1).min(length)
        }
        _ => return RequestedRange::WholeFile,
    };
    if range.is_empty() {
        RequestedRange::BeyondEnd
    } else {
        RequestedRange::Bytes(range)
    }
}

/// A position, absent when `text` is empty. Numbers beyond 64 bits count as the largest.
fn position(text: &str) -> Result<Option<u64>, ()> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    Ok((!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_their_meaning() {
        let part = RequestedRange::Bytes;
        for (header, length, expected) in [
            ("bytes=0-0", 10, part(0..1)),
            ("bytes=0-", 10, part(0..10)),
            ("bytes=3-5", 10, part(3..6)),
            ("bytes=3-500", 10, part(3..10)),
            ("bytes=-4", 10, part(6..10)),
            ("bytes=-400", 10, part(0..10)),
            ("bytes=9-9", 10, part(9..10)),
            ("bytes=10-", 10, RequestedRange::BeyondEnd),
            ("bytes=10-12", 10, RequestedRange::BeyondEnd),
            ("bytes=-0", 10, RequestedRange::BeyondEnd),
            ("bytes=0-", 0, RequestedRange::BeyondEnd),
            ("bytes=-1", 0, RequestedRange::BeyondEnd),
            ("bytes=2-99999999999999999999999", 10, part(2..10)),
            (
                "bytes=99999999999999999999999-",
                10,
                RequestedRange::BeyondEnd,
            ),
            ("bytes=5-3", 10, RequestedRange::WholeFile),
            ("bytes=-", 10, RequestedRange::WholeFile),
            ("bytes=", 10, RequestedRange::WholeFile),
            ("bytes=a-b", 10, RequestedRange::WholeFile),
            ("bytes=+1-2", 10, RequestedRange::WholeFile),
            ("bytes=0-1,3-4", 10, RequestedRange::WholeFile),
            ("lines=0-1", 10, RequestedRange::WholeFile),
            ("", 10, RequestedRange::WholeFile),
        ] {
            assert_eq!(
                requested(Some(header), length),
                expected,
                "{header} of {length}"
            );
        }
        assert_eq!(requested(None, 10), RequestedRange::WholeFile);
    }

    proptest::proptest! {
        #[test]
        fn a_part_is_inside_the_file(header in "(bytes=)?[0-9, -]{0,12}", length in 0_u64..50) {
            if let RequestedRange::Bytes(range) = requested(Some(&header), length) {
                assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
