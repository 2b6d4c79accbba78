//! Tables.

use crate::safe::escape;

/// Between two columns.
const GAP: usize = 2;

/// A table with a line of headings. Each cell is [escaped](escape). With a `width`, in columns of
/// the terminal, no line is longer: the widest columns are cut, and end with `…`.
pub fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    width: Option<usize>,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(headings.map(str::to_owned))
        .chain(rows)
        .map(|row| row.map(|cell| escape(&cell)))
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    if let Some(width) = width {
        shrink(&mut widths, width);
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{:<width$}", cut(cell, width)))
            .collect();
        text.push_str(cells.join(&" ".repeat(GAP)).trim_end());
        text.push('\n');
    }
    text
}

/// Takes from the widest columns what is more than fits.
fn shrink(widths: &mut [usize], width: usize) {
    let room = width.saturating_sub(GAP * widths.len().saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 1 => *widest -= 1,
            // One column each is the least.
            _ => return,
        }
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
        cells.map(str::to_owned)
    }

    #[test]
    fn tables_line_up() {
        let rows = [row(["a", "1"]), row(["longer", ""])];
        assert_eq!(
            table(["NAME", "N"], rows, None),
            "NAME    N\na       1\nlonger\n"
        );
        assert_eq!(table(["A"], [], Some(80)), "A\n");
    }

    #[test]
    fn a_cell_is_one_line_and_harmless() {
        let text = table(["NAME", "N"], [row(["a\nb\u{202e}", "1"])], None);
        assert_eq!(text, "NAME          N\na\\nb\\u{202e}  1\n");
    }

    #[test]
    fn the_widest_columns_are_cut() {
        let long = |n: usize| "x".repeat(n);
        let rows = [[long(200), long(5), long(90)], [long(1), long(2), long(3)]];
        let text = table(["A", "B", "C"], rows, Some(80));
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(
            text.contains("  xxxxx  "),
            "short columns are left alone: {text}"
        );
        assert_eq!(
            table(["A", "B"], [row(["abc", "abc"])], Some(3)),
            "A  B\n…  …\n"
        );
    }
}
