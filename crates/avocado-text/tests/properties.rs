//! What holds for any text and any number.
#![allow(missing_docs)]

use std::time::Duration;

use avocado_text::{bytes, duration, escape, escape_lines, is_unsafe, strip, table};
use proptest::prelude::*;

/// Any text, with many of the characters that matter.
fn text() -> impl Strategy<Value = String> {
    let tricky = prop::sample::select(vec![
        '\u{1b}', '[', ';', 'm', '\r', '\n', '\t', '\u{9b}', '\u{202e}', '\u{200b}', '\u{2028}',
        'x',
    ]);
    let any = prop_oneof![3 => tricky, 1 => any::<char>()];
    prop::collection::vec(any, 0..40).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn nothing_unsafe_is_left(text in text()) {
        prop_assert!(!strip(&text).contains(is_unsafe));
        prop_assert!(!escape(&text).contains(is_unsafe));
        prop_assert!(!escape_lines(&text).contains(|c| c != '\n' && is_unsafe(c)));
    }

    #[test]
    fn what_is_safe_stays_as_it_is(text in text()) {
        let safe: String = text.chars().filter(|c| !is_unsafe(*c)).collect();
        prop_assert_eq!(strip(&safe), safe.clone());
        prop_assert_eq!(escape(&safe), safe);
    }

    #[test]
    fn once_is_enough(text in text()) {
        prop_assert_eq!(escape(&escape(&text)), escape(&text));
        prop_assert_eq!(strip(&strip(&text)), strip(&text));
    }

    #[test]
    fn tables_fit(
        rows in prop::collection::vec([text(), text(), text()], 0..8),
        width in 7usize..120,
    ) {
        let lines = rows.len() + 1;
        let text = table(["A", "LONGER", "C"], rows, Some(width));
        prop_assert_eq!(text.lines().count(), lines);
        for line in text.lines() {
            prop_assert!(line.chars().count() <= width, "{} > {}", line, width);
            prop_assert!(!line.contains(is_unsafe));
        }
    }

    #[test]
    fn an_amount_says_its_bytes(count in prop_oneof![any::<u64>(), 0..1u64 << 45]) {
        let text = bytes(count);
        let (number, unit) = text.split_once(' ').unwrap();
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let power = units.iter().position(|u| *u == unit).unwrap();
        let number: f64 = number.parse().unwrap();
        prop_assert!(number < 1024.0 || unit == "PiB", "{}", text);
        let size = 1024f64.powi(i32::try_from(power).unwrap());
        prop_assert!((number * size - count as f64).abs() <= size * 0.0501, "{}: {}", count, text);
    }

    #[test]
    fn a_duration_has_a_unit(millis in any::<u64>()) {
        let text = duration(Duration::from_millis(millis));
        prop_assert!(text.ends_with(" s") || text.ends_with(" min"), "{}", text);
    }
}
